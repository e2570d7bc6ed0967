# SPDX-License-Identifier: Apache-2.0
"""The tables of the System State, as of the newest migration (a test compares the two)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
"""UTC, without a zone, with microseconds everywhere."""

MYSQL: Any = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
"""Names that differ in case are different names, as in the other databases; all of Unicode."""


def _deployment(primary_key: bool = False) -> sa.Column[int]:
    return sa.Column(
        "deployment_id",
        sa.Integer,
        sa.ForeignKey("deployments.id", ondelete="CASCADE"),
        nullable=False,
        primary_key=primary_key,
    )


DEPLOYMENTS = sa.Table(
    "deployments",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String(63), nullable=False, unique=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("purged", sa.BigInteger, nullable=False),
    sa.Column("observe_at", TIME, nullable=True),
    sa.Column("created_at", TIME, nullable=False),
    **MYSQL,
)
"""``purged``: tombstones up to this revision may be gone. ``observe_at``: an operator looks."""

RESOURCES = sa.Table(
    "resources",
    METADATA,
    _deployment(primary_key=True),
    sa.Column("kind", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(190), primary_key=True),
    sa.Column("owner", sa.String(63), nullable=False),
    sa.Column("author", sa.String(190), nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.Boolean(create_constraint=False), nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("updated_at", TIME, nullable=False),
    sa.Index(None, "deployment_id", "revision"),
    **MYSQL,
)

IDENTITIES = sa.Table(
    "identities",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    _deployment(),
    sa.Column("host", sa.String(63), nullable=False),
    sa.Column("secret_hash", sa.String(64), nullable=False),
    sa.Column("nonce_hash", sa.String(64), nullable=False),
    sa.Column("joined_at", TIME, nullable=False),
    sa.Column("revoked_at", TIME, nullable=True),
    sa.Column("key_hash", sa.String(64), nullable=True),
    sa.Column("expires_at", TIME, nullable=True),
    sa.Column("readmit_until", TIME, nullable=True),
    sa.Column("removed_revision", sa.BigInteger, nullable=True),
    sa.Column("confirmed_at", TIME, nullable=True),
    sa.Index(None, "deployment_id", "host"),
    **MYSQL,
)
"""Who a host is on the bus. ``nonce_hash``: recognises the repetition of a join. ``key_hash``: of
the key that its certificate is for; ``expires_at``: when the newest one ends. Both are NULL for a
host from before there were certificates. ``readmit_until``: a join with another key may replace it.
``removed_revision``: in which it was removed; ``confirmed_at``: all others had applied that.
"""

AGENTS = sa.Table(
    "agents",
    METADATA,
    _deployment(primary_key=True),
    sa.Column("host", sa.String(63), primary_key=True),
    sa.Column("service", sa.String(63), primary_key=True),
    sa.Column("working", sa.Boolean(create_constraint=False), nullable=False),
    sa.Column("applied_revision", sa.BigInteger, nullable=False),
    sa.Column("heartbeat_at", TIME, nullable=False),
    sa.Column("observation", sa.JSON, nullable=True),
    sa.Column("observed_at", TIME, nullable=True),
    **MYSQL,
)
"""What is frequent and nobody compiles from; an agent's state is a row of RESOURCES.

``working``: whether others should wait for what the agent has applied.
"""

JOIN_TOKENS = sa.Table(
    "join_tokens",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    _deployment(),
    sa.Column("groups", sa.JSON, nullable=False),
    sa.Column("secret_hash", sa.String(64), nullable=False),
    sa.Column("expires_at", TIME, nullable=False),
    sa.Column("uses_left", sa.Integer, nullable=False),
    sa.Column("revoked_at", TIME, nullable=True),
    sa.Column("created_at", TIME, nullable=False),
    sa.Column("host", sa.String(63), nullable=True),
    sa.Column("source", sa.String(64), nullable=True),
    sa.Index(None, "deployment_id"),
    **MYSQL,
)
"""``host``, ``source``: the only name, and the network of addresses, that may use it."""
