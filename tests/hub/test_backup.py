"""Backups are whole, and are made while others write."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from sqlalchemy import func, select

from encore.base.errors import InputError
from encore.hub.backup import back_up
from encore.hub.database import Database, SourceState, open_database


def test_a_backup_can_be_opened_while_the_database_is_in_use(database: Database, tmp_path: Path) -> None:
    if not database.is_sqlite and shutil.which("pg_dump") is None:
        pytest.skip("pg_dump is not installed")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            with database.writing() as transaction:
                transaction.add_all(SourceState(name=f"{number}/{half}", content={}) for half in range(2))
            number += 1

    with database.writing() as transaction:
        transaction.add(SourceState(name="before", content={}))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        size = back_up(database, tmp_path / "copy")
    finally:
        stop.set()
        writer.join()
    assert size == (tmp_path / "copy").stat().st_size > 1000
    if database.is_sqlite:
        copy = open_database(f"sqlite:///{tmp_path / 'copy'}")
        with copy.reading() as transaction:
            assert transaction.get(SourceState, "before") is not None
            assert (transaction.scalar(select(func.count()).select_from(SourceState)) or 0) % 2 == 1
        copy.close()
    else:
        assert (tmp_path / "copy").read_bytes().startswith(b"PGDMP")


def test_a_backup_of_a_large_database_comes_to_its_end_while_others_write(database: Database, tmp_path: Path) -> None:
    if not database.is_sqlite:
        pytest.skip("pg_dump sees one moment anyway")
    with database.writing() as transaction:
        transaction.add(SourceState(name="large", content={"text": "x" * 24_000_000}))  # some 6000 pages
    stop = threading.Event()

    def write() -> None:
        count = 0
        while not stop.wait(0.001):
            with database.writing() as transaction:
                transaction.merge(SourceState(name="small", content={"count": count}))
            count += 1

    writer = threading.Thread(target=write)
    backup = threading.Thread(target=back_up, args=(database, tmp_path / "copy"))
    writer.start()
    backup.start()
    backup.join(10)
    is_over = not backup.is_alive()
    stop.set()
    writer.join()
    backup.join()
    assert is_over
    assert (tmp_path / "copy").stat().st_size > 24_000_000


def test_a_backup_overwrites_nothing(database: Database, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        back_up(database, tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "mine"


def test_a_backup_that_fails_leaves_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite's copy has no program that could be missing")
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(InputError, match="pg_dump is not installed"):
        back_up(database, tmp_path / "copy")
    assert list(tmp_path.glob("copy*")) == []
