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

LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
"""Text of any length."""

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
    sa.Column("chain", sa.String(36), nullable=True),
    sa.Column("suspected_since", TIME, nullable=True),
    sa.Column("suspected_at", TIME, nullable=True),
    **MYSQL,
)
"""``purged``: tombstones up to this revision may be gone. ``observe_at``: an operator looks.
``chain``: of the audit. ``suspected_since``, ``suspected_at``: so many hosts were silent at once
that the core suspects itself; since when, and when it last did.
"""

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
    sa.Column("secret_hash", sa.String(255), nullable=False),
    sa.Column("nonce_hash", sa.String(255), nullable=False),
    sa.Column("joined_at", TIME, nullable=False),
    sa.Column("revoked_at", TIME, nullable=True),
    sa.Column("key_hash", sa.String(64), nullable=True),
    sa.Column("expires_at", TIME, nullable=True),
    sa.Column("readmit_until", TIME, nullable=True),
    sa.Column("removed_revision", sa.BigInteger, nullable=True),
    sa.Column("confirmed_at", TIME, nullable=True),
    sa.Column("tokens", sa.JSON, nullable=True),
    sa.Index(None, "deployment_id", "host"),
    **MYSQL,
)
"""Who a host is on the bus. ``nonce_hash``: recognises the repetition of a join; both digests are
sealed. ``key_hash``: of the key that its certificate is for; ``expires_at``: when the newest one
ends. Both are NULL for a host from before there were certificates. ``readmit_until``: a join with
another key may replace it. ``removed_revision``: in which it was removed;
``confirmed_at``: all others had applied that. ``tokens``: ids of those by which it came; NULL: it
came before that was noted.
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
    sa.Column("late_at", TIME, nullable=True),
    sa.Column("heard_since", TIME, nullable=True),
    sa.Column("downed_at", TIME, nullable=True),
    sa.Column("downs", sa.Integer, nullable=True),
    sa.Column("reported_at", TIME, nullable=True),
    **MYSQL,
)
"""What is frequent and nobody compiles from; an agent's state is a row of RESOURCES.

``working``: whether others should wait for what the agent has applied. ``late_at``: since when it
is known to be late, ``heard_since``: when it was found to be heard again; ``downed_at``, ``downs``:
when it was last said to be down, and how often lately; ``reported_at``: when its last report was
made. All by the database's clock.
"""

JOIN_TOKENS = sa.Table(
    "join_tokens",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    _deployment(),
    sa.Column("groups", sa.JSON, nullable=False),
    sa.Column("secret_hash", sa.String(255), nullable=False),
    sa.Column("expires_at", TIME, nullable=False),
    sa.Column("uses_left", sa.Integer, nullable=False),
    sa.Column("revoked_at", TIME, nullable=True),
    sa.Column("created_at", TIME, nullable=False),
    sa.Column("host", sa.String(63), nullable=True),
    sa.Column("source", sa.String(64), nullable=True),
    sa.Column("addresses", sa.JSON, nullable=True),
    sa.Column("refused", sa.JSON, nullable=True),
    sa.Index(None, "deployment_id"),
    **MYSQL,
)
"""``secret_hash`` is sealed. ``host``, ``source``: the only name, and the network of addresses,
that may use it. ``addresses``: networks in which a host that came by it may say to be; ``refused``:
names under which a join by it was refused.
"""

AUDIT_CHAINS = sa.Table(
    "audit_chains",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("deployment", sa.String(63), nullable=False),
    sa.Column("lines", sa.BigInteger, nullable=False),
    sa.Column("head", sa.String(64), nullable=False),
    sa.Column("seal", sa.String(400), nullable=False),
    sa.Column("ended_at", TIME, nullable=True),
    sa.Index(None, "deployment"),
    **MYSQL,
)
"""Where each chain of the audit ends: the number and the digest of its last line, and both sealed.

A chain outlives its deployment; ``ended_at``: when that was deleted.
"""

AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("chain", sa.String(36), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", TIME, nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("who", sa.String(190), nullable=False),
    sa.Column("source", sa.String(190), nullable=False),
    sa.Column("action", sa.String(63), nullable=False),
    sa.Column("kind", sa.String(63), nullable=False),
    sa.Column("name", sa.String(190), nullable=False),
    sa.Column("host", sa.String(63), nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("before", LONG, nullable=False),
    sa.Column("after", LONG, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    **MYSQL,
)
"""Never updated. No foreign key: a line outlives what it tells of."""

CLAIMS = sa.Table(
    "claims",
    METADATA,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column(
        "deployment_id",
        sa.Integer,
        sa.ForeignKey("deployments.id", ondelete="CASCADE"),
        nullable=True,
    ),
    sa.Column("owner", sa.String(190), nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("until", TIME, nullable=True),
    sa.Column("due_at", TIME, nullable=False),
    sa.Index(None, "due_at"),
    **MYSQL,
)
"""Periodic work: ``due_at`` it is to be done, by whoever claims it ``until`` then; both by the
database's clock. ``number``: how often it was claimed. ``owner``: who did so last.
"""

SCHEMA_FLOOR = sa.Table(
    "schema_floor",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("oldest", sa.String(32), nullable=False),
    **MYSQL,
)
"""One row, or none: the schema of the oldest release that works with the one that is there."""

VAULT = sa.Table(
    "vault",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("probe", sa.String(255), nullable=False),
    **MYSQL,
)
"""One row: something sealed, by which a core sees whether it has the right key."""
