# SPDX-License-Identifier: Apache-2.0
"""Runs migrations on the connection that ``state/schema.py`` hands over; never on its own."""

from alembic import context

from cnsmo.state.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
