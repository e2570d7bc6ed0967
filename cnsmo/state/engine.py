# SPDX-License-Identifier: Apache-2.0
"""The database engine, through oslo.db, from the options of the group ``[database]``."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import functools
import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import api as db_api
from oslo_db import exception as db_exc
from oslo_db.sqlalchemy import engines
from oslo_log import log

from cnsmo.model.errors import Unavailable

LOG = log.getLogger(__name__)
SQLITE_BUSY_SECONDS = 30
DEADLOCK_RETRIES = 20
_LISTENERS: weakref.WeakKeyDictionary[sa.Engine, list[Callable[[], None]]] = (
    weakref.WeakKeyDictionary()
)
"""SQLAlchemy has no event for a connection that could not be made."""
POOL_OPTIONS = {
    "pool_size": "max_pool_size",
    "max_overflow": "max_overflow",
    "pool_timeout": "pool_timeout",
}
"""Names of SQLAlchemy's pool, and of oslo.db's options for it."""
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""Seconds of silence, seconds between two tries, and tries, on both sides of a connection."""
READ_ONLY = {"25006", 1290, 1792, 1836}
"""PostgreSQL's SQLSTATE, and MySQL's error numbers, of a write where only reading is allowed."""


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to wait for the database, in seconds. ``statements`` is None where there is no bound
    to what one statement takes."""

    connecting: float
    statements: float | None


PATIENCE = Patience(5.0, 30.0)
"""As the options have it by default."""


def make_engine(conf: cfg.ConfigOpts, patient: bool = False) -> sa.Engine:
    """An engine for ``[database] connection``; nothing is connected yet.

    patient: statements may take as long as they need, as those of a migration do.
    """
    group = conf.database
    statements = None if patient else conf.core.database_statement_timeout
    return engine_for(
        group.connection,
        Patience(conf.core.database_connect_timeout, statements),
        max_pool_size=group.max_pool_size,
        max_overflow=group.max_overflow,
        pool_timeout=group.pool_timeout,
        connection_recycle_time=group.connection_recycle_time,
    )


def engine_for(url: str, patience: Patience = PATIENCE, /, **options: int | None) -> sa.Engine:
    """An engine for a URL. SQLite: write-ahead log, foreign keys, waits for a rival writer."""
    parsed = sa.make_url(url)
    bounds = connect_arguments(parsed, patience)
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
        _engine_target=functools.partial(_create_pooled, options, bounds),
        **options,
    )
    if sqlite and parsed.database not in (None, "", ":memory:"):
        folder = Path(str(parsed.database)).parent
        sa.event.listen(engine, "connect", functools.partial(_write_ahead, folder))
    sa.event.listen(engine, "handle_error", _leave_a_former_primary, retval=True)
    return engine


def connect_arguments(url: sa.URL, patience: Patience) -> dict[str, Any]:
    """What the driver is told besides the URL, so that no call waits for ever.

    PostgreSQL and MariaDB are told, too, to end the transaction of a core that stands still: it
    holds a lock. A server whose machine is gone is noticed by keepalives.

    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
    https://mariadb.com/kb/en/server-system-variables/
    """
    made = {"postgresql": _of_postgresql, "mysql": _of_mysql, "mariadb": _of_mysql}
    make = made.get(url.get_backend_name())
    found = make(patience) if make is not None else {}
    return {name: value for name, value in found.items() if name not in url.query}


@contextlib.contextmanager
def transaction(
    engine: sa.Engine, again: Callable[[], bool] = lambda: False
) -> Iterator[sa.Connection]:
    """A transaction; committed at the end, rolled back by any exception.

    again: whether who called would try once more, if it is certain that nothing was written.

    :raises Unavailable: when the database does not answer.
    :raises RetryRequest: the same, when nothing was written and it would be tried again.
    """
    committing = False
    try:
        with engine.connect() as connection, connection.begin() as begun:
            yield connection
            committing = True
            begun.commit()
    except (db_exc.DBConnectionError, sa.exc.OperationalError, sa.exc.TimeoutError) as exc:
        # oslo.db passes on what it does not know, as the refused connections of psycopg.
        LOG.warning("database: %s", exc.args[0] if exc.args else exc)
        for tell in list(_LISTENERS.get(engine, ())):
            tell()
        away = Unavailable("the database does not answer; is it running and reachable?")
        if not committing and again():
            raise db_exc.RetryRequest(away) from exc
        raise away from exc


retried = db_api.wrap_db_retry(
    max_retries=DEADLOCK_RETRIES,
    retry_interval=0.01,
    inc_retry_interval=True,
    max_retry_interval=0.5,
    retry_on_deadlock=True,
    jitter=True,
)
"""Decorates what is done again, from its beginning, when the database chose it as a deadlock's
victim, or when transaction() says so."""


@contextlib.contextmanager
def snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that sees the database as it is in one moment, whatever cores write."""
    if engine.dialect.name != "sqlite":  # where each transaction does
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with transaction(engine) as connection:
        yield connection


@contextlib.contextmanager
def told_when_unavailable(engine: sa.Engine, tell: Callable[[], None]) -> Iterator[None]:
    """While this lasts, ``tell`` is called whenever the database did not answer."""
    listeners = _LISTENERS.setdefault(engine, [])
    listeners.append(tell)
    try:
        yield
    finally:
        listeners.remove(tell)


def utc_now() -> datetime.datetime:
    """The core's clock, UTC, as the database stores it: without a zone."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def aware(moment: datetime.datetime) -> datetime.datetime:
    """A stored time as everybody else sees it: in UTC, and saying so."""
    return moment.replace(tzinfo=datetime.UTC)


def _of_postgresql(patience: Patience) -> dict[str, Any]:
    settings = {f"tcp_{name}": value for name, value in KEEPALIVES.items()}
    if patience.statements is not None:
        milliseconds = round(patience.statements * 1000)
        settings["statement_timeout"] = milliseconds
        settings["idle_in_transaction_session_timeout"] = milliseconds
    return {
        "connect_timeout": round(patience.connecting),
        "tcp_user_timeout": round(patience.connecting * 1000),
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        **KEEPALIVES,
    }


def _of_mysql(patience: Patience) -> dict[str, Any]:
    found: dict[str, Any] = {"connect_timeout": round(patience.connecting)}
    if patience.statements is not None:
        seconds = max(1, round(patience.statements))
        # The comment is for MariaDB alone; MySQL has no such setting.
        found["init_command"] = (
            f"SET SESSION innodb_lock_wait_timeout = {seconds}"
            f" /*M! , idle_transaction_timeout = {seconds}, max_statement_time = {seconds} */"
        )
        found["read_timeout"] = found["write_timeout"] = seconds + round(patience.connecting)
    return found


def _leave_a_former_primary(context: sa.engine.ExceptionContext) -> BaseException | None:
    """A server that became read-only is not ours to write to: its connections are given up."""
    raised = context.original_exception
    if {getattr(raised, "sqlstate", None), *raised.args[:1]} & READ_ONLY:
        context.is_disconnect = True
        disconnected: Exception = db_exc.DBConnectionError(raised)
        return disconnected
    return None


def _create_pooled(
    options: Mapping[str, int | None], bounds: Mapping[str, Any], url: sa.URL, **args: Any
) -> tuple[sa.Engine, sa.Engine]:
    """Keep connections of SQLite files too, where oslo.db would open one per transaction.

    It does so "to avoid compatibility issues" of SQLAlchemy 1.4; opening costs more than all else.
    options: of engine_for(), which oslo.db leaves out for SQLite. bounds: see connect_arguments().
    """
    args["connect_args"] = {**args.get("connect_args", {}), **bounds}
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
