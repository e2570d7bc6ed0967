# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server of our own."""

import ctypes
import secrets
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import psycopg

from tests.beds.bed import Bed, find_program

IPC_RMID = 0
# Durable against a kill -9 of the server, which is what tests do (commits are written, only not
# fsynced); not against a power cut. See postgresql.org, "Non-Durable Settings".
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # In the data directory, because a kill -9 leaves what is in /dev/shm there.
    "dynamic_shared_memory_type": "mmap",
    "log_min_messages": "warning",
}


class PostgresqlBed(Bed):
    """PostgreSQL on a Unix socket in `directory` and on 127.0.0.1:`port`."""

    package = "postgresql"
    account = "postgres"
    stop_signal = signal.SIGINT
    """"Fast" shutdown: clients are disconnected, not waited for; see postgres(1)."""
    end_signal = signal.SIGQUIT
    """"Immediate" shutdown: as a crash, but its System V shared memory is given back."""
    settings: ClassVar[Mapping[str, str]] = SETTINGS

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """Create an empty database of a new name; returns the name."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, and the connections to it."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def disconnect_all(self) -> None:
        """End every client's session, as a failover does."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )

    def execute(self, statement: str, timeout: int = 10) -> None:
        """Run one SQL statement as the superuser, outside any transaction.

        `timeout` is for the connection, in seconds. Raises psycopg.Error.
        """
        with psycopg.connect(
            host=str(self.directory),
            port=self.port,
            user="postgres",
            dbname="postgres",
            autocommit=True,
            connect_timeout=timeout,
        ) as connection:
            connection.execute(statement.encode())

    def kill(self) -> None:
        super().kill()
        self._release_shared_memory()

    def close(self) -> None:
        if not self.alive:
            self._release_shared_memory()
        super().close()

    def _release_shared_memory(self) -> None:
        """Remove the System V segment that outlives a killed server (see shmctl(2)).

        Its id is in line 7 of postmaster.pid, a file that an orderly shutdown removes.
        """
        pidfile = self.directory / "data" / "postmaster.pid"
        lines = pidfile.read_text().splitlines() if pidfile.exists() else []
        if len(lines) > 6 and lines[6].strip():
            ctypes.CDLL(None).shmctl(int(lines[6].split()[1]), IPC_RMID, None)

    def _locate(self) -> None:
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
        self._bin = (
            find_program(
                self.package,
                *(directory / "postgres" for directory in versions),
                shutil.which("postgres"),
            )
            .resolve()
            .parent
        )
        find_program(self.package, self._bin / "initdb")

    def _prepare(self, timeout: float) -> None:
        secret = self.directory / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if self.user:
            shutil.chown(secret, self.user)
        self._run(
            [
                str(self._bin / "initdb"),
                f"--pgdata={self.directory / 'data'}",
                "--username=postgres",
                f"--pwfile={secret}",
                "--auth-local=trust",  # The socket's directory is open to us alone.
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "--no-instructions",
            ],
            timeout,
        )

    def _command(self) -> list[str]:
        settings = {
            **self.settings,
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self._bin / "postgres"), "-D", str(self.directory / "data"), *options]

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


def _version(directory: Path) -> tuple[int, ...]:
    """15 of /usr/lib/postgresql/15/bin, 9.6 of ../9.6/bin."""
    return tuple(int(part) for part in directory.parent.name.split(".") if part.isdigit())
