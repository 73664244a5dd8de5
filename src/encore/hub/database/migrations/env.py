"""Alembic runs this; the connection comes from `encore.hub.database.migrating`."""

from alembic import context

from encore.hub.database.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
