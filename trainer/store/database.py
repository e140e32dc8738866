"""The database by URL. The one module with SQL that only SQLite understands."""

import fcntl
import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pydantic_core import from_json
from sqlalchemy import (
    REAL,
    URL,
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
from sqlalchemy.pool import ConnectionPoolEntry, NullPool
from sqlalchemy.types import TypeEngine

from trainer.store.database_clock import give_clock

BUSY_SECONDS = 30
PROGRESS_STEPS = 10_000
"""Of SQLite's virtual machine, between two looks at the clock: well under a millisecond."""
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
        if value is None:
            return None
        try:
            # three times as fast as json.loads, and lists of runs hold hundreds of documents
            return from_json(value)
        except ValueError:
            # half a character, as a broken name in somebody's error message may hold
            return json.loads(value)


def finite(value: Any) -> Any:
    """The same JSON value with every non-finite number spelled out as a string."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    # a list of runs has tens of thousands of values: a call for each would take most of the answer
    if isinstance(value, dict):
        return {
            str(key): item
            if type(item) in PLAIN or (item.__class__ is float and item - item == 0)
            else finite(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [item if type(item) in PLAIN else finite(item) for item in value]
    return value


class Finite(dict[str, Any]):
    """Values of which somebody has seen already that all are finite."""


PLAIN = frozenset({str, int, bool, type(None), Finite})
"""What needs no second look. Of floats only the finite ones: infinity and NaN less themselves are
no 0."""


def connect(url: str, busy_seconds: float = BUSY_SECONDS) -> Engine:
    """An engine for the URL. An SQLite file's folder is made when it is missing.

    Whoever waits for SQLite's lock for longer than `busy_seconds` gets an OperationalError.
    """
    location = make_url(url)
    if location.get_backend_name() != "sqlite":
        return create_engine(location, pool_pre_ping=True)
    if location.database and location.database != ":memory:":
        Path(location.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(location, connect_args={"timeout": busy_seconds})
    event.listen(engine, "connect", prepare_sqlite)
    event.listen(engine, "begin", begin_sqlite)
    return engine


def prepare_sqlite(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    # the driver's own transactions off: it would begin late and deferred
    connection.isolation_level = None
    give_clock(connection)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
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
def limited(connection: Connection, seconds: float) -> Iterator[None]:
    """Within the block, what reads for longer than this fails with an OperationalError."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {round(seconds * 1000)}")
        yield
        return
    end = time.monotonic() + seconds
    raw = driver(connection)
    raw.set_progress_handler(lambda: time.monotonic() > end, PROGRESS_STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)


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


# -- an SQLite file as a whole: copied, examined, replaced ----------------------------------

LOOKING_BUSY_SECONDS = 5
LOCK_BYTES = (0x40000000, 512)
"""Where in the file SQLite's own locks lie, and how long they are: see its file format."""


def sqlite_file(url: str | URL) -> Path | None:
    """The file of an SQLite URL; None for a database in memory or on a server."""
    location = make_url(url)
    if location.get_backend_name() != "sqlite" or not location.database:
        return None
    return None if location.database.startswith((":memory:", "file:")) else Path(location.database)


def look(url: str) -> Engine:
    """An engine that makes and changes nothing, not even the journal mode."""
    location = make_url(url)
    if location.get_backend_name() != "sqlite":
        return create_engine(location, execution_options={"postgresql_readonly": True})
    file = sqlite_file(location)
    assert file is not None, f"{url} is in memory: there is nothing to look at"
    engine = create_engine("sqlite://", creator=lambda: looking(file), poolclass=NullPool)
    event.listen(engine, "begin", begin_sqlite)
    return engine


def looking(file: Path) -> sqlite3.Connection:
    """The driver's connection to a file that is there, which cannot write to it.

    What it leaves beside the file is what it found: a connection that may only read leaves the
    log it had to make, and one that may write moves the log it found into the file.
    """
    mode = "ro" if file.with_name(f"{file.name}-wal").exists() else "rw"
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=LOOKING_BUSY_SECONDS,
        isolation_level=None,
        # pools close a connection in whichever thread drops it
        check_same_thread=False,
    )
    connection.execute("PRAGMA query_only=ON")
    give_clock(connection)
    return connection


@contextmanager
def snapshot(file: Path) -> Iterator[sqlite3.Connection]:
    """One moment of the file, as long as the block lasts. Writers go on; their log grows."""
    with closing(looking(file)) as connection:
        connection.execute("BEGIN DEFERRED")
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        yield connection


def rows_per_table(connection: sqlite3.Connection) -> dict[str, int]:
    named = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    names = [name for (name,) in connection.execute(named).fetchall()]
    return {
        name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names
    }


def damage(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with the file; reads all of it. Empty when it is sound."""
    found = [line for (line,) in connection.execute("PRAGMA integrity_check(20)").fetchall()]
    if found != ["ok"]:
        return found
    dangling = connection.execute("PRAGMA foreign_key_check").fetchmany(20)
    return [f"row {row} of {table} refers to nothing in {to}" for table, row, to, _ in dangling]


def journal_mode(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def without_log(connection: sqlite3.Connection) -> None:
    """Move the write-ahead log into the file, and keep none. Fails while others have it open."""
    connection.execute("PRAGMA journal_mode=DELETE").fetchone()


@contextmanager
def alone(file: Path) -> Iterator[sqlite3.Connection]:
    """The only connection to the file, which is made if it is missing; its log is gone.

    Raises an OperationalError while any process has the file open, be it idle or frozen: in WAL
    mode each keeps a lock for as long as it has it open.
    """
    with closing(sqlite3.connect(file, timeout=2, isolation_level=None)) as connection:
        without_log(connection)
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        # taken by the transaction, kept after it
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        yield connection


@contextmanager
def alone_with_wreck(file: Path) -> Iterator[None]:
    """SQLite's own lock on a file that SQLite itself cannot read. Raises OSError when it is taken.

    POSIX frees it when this process closes the file anywhere: no connection to it in the block.
    """
    with file.open("r+b") as opened:
        start, length = LOCK_BYTES
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        yield


def keep_numbers(connection: sqlite3.Connection, least: Mapping[str, int]) -> None:
    """See to it that tables never again give a number up to this one."""
    for table, number in least.items():
        connection.execute(
            "INSERT INTO sqlite_sequence (name, seq) SELECT ?, 0 WHERE NOT EXISTS "
            "(SELECT 1 FROM sqlite_sequence WHERE name = ?)",
            (table, table),
        )
        connection.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (number, table)
        )


def given_numbers(connection: sqlite3.Connection) -> dict[str, int]:
    """The highest number that each table which never gives one twice has given."""
    return dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
