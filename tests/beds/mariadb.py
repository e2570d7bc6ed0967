# SPDX-License-Identifier: Apache-2.0
"""A MariaDB server of our own."""

import secrets
import shutil
from typing import Any

import pymysql

from tests.beds.bed import Bed, find_program

ACCOUNT = "cnsmo"
# Commits are written but not flushed: they survive a kill -9 of the server, not a power cut.
SETTINGS = {
    "bind-address": "127.0.0.1",
    "skip-name-resolve": "ON",
    "character-set-server": "utf8mb4",
    "max-connections": "200",
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-flush-method": "nosync",
    "innodb-doublewrite": "OFF",
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "16M",
    "key-buffer-size": "1M",
    "aria-pagecache-buffer-size": "4M",
    "performance-schema": "OFF",
}


class MariadbBed(Bed):
    """MariaDB on a Unix socket in `directory` and on 127.0.0.1:`port`."""

    package = "mariadb-server"
    account = "mysql"

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database."""
        place = f"{ACCOUNT}:{self.password}@127.0.0.1:{self.port}/{database}"
        return f"mysql+pymysql://{place}?charset=utf8mb4"

    def create_database(self) -> str:
        """Create an empty database of a new name; returns the name."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, and the connections to it."""
        # A transaction left open in it would hold DROP DATABASE up for a day.
        self._disconnect("db = %s", name)
        self.execute(f"DROP DATABASE IF EXISTS {name}")

    def disconnect_all(self) -> None:
        """End every client's session, as a failover does."""
        self._disconnect("user = %s", ACCOUNT)

    def execute(self, statement: str, *values: object, timeout: int = 10) -> tuple[Any, ...]:
        """Run one SQL statement with all privileges; returns the rows.

        `timeout` is for each answer, in seconds. Raises pymysql.Error.
        """
        connection = pymysql.connect(
            unix_socket=str(self.directory / "mariadb.sock"),
            user=ACCOUNT,
            password=self.password,
            connect_timeout=timeout,
            read_timeout=timeout,
            autocommit=True,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return tuple(cursor.fetchall())

    def _disconnect(self, condition: str, value: str) -> None:
        ids = self.execute(
            "SELECT id FROM information_schema.processlist"
            f" WHERE id <> CONNECTION_ID() AND {condition}",
            value,
        )
        for (session,) in ids:
            try:
                self.execute(f"KILL CONNECTION {int(session)}")
            except pymysql.err.OperationalError as error:
                if error.args[0] != pymysql.constants.ER.NO_SUCH_THREAD:
                    raise

    def _locate(self) -> None:
        self._server = find_program(
            self.package, "/usr/sbin/mariadbd", shutil.which("mariadbd"), "/usr/sbin/mysqld"
        )
        self._installer = find_program(
            self.package,
            "/usr/bin/mariadb-install-db",
            shutil.which("mariadb-install-db"),
            "/usr/bin/mysql_install_db",
        )

    def _prepare(self, timeout: float) -> None:
        self._run(
            [
                str(self._installer),
                "--no-defaults",
                f"--datadir={self.directory / 'data'}",
                # Nobody gets in over TCP without a password.
                "--auth-root-authentication-method=socket",
                "--skip-test-db",
                *_options(),
            ],
            timeout,
        )
        # Read at every start. It holds the password, so it is closed before it is written.
        accounts = self.directory / "accounts.sql"
        accounts.touch(mode=0o600)
        accounts.write_text(
            f"CREATE OR REPLACE USER '{ACCOUNT}'@'%' IDENTIFIED BY '{self.password}';\n"
            f"CREATE OR REPLACE USER '{ACCOUNT}'@'localhost' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO '{ACCOUNT}'@'%' WITH GRANT OPTION;\n"
            f"GRANT ALL ON *.* TO '{ACCOUNT}'@'localhost' WITH GRANT OPTION;\n"
        )
        if self.user:
            shutil.chown(accounts, self.user)

    def _command(self) -> list[str]:
        return [
            str(self._server),
            "--no-defaults",
            f"--datadir={self.directory / 'data'}",
            f"--socket={self.directory / 'mariadb.sock'}",
            f"--port={self.port}",
            f"--pid-file={self.directory / 'mariadb.pid'}",
            f"--init-file={self.directory / 'accounts.sql'}",
            *_options(),
        ]

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except pymysql.err.OperationalError:
            return False
        return True


def _options() -> list[str]:
    return [f"--{name}={value}" for name, value in SETTINGS.items()]
