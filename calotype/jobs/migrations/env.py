"""Run by Alembic, with the connection that `database.Database` passes."""

from alembic import context

from calotype.jobs import tables  # noqa: F401 - adds its tables
from calotype.jobs.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
