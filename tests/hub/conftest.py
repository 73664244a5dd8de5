"""Hubs for tests: settings in a temporary folder, and a database of each kind."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy

from encore.hub.database import Base, Database, open_database
from encore.hub.settings import HubSettings


def _postgresql_programs() -> Path | None:
    """The folder of PostgreSQL's server programs; None where it is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server that lives as long as the tests, without its database's name.

    Skips, loudly, where PostgreSQL is not installed (Debian: `apt-get install postgresql`).
    """
    programs = _postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed, so nothing of it is tested here: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="encore-postgresql-"))  # pytest's folders are closed to other users
    own = []
    if os.geteuid() == 0:  # it refuses to run as root
        own = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    data = folder / "data"
    server = [*own, str(programs / "pg_ctl"), "-D", str(data), "-w"]
    subprocess.run(
        [*own, str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "encore", "--no-sync"],
        check=True, capture_output=True, cwd="/",
    )  # fmt: skip
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=200"
    subprocess.run(
        [*server, "-o", options, "-l", str(folder / "log"), "start"], check=True, capture_output=True, cwd="/"
    )
    yield f"postgresql://encore@/{{name}}?host={folder}"
    subprocess.run([*server, "-m", "immediate", "stop"], check=True, capture_output=True, cwd="/")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgresql_with_tables(postgresql: str) -> str:
    """The name of a database that has the newest tables and nothing in them; others are made as its copies."""
    _administer(postgresql, "CREATE DATABASE hub_tables")
    open_database(postgresql.format(name="hub_tables").replace("postgresql:", "postgresql+psycopg:")).close()
    return "hub_tables"


def _administer(url: str, statement: str) -> None:
    admin = sqlalchemy.create_engine(
        url.format(name="postgres").replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(statement))
    admin.dispose()


@contextmanager
def empty_database(
    kind: str, request: pytest.FixtureRequest, folder: Path, *, with_tables: bool = True
) -> Iterator[str]:
    """The URL of an empty database, `sqlite` or `postgresql`; the latter has its tables, unless they are not wanted."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'hub.db'}"
        return
    url: str = request.getfixturevalue("postgresql")
    template = request.getfixturevalue("postgresql_with_tables") if with_tables else "template1"
    name = f"hub_{uuid.uuid4().hex}"
    _administer(url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield url.format(name=name)
    _administer(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    with empty_database(request.param, request, tmp_path) as url:
        yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def kept_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database of each kind that a module's tests share; they ask for `emptied_database`."""
    with empty_database(request.param, request, tmp_path_factory.mktemp("kept")) as url:
        database = open_database(url.replace("postgresql:", "postgresql+psycopg:"))
        yield database
        database.close()


@pytest.fixture
def emptied_database(kept_database: Database) -> Iterator[Database]:
    """An empty database, in much less time than `database`: where a test leaves rows behind, they are deleted."""
    yield kept_database
    with kept_database.writing() as transaction:
        for table in reversed(Base.metadata.sorted_tables):
            transaction.execute(table.delete())


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> HubSettings:
    """Of a hub in a temporary folder."""
    return HubSettings(folder=tmp_path, database=database_url, secret="s" * 40, arxiv_seconds=0, remember_seconds=0)


@pytest.fixture
def database(settings: HubSettings) -> Iterator[Database]:
    """An empty database with its tables."""
    database = open_database(settings.database_url)
    yield database
    database.close()
