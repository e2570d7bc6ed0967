# SPDX-License-Identifier: Apache-2.0
"""By which tokens hosts came, what these allow them to say, and who was refused."""

import sqlalchemy as sa
from alembic import op

revision = "004"
down_revision = "003"
phase = "expand"


def upgrade() -> None:
    """Add columns. By which token a host from before came is not known."""
    op.add_column("identities", sa.Column("tokens", sa.JSON, nullable=True))
    op.add_column("join_tokens", sa.Column("addresses", sa.JSON, nullable=True))
    op.add_column("join_tokens", sa.Column("refused", sa.JSON, nullable=True))
