"""Alembic's entry: run the migrations on the connection that `sandboxer.store.database` hands over."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from sandboxer.store import tables  # noqa: F401 - importing declares the tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    # SQLite cannot alter columns in place; Alembic copies the table instead.
    render_as_batch=True,
    # The caller's transaction covers all migrations, so a crash half-way leaves the old schema.
    transactional_ddl=False,
)
context.run_migrations()
