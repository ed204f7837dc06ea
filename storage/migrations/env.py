"""Alembic's entry: runs the migrations on the connection that ``storage.engine.migrate`` hands over."""

from alembic import context
from sqlmodel import SQLModel

import storage  # noqa: F401  (names the tables)

connection = context.config.attributes["connection"]
on_sqlite = connection.dialect.name == "sqlite"
if on_sqlite:
    # A batch copies tables, which keys would forbid; inside a transaction the pragma does nothing.
    connection.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    render_as_batch=on_sqlite,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
