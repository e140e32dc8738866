"""Connections: how a request gets at the database, as FastAPI dependencies."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Path, Request
from sqlalchemy import Connection, Engine

from app import finding
from app.names import Storable
from app.settings import Settings
from trainer.store.database import limited, reading, writing

QUERY_SECONDS = 30.0
"""How long the reading of one request may take; it holds up others beside it."""
READERS, WRITERS = 8, 4
"""Requests at the database at the same time: together fewer than the engine has connections."""


# what only looks something up is async: each plain function would cost a change of threads
async def the_engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def the_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def read(engine: Annotated[Engine, Depends(the_engine)]) -> Iterator[Connection]:
    with reading(engine) as connection, limited(connection, QUERY_SECONDS):
        yield connection


def write(engine: Annotated[Engine, Depends(the_engine)]) -> Iterator[Connection]:
    with writing(engine) as connection:
        yield connection


# "function": committed before the answer goes out, so that whoever reads it can rely on it.
# Those over the limit wait without a thread; otherwise they could take every thread while they
# wait for a connection or the lock, and leave none to whoever has it.
Reading = Annotated[Connection, Depends(read, scope="function", max_concurrency=READERS)]
Writing = Annotated[Connection, Depends(write, scope="function", max_concurrency=WRITERS)]
AnEngine = Annotated[Engine, Depends(the_engine)]
TheSettings = Annotated[Settings, Depends(the_settings)]
Reference = Annotated[str, Path(max_length=200, description="Number or name of a run."), Storable]


def run_number(run: Reference, connection: Reading) -> int:
    """The number of the run in the address. Raises RunMissing."""
    return finding.find(connection, run)


RunNumber = Annotated[int, Depends(run_number)]
