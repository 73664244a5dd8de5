"""Connections: reading and writing transactions that SQLite and PostgreSQL both take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Engine, Select, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import DeclarativeBase, sessionmaker
from sqlalchemy.orm import Session as Transaction

from encore.base.errors import ConfigurationError

BUSY_SECONDS = 15
"""How long an SQLite writer waits for another."""


class Database:
    """A database that is open.

    SQLite: one file in write-ahead mode, so that readers never wait. A writer takes its place at once (`BEGIN
    IMMEDIATE`) instead of finding out at its first write that another was faster. PostgreSQL: as it comes.

    Args:
        url: for SQLAlchemy.

    Raises:
        ConfigurationError: no such kind of database, or it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = sqlalchemy.make_url(url)
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
                raise NoSuchModuleError(f"Encore does not know {parsed.get_backend_name()}")
            if self.is_sqlite and parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            options: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}} if self.is_sqlite else {}
            self.engine = create_engine(
                url,
                pool_size=20,
                max_overflow=30,
                pool_pre_ping=not self.is_sqlite,
                json_serializer=partial(json.dumps, ensure_ascii=False),  # letters that full-text search can read
                **options,
            )
        except (ArgumentError, NoSuchModuleError) as error:
            raise ConfigurationError(
                f"database {url.split('@')[-1]}: {error}", "give sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"
            ) from None
        if self.is_sqlite:
            _teach_sqlite(self.engine)
        self._reading = sessionmaker(self.engine, expire_on_commit=False)
        writer = self.engine.execution_options(begin="IMMEDIATE")
        self._writing = sessionmaker(writer, expire_on_commit=False)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A transaction that sees one state of the database and changes nothing. What was read stays readable."""
        with self._reading() as transaction:  # closing rolls back, without making objects forget what they hold
            yield transaction

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """A transaction that is committed at the end, or not at all."""
        with self._writing.begin() as transaction:
            yield transaction

    def claimed(self, rows: Select[Any]) -> Select[Any]:
        """A query for rows to take, which passes over what other workers are just taking.

        On SQLite there is one writer at a time, so nobody is.
        """
        return rows if self.is_sqlite else rows.with_for_update(skip_locked=True)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def insert_into(transaction: Transaction, table: type[DeclarativeBase]) -> sqlite.Insert | postgresql.Insert:
    """An `INSERT` that may say `on_conflict_do_nothing` or `…_do_update`; each kind of database has its own."""
    return sqlite.insert(table) if transaction.get_bind().dialect.name == "sqlite" else postgresql.insert(table)


def _teach_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not in the driver
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "cache_size=-65536"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        kind = connection.get_execution_options().get("begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {kind}")


def open_database(url: str) -> Database:
    """The database at `url`, with its tables brought up to date.

    Raises:
        ConfigurationError: it cannot be opened, or a newer Encore wrote it.
    """
    from encore.hub.database.migrating import upgrade

    database = Database(url)
    try:
        upgrade(database)
    except OperationalError as error:
        database.close()
        raise ConfigurationError(
            f"database {url.split('@')[-1]} cannot be opened: {str(error.orig).splitlines()[0]}",
            "check the address, and that its server runs",
        ) from error
    return database
