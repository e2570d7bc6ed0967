# SPDX-License-Identifier: Apache-2.0
"""Trust: hosts' keys and certificates, removals that others confirm, what a token is bound to."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "002"
down_revision = "001"
phase = "expand"

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    """Add columns. Hosts from before have no certificate until they ask for one."""
    op.add_column("identities", sa.Column("key_hash", sa.String(64), nullable=True))
    op.add_column("identities", sa.Column("expires_at", TIME, nullable=True))
    op.add_column("identities", sa.Column("readmit_until", TIME, nullable=True))
    op.add_column("identities", sa.Column("removed_revision", sa.BigInteger, nullable=True))
    op.add_column("identities", sa.Column("confirmed_at", TIME, nullable=True))
    op.add_column("join_tokens", sa.Column("host", sa.String(63), nullable=True))
    op.add_column("join_tokens", sa.Column("source", sa.String(64), nullable=True))
