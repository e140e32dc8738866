"""The database's clock: the one that leases and events go by, whoever writes them."""

import sqlite3
from typing import Any

from sqlalchemy import Double
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from trainer.failpoints import wall_clock


class database_now(FunctionElement[float]):
    """Unix seconds by the clock of the machine the database is on."""

    name = "database_now"
    type = Double()
    inherit_cache = True


@compiles(database_now)
def on_a_server(element: database_now, compiler: Any, **more: Any) -> str:
    # not now(): that stands still for the length of a transaction
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


@compiles(database_now, "sqlite")
def in_a_file(element: database_now, compiler: Any, **more: Any) -> str:
    return "database_now()"


def give_clock(connection: sqlite3.Connection) -> None:
    """SQLite has no machine of its own; its own clock before 3.42 knows whole seconds only."""
    connection.create_function("database_now", 0, wall_clock)
