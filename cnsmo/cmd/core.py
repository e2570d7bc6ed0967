# SPDX-License-Identifier: Apache-2.0
"""cnsmo-core: a core process. Run as many as you like; they are equal."""

from __future__ import annotations

import sys

from oslo_service import service

from cnsmo import conf
from cnsmo.bus import broker, transport
from cnsmo.cmd import program
from cnsmo.core.server import CoreServer
from cnsmo.state import schema, sealing
from cnsmo.state.engine import make_engine
from cnsmo.state.vault import vault_of


class CoreService(service.ServiceBase):  # type: ignore[misc]
    """The core as oslo.service runs it: everything is made in start(), after any fork."""

    def start(self) -> None:
        """Begin to answer."""
        self._server = CoreServer(conf.CONF)
        self._server.start()

    def stop(self, graceful: bool = True) -> None:
        """Finish what was begun."""
        self._server.stop()

    def wait(self) -> None:
        """stop() has waited already."""

    def reset(self) -> None:
        """SIGHUP: options that can change while running are read anew by oslo.config."""


def main() -> int:
    """Entry point."""
    return program.run("cnsmo-core", _work)


def _work() -> int:
    conf.load(program="cnsmo-core")
    transport.check(conf.CONF)
    broker.load(conf.CONF).check()
    engine = make_engine(conf.CONF)
    try:
        schema.check(engine)
        sealing.check(engine, vault_of(conf.CONF))
    finally:
        engine.dispose()
    service.launch(conf.CONF, CoreService(), restart_method="mutate").wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
