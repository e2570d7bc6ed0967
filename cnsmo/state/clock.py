# SPDX-License-Identifier: Apache-2.0
"""The database's clock: the one that all cores share, whatever their own say."""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from cnsmo.state.tables import TIME


class DatabaseNow(FunctionElement[datetime.datetime]):
    """UTC, without a zone, as the tables have it; SQLite knows milliseconds, the others more."""

    type = TIME
    inherit_cache = True


def read_clock(connection: sa.Connection) -> datetime.datetime:
    """What time it is, as the tables have it."""
    return connection.execute(sa.select(DatabaseNow())).scalar_one()


@compiles(DatabaseNow)
def _standard(_element: DatabaseNow, _compiler: Any, **_options: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


@compiles(DatabaseNow, "postgresql")
def _postgresql(_element: DatabaseNow, _compiler: Any, **_options: Any) -> str:
    return "(clock_timestamp() AT TIME ZONE 'utc')"


@compiles(DatabaseNow, "mysql", "mariadb")
def _mysql(_element: DatabaseNow, _compiler: Any, **_options: Any) -> str:
    return "UTC_TIMESTAMP(6)"
