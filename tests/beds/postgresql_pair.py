# SPDX-License-Identifier: Apache-2.0
"""Two PostgreSQL servers: one is written to, the other follows it and can take its place.

Replication is synchronous: a commit is acknowledged when both have it.
https://www.postgresql.org/docs/15/warm-standby.html
"""

import secrets
from typing import Self

import psycopg

from tests.beds.postgresql import SETTINGS, PostgresqlBed
from tests.beds.process import wait_until

REPLICATING = {**SETTINGS, "wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on"}


class PrimaryBed(PostgresqlBed):
    """A server that others may follow."""

    settings = REPLICATING


class StandbyBed(PostgresqlBed):
    """A server that begins as a copy of another one, and follows it."""

    settings = REPLICATING

    def __init__(self, primary: PostgresqlBed) -> None:
        super().__init__()
        self.password = primary.password
        self._primary = primary

    def _prepare(self, timeout: float) -> None:
        self._run(
            [
                str(self._bin / "pg_basebackup"),
                f"--host={self._primary.directory}",
                f"--port={self._primary.port}",
                "--username=postgres",
                f"--pgdata={self.directory / 'data'}",
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--no-sync",
            ],
            timeout,
        )


class PostgresqlPair:
    """A primary and its synchronous standby; use as a context manager."""

    def __init__(self) -> None:
        self.primary = PrimaryBed()
        self.standby = StandbyBed(self.primary)

    def __enter__(self) -> Self:
        try:
            self.primary.start()
            self.standby.start()
            self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            self.primary.execute("SELECT pg_reload_conf()")
            wait_until(self._synchronous, 30, "the standby follows")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End both."""
        self.standby.close()
        self.primary.close()

    def create_database(self) -> str:
        """Create an empty database; returns its name."""
        name = f"test_{secrets.token_hex(6)}"
        self.primary.execute(f"CREATE DATABASE {name}")
        return name

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database, on whichever of the two takes writes."""
        hosts = "&".join(f"host=127.0.0.1:{bed.port}" for bed in (self.primary, self.standby))
        account = f"postgres:{self.primary.password}"
        return f"postgresql+psycopg://{account}@/{database}?{hosts}&target_session_attrs=read-write"

    def promote(self) -> None:
        """Let the standby take the place of the primary; returns when it takes writes."""
        self.standby.execute("SELECT pg_promote()", timeout=60)

    def _synchronous(self) -> bool:
        with psycopg.connect(
            host=str(self.primary.directory), port=self.primary.port, user="postgres"
        ) as connection:
            found = connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall()
        return found == [("sync",)]
