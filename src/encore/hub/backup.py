"""A copy of the hub's database while it is in use."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import sqlalchemy

from encore.base.errors import InputError
from encore.base.files import replacing
from encore.hub.database import Database


def back_up(database: Database, path: Path) -> int:
    """Write a copy of the database to `path`, whole or not at all.

    SQLite: a database file of one moment, checked, by SQLite's own online copy. PostgreSQL: what `pg_dump` writes in
    its custom format, for `pg_restore`.

    Returns:
        Its bytes.

    Raises:
        InputError: `path` is there already, `pg_dump` is missing, or it complains.
        RunFolderError: the disk is full.
    """
    if path.exists():
        raise InputError(f"{path} is there already", "name a new file")
    with replacing(path) as temporary:
        if database.is_sqlite:
            _copy_sqlite(database, temporary)
        else:
            _dump_postgresql(database, temporary)
    return path.stat().st_size


def _copy_sqlite(database: Database, path: Path) -> None:
    source = sqlite3.connect(str(database.engine.url.database))
    target = sqlite3.connect(path)
    try:
        source.backup(target, pages=-1)  # in one step: between two, a write would make it begin anew, for ever
        target.execute("PRAGMA journal_mode=DELETE")
        (found,) = target.execute("PRAGMA integrity_check").fetchone()
        if found != "ok":
            raise InputError(f"the database is damaged: {found}", "restore the newest backup that is whole")
    finally:
        target.close()
        source.close()


def _dump_postgresql(database: Database, path: Path) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        raise InputError("pg_dump is not installed", "install PostgreSQL's client programs")
    url = database.engine.url
    plain = sqlalchemy.URL.create(
        "postgresql", url.username, None, url.host, url.port, url.database, url.query
    ).render_as_string()
    secret = {"PGPASSWORD": str(url.password)} if url.password else {}
    done = subprocess.run(
        [program, "--format=custom", f"--file={path}", plain],
        env={**os.environ, **secret},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise InputError(f"pg_dump: {done.stderr.strip().splitlines()[-1]}", "mend that and try again")
