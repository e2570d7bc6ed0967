# SPDX-License-Identifier: Apache-2.0
"""The database engine, through oslo.db, from the options of the group ``[database]``."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_db.sqlalchemy import engines
from oslo_log import log

from cnsmo.model.errors import Unavailable

LOG = log.getLogger(__name__)
SQLITE_BUSY_SECONDS = 30
POOL_OPTIONS = {
    "pool_size": "max_pool_size",
    "max_overflow": "max_overflow",
    "pool_timeout": "pool_timeout",
}
"""Names of SQLAlchemy's pool, and of oslo.db's options for it."""


def make_engine(conf: cfg.ConfigOpts) -> sa.Engine:
    """An engine for ``[database] connection``; nothing is connected yet."""
    group = conf.database
    return engine_for(
        group.connection,
        max_pool_size=group.max_pool_size,
        max_overflow=group.max_overflow,
        pool_timeout=group.pool_timeout,
        connection_recycle_time=group.connection_recycle_time,
    )


def engine_for(url: str, **options: int | None) -> sa.Engine:
    """An engine for a URL. SQLite: write-ahead log, foreign keys, waits for a rival writer."""
    parsed = sa.make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite and "timeout" not in parsed.query:
        parsed = parsed.update_query_dict({"timeout": str(SQLITE_BUSY_SECONDS)})
    if parsed.get_backend_name() == "mysql" and "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    engine: sa.Engine = engines.create_engine(
        parsed.render_as_string(hide_password=False),
        sqlite_fk=True,
        mysql_sql_mode="TRADITIONAL",
        max_retries=0,
        _engine_target=functools.partial(_create_pooled, options),
        **options,
    )
    if sqlite and parsed.database not in (None, "", ":memory:"):
        folder = Path(str(parsed.database)).parent
        sa.event.listen(engine, "connect", functools.partial(_write_ahead, folder))
    return engine


@contextlib.contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction; committed at the end, rolled back by any exception.

    :raises Unavailable: when the database does not answer.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except (db_exc.DBConnectionError, sa.exc.OperationalError, sa.exc.TimeoutError) as exc:
        # oslo.db passes on what it does not know, as the refused connections of psycopg.
        LOG.warning("database: %s", exc.args[0] if exc.args else exc)
        raise Unavailable("the database does not answer; is it running and reachable?") from exc


def utc_now() -> datetime.datetime:
    """The core's clock, UTC, as the database stores it: without a zone."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def aware(moment: datetime.datetime) -> datetime.datetime:
    """A stored time as everybody else sees it: in UTC, and saying so."""
    return moment.replace(tzinfo=datetime.UTC)


def _create_pooled(
    options: Mapping[str, int | None], url: sa.URL, **args: Any
) -> tuple[sa.Engine, sa.Engine]:
    """Keep connections of SQLite files too, where oslo.db would open one per transaction.

    It does so "to avoid compatibility issues" of SQLAlchemy 1.4; opening costs more than all else.
    options: of engine_for(), which oslo.db leaves out for SQLite.
    """
    if args.get("poolclass") is sa.NullPool:
        args["poolclass"] = sa.QueuePool
        for name, option in POOL_OPTIONS.items():
            if options.get(option) is not None:
                args[name] = options[option]
    engine = sa.create_engine(url, **args)
    return engine, engine


def _write_ahead(
    folder: Path, connection: sa.engine.interfaces.DBAPIConnection, _record: object
) -> None:
    """Switch the file to its write-ahead log: one process at a time, or SQLite refuses some."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.close()
    finally:
        os.close(handle)
