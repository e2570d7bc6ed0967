# SPDX-License-Identifier: Apache-2.0
"""What a command needs of the outside: the configuration, a core that answers, events.

Where the bus lives within one process and nobody else's core is in it, a core is started right
here: all cores are equal, so that cnsmo-manage works with nothing but the database.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnsmo.model.errors import InvalidRequest, SchemaMismatch

if TYPE_CHECKING:
    import sqlalchemy as sa
    from oslo_config import cfg

    from cnsmo.bus.clients import OperatorClient
    from cnsmo.bus.events import Watch
    from cnsmo.state.vault import Vault

_CONFIGURING = threading.Lock()


class Session:
    """Everything is made when it is first asked for, and ends with close()."""

    def __init__(self, config_arguments: Sequence[str], embed: bool) -> None:
        """config_arguments: --config-file and --config-dir as oslo.config takes them.

        embed: start a core here when the bus is in-process; False where one runs already.
        """
        self._arguments = list(config_arguments)
        self._embed = embed
        self._closing = contextlib.ExitStack()
        self._client: OperatorClient | None = None

    @property
    def conf(self) -> cfg.ConfigOpts:
        """The options; read once per process."""
        from oslo_config import cfg

        from cnsmo import __version__, conf

        with _CONFIGURING:
            if not hasattr(conf.CONF, "prog"):
                conf.register()
                try:
                    conf.CONF(
                        self._arguments, project="cnsmo", prog="cnsmo-manage", version=__version__
                    )
                except cfg.Error as exc:
                    raise InvalidRequest(f"configuration: {exc}") from exc
                self._arguments = []
        if self._arguments:
            raise InvalidRequest(
                f"{self._arguments[0]}: the process that runs this command has its configuration"
            )
        return conf.CONF

    @property
    def client(self) -> OperatorClient:
        """Asks the core."""
        if self._client is None:
            from cnsmo.bus import transport
            from cnsmo.bus.clients import OperatorClient
            from cnsmo.bus.knock import knock

            if not transport.is_in_process(self.conf):
                knock(self.conf)
            elif self._embed:
                self._start_core()
            self._client = OperatorClient(self.conf)
        return self._client

    def watch(self) -> Watch:
        """Receives events; a context manager.

        :raises InvalidRequest: when no event can ever come here.
        """
        from cnsmo.bus import transport
        from cnsmo.bus.events import Watch
        from cnsmo.bus.knock import knock

        if not transport.is_in_process(self.conf):
            knock(self.conf)
        elif self._embed:
            raise InvalidRequest(
                "the bus lives within one process ([bus] url is not set), so nothing that others "
                "do can be seen here: set [bus] url to the broker's, or start a lab"
            )
        return Watch(self.conf)

    def engine(self, patient: bool = False) -> sa.Engine:
        """The database itself, for the commands that look after it.

        patient: what is asked of it may take its time.
        """
        from cnsmo.state.engine import make_engine

        engine = make_engine(self.conf, patient)
        self._closing.callback(engine.dispose)
        return engine

    def vault(self) -> Vault:
        """The key that the database's secrets are sealed with; nothing is read yet."""
        from cnsmo.state.vault import vault_of

        self.database_file()  # a database that cannot be meant is told first
        return vault_of(self.conf)

    def database_file(self) -> Path | None:
        """The file of an SQLite database; None for other databases, and for one in memory."""
        import sqlalchemy as sa

        try:
            url = sa.make_url(self.conf.database.connection)
        except sa.exc.ArgumentError as exc:
            raise InvalidRequest(
                "[database] connection is no URL: write sqlite:////PATH, "
                "postgresql+psycopg://USER:PASSWORD@HOST/NAME or mysql+pymysql://..."
            ) from exc
        if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
            return None
        return Path(str(url.database))

    def require_database(self) -> None:
        """Refuse where a file-based database does not exist yet.

        :raises SchemaMismatch: telling how to make it.
        """
        path = self.database_file()
        if path is None:
            return
        try:
            there = path.exists()
        except OSError as exc:
            raise InvalidRequest(f"the database {path}: {exc.strerror}") from exc
        if not there:
            raise SchemaMismatch(
                f"there is no database at {path} yet: 'cnsmo-manage db upgrade' makes it "
                "([database] connection names another)"
            )

    def close(self) -> None:
        """End what was started."""
        self._closing.close()
        self._client = None

    def _start_core(self) -> None:
        from cnsmo.core.server import CoreServer

        self.require_database()
        core = CoreServer(self.conf)
        core.start(health=False)
        self._closing.callback(core.stop)
