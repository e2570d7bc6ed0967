# SPDX-License-Identifier: Apache-2.0
"""Audit, and seals: what is done is written down; digests are sealed, and so need more room."""

import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "003"
down_revision = "002"
phase = "expand"

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
MYSQL: Any = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
SEALED = {"identities": ("secret_hash", "nonce_hash"), "join_tokens": ("secret_hash",)}


def upgrade() -> None:
    """Deployments that are there get a chain without lines; its first write begins it."""
    for table, columns in SEALED.items():
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.alter_column(
                    column,
                    type_=sa.String(255),
                    existing_type=sa.String(64),
                    existing_nullable=False,
                )
    op.add_column("deployments", sa.Column("chain", sa.String(36), nullable=True))
    _create_audit()
    op.create_table(
        "vault",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("probe", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_vault"),
        **MYSQL,
    )
    _begin()


def _create_audit() -> None:
    op.create_table(
        "audit_chains",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("deployment", sa.String(63), nullable=False),
        sa.Column("lines", sa.BigInteger, nullable=False),
        sa.Column("head", sa.String(64), nullable=False),
        sa.Column("seal", sa.String(400), nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit_chains"),
        **MYSQL,
    )
    op.create_index("ix_audit_chains_deployment", "audit_chains", ["deployment"])
    op.create_table(
        "audit",
        sa.Column("chain", sa.String(36), nullable=False),
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
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
        sa.PrimaryKeyConstraint("chain", "number", name="pk_audit"),
        **MYSQL,
    )


def _begin() -> None:
    deployments = sa.table("deployments", sa.column("name"), sa.column("chain"))
    chains = sa.table(
        "audit_chains", *map(sa.column, ("id", "deployment", "lines", "head", "seal"))
    )
    connection = op.get_bind()
    for name in list(connection.scalars(sa.select(deployments.c.name))):
        chain = f"a-{secrets.token_hex(6)}"
        connection.execute(
            chains.insert().values(id=chain, deployment=name, lines=0, head="0" * 64, seal="")
        )
        connection.execute(
            deployments.update().where(deployments.c.name == name).values(chain=chain)
        )
