# SPDX-License-Identifier: Apache-2.0
"""Claims of periodic work, what health remembers, and which release may still run on this schema.

Cores of the release before go on writing rows that leave out what is new here.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "005"
down_revision = "004"
phase = "expand"

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
MYSQL: Any = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def upgrade() -> None:
    """Add tables, and columns that may stay empty."""
    for column in ("late_at", "heard_since", "downed_at", "reported_at"):
        op.add_column("agents", sa.Column(column, TIME, nullable=True))
    op.add_column("agents", sa.Column("downs", sa.Integer, nullable=True))
    for column in ("suspected_since", "suspected_at"):
        op.add_column("deployments", sa.Column(column, TIME, nullable=True))
    op.create_table(
        "claims",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("deployment_id", sa.Integer, nullable=True),
        sa.Column("owner", sa.String(190), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("until", TIME, nullable=True),
        sa.Column("due_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_claims"),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.id"],
            name="fk_claims_deployment_id",
            ondelete="CASCADE",
        ),
        **MYSQL,
    )
    op.create_index("ix_claims_due_at", "claims", ["due_at"])
    op.create_table(
        "schema_floor",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("oldest", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schema_floor"),
        **MYSQL,
    )
