"""Hubs for tests: settings in a temporary folder, and a database of each kind."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from encore.hub.database import Database, open_database
from encore.hub.settings import HubSettings


def _postgresql_programs() -> Path | None:
    """The folder of PostgreSQL's server programs; None where it is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server that lives as long as the tests, without its database's name.

    Skips, loudly, where PostgreSQL is not installed (Debian: `apt-get install postgresql`).
    """
    programs = _postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed, so nothing of it is tested here: apt-get install postgresql")
    folder = tmp_path_factory.mktemp("postgresql")
    own = ["runuser", "-u", "postgres", "--"] if Path.home() == Path("/root") else []  # it refuses to run as root
    if own:
        for one in (folder, *folder.parents):
            if one == Path("/tmp"):
                break
            one.chmod(0o755)
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


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'hub.db'}"
        return
    url: str = request.getfixturevalue("postgresql")
    name = f"hub_{uuid.uuid4().hex}"
    admin = sqlalchemy.create_engine(
        url.format(name="postgres").replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    yield url.format(name=name)
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> HubSettings:
    """Of a hub in a temporary folder."""
    return HubSettings(folder=tmp_path, database=database_url, secret="s" * 40, arxiv_seconds=0)


@pytest.fixture
def database(settings: HubSettings) -> Iterator[Database]:
    """An empty database with its tables."""
    database = open_database(settings.database_url)
    yield database
    database.close()
