"""Bringing tables up to date, with Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from encore.base.errors import ConfigurationError
from encore.hub.database.connection import Database

LOCK = 2_111_116_321
"""Of PostgreSQL's advisory locks: one process upgrades, others wait."""


def alembic_config() -> Config:
    """What Alembic is told; a checkout's developers give it to `alembic` too."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def upgrade(database: Database) -> None:
    """Run the migrations that the database has not seen.

    Raises:
        ConfigurationError: it has seen one that this Encore does not know.
    """
    config = alembic_config()
    script = ScriptDirectory.from_config(config)
    writer = database.engine.execution_options(begin="IMMEDIATE")
    with writer.begin() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in {one.revision for one in script.walk_revisions()}:
            raise ConfigurationError(
                f"the database was written by a newer Encore (revision {current})",
                "update Encore, or use another database",
            )
        if current != script.get_current_head():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
