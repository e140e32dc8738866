"""The database by URL. The one module with SQL that only SQLite understands."""

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Connection,
    Dialect,
    Double,
    Engine,
    Integer,
    MetaData,
    Text,
    TypeDecorator,
    create_engine,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.types import TypeEngine

BUSY_SECONDS = 30
ALTERING = 0x7721C81AB
"""A number of our own, under which PostgreSQL keeps the lock of whoever alters tables."""

# names for constraints, so that a migration can speak of them on every database
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# STRICT tables know only INTEGER, REAL, TEXT and BLOB
Number = BigInteger().with_variant(Integer, "sqlite")
Seconds: TypeEngine[float] = Double().with_variant(REAL, "sqlite")


class Measured(TypeDecorator[float]):
    """A measured float of any kind. NaN is stored as NULL (SQLite has no NaN) and read as NaN.

    So such a column never means "nothing was measured": that is a missing row.
    """

    impl = Double
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(REAL() if dialect.name == "sqlite" else Double())

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        return None if value is None or math.isnan(value) else value

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:
        return math.nan if value is None else value


class Document(TypeDecorator[Any]):
    """A JSON value as text. Non-finite numbers become the strings NaN, Infinity, -Infinity."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(finite(value), allow_nan=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


def finite(value: Any) -> Any:
    """The same JSON value with every non-finite number spelled out as a string."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def connect(url: str) -> Engine:
    """An engine for the URL. An SQLite file's folder is made when it is missing."""
    location = make_url(url)
    if location.get_backend_name() != "sqlite":
        return create_engine(location, pool_pre_ping=True)
    if location.database and location.database != ":memory:":
        Path(location.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(location, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", prepare_sqlite)
    event.listen(engine, "begin", begin_sqlite)
    return engine


def prepare_sqlite(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    # the driver's own transactions off: it would begin late and deferred
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_SECONDS * 1000}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def begin_sqlite(connection: Connection) -> None:
    """Writers lock at once: read-then-write in a deferred transaction fails with "busy"."""
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN DEFERRED")


@contextmanager
def writing(engine: Engine, *, durable: bool = True) -> Iterator[Connection]:
    """A writing transaction, committed at the end of the block, rolled back on an error.

    Durable means that a power failure after the block loses nothing of it; metrics do without,
    for speed.
    """
    with engine.connect() as plain:
        connection = plain.execution_options(immediate=True)
        if connection.dialect.name == "sqlite":
            # a pragma is refused inside a transaction, so it goes to the driver before one begins
            driver(plain).execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        with connection.begin():
            yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A reading transaction: everything in the block sees the same moment."""
    with engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def altering(engine: Engine) -> Iterator[Connection]:
    """A transaction that may alter tables; fails as a whole when a reference is left dangling.

    SQLite alters a table by copying and dropping it, which with foreign keys on would delete
    every row that refers to it. The pragma does nothing inside a transaction, so it goes before.
    """
    if engine.dialect.name != "sqlite":
        with engine.begin() as connection:
            # one program at a time: those that start together would all create the same tables
            connection.execute(select(func.pg_advisory_xact_lock(ALTERING)))
            yield connection
        return
    with engine.connect() as plain:
        connection = plain.execution_options(immediate=True)
        driver(plain).execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                assert not dangling, f"references to nothing: {dangling[:5]}"
        finally:
            driver(plain).execute("PRAGMA foreign_keys=ON")


def driver(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw
