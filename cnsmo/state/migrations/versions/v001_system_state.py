# SPDX-License-Identifier: Apache-2.0
"""The System State: deployments, resources, identities, agents, join tokens."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "001"
down_revision = None
phase = "expand"

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
MYSQL: Any = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "deployments",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("purged", sa.BigInteger, nullable=False),
        sa.Column("observe_at", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_deployments"),
        sa.UniqueConstraint("name", name="uq_deployments_name"),
        **MYSQL,
    )
    op.create_table(
        "resources",
        _deployment("resources"),
        sa.Column("kind", sa.String(63), nullable=False),
        sa.Column("name", sa.String(190), nullable=False),
        sa.Column("owner", sa.String(63), nullable=False),
        sa.Column("author", sa.String(190), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", "kind", "name", name="pk_resources"),
        **MYSQL,
    )
    op.create_index(
        "ix_resources_deployment_id_revision", "resources", ["deployment_id", "revision"]
    )
    op.create_table(
        "identities",
        sa.Column("id", sa.String(36), nullable=False),
        _deployment("identities"),
        sa.Column("host", sa.String(63), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("nonce_hash", sa.String(64), nullable=False),
        sa.Column("joined_at", TIME, nullable=False),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_identities"),
        **MYSQL,
    )
    op.create_index("ix_identities_deployment_id_host", "identities", ["deployment_id", "host"])
    op.create_table(
        "agents",
        _deployment("agents"),
        sa.Column("host", sa.String(63), nullable=False),
        sa.Column("service", sa.String(63), nullable=False),
        sa.Column("working", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("applied_revision", sa.BigInteger, nullable=False),
        sa.Column("heartbeat_at", TIME, nullable=False),
        sa.Column("observation", sa.JSON, nullable=True),
        sa.Column("observed_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("deployment_id", "host", "service", name="pk_agents"),
        **MYSQL,
    )
    op.create_table(
        "join_tokens",
        sa.Column("id", sa.String(36), nullable=False),
        _deployment("join_tokens"),
        sa.Column("groups", sa.JSON, nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("uses_left", sa.Integer, nullable=False),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_join_tokens"),
        **MYSQL,
    )
    op.create_index("ix_join_tokens_deployment_id", "join_tokens", ["deployment_id"])


def _deployment(table: str) -> sa.Column[int]:
    name = f"fk_{table}_deployment_id"
    key = sa.ForeignKey("deployments.id", name=name, ondelete="CASCADE")
    return sa.Column("deployment_id", sa.Integer, key, nullable=False)
