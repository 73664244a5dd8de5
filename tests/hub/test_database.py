"""The database: migrations make what the tables say, writers wait for each other, and a newer one is refused."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, select

from encore.base.errors import ConfigurationError
from encore.hub.database import Base, Database, SourceState, open_database
from encore.hub.settings import HubSettings
from tests.hub.conftest import empty_database

OF_THE_TEXT_INDEX = ("papers_text", "document", "ix_papers_document")


def test_migrations_make_the_tables_that_are_mapped(database: Database) -> None:
    with database.engine.begin() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert [one for one in differences if not any(name in str(one) for name in OF_THE_TEXT_INDEX)] == []


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_opening_twice_at_once_upgrades_once(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    opened: list[Database] = []
    with empty_database(kind, request, tmp_path, with_tables=False) as url:
        address = HubSettings(folder=tmp_path, database=url, secret="s" * 40).database_url
        threads = [threading.Thread(target=lambda: opened.append(open_database(address))) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert len(opened) == 4
        for database in opened:
            database.close()


def test_a_database_of_a_newer_encore_is_refused(database: Database, settings: HubSettings) -> None:
    with database.writing() as transaction:
        transaction.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="newer Encore"):
        open_database(settings.database_url)


def test_writers_wait_for_each_other(database: Database) -> None:
    def add(number: int) -> None:
        for step in range(10):
            with database.writing() as transaction:
                count = transaction.scalar(select(func.count()).select_from(SourceState))
                time.sleep(0.001)
                transaction.add(SourceState(name=f"{number}/{step}", content={"before": count}))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    with database.reading() as transaction:
        assert transaction.scalar(select(func.count()).select_from(SourceState)) == 80


@pytest.mark.parametrize("url", ["mysql://there/name", "nonsense", "sqlite+unknown:///x"])
def test_another_kind_of_database_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(ConfigurationError, match="sqlite:///"):
        open_database(url)


def test_a_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        open_database("postgresql+psycopg://encore@127.0.0.1:1/hub")
