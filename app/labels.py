"""Labels: what a person writes on a run: its name, its note, and that it is put away."""

import itertools

from sqlalchemy import Connection, exists, select, update

from app.events import note_event, person
from app.finding import must_exist
from app.models import Status, news, runs
from app.names import readable_name
from trainer.part import Refused
from trainer.store.database_clock import database_now


def rename(connection: Connection, run_id: int, name: str) -> None:
    run = must_exist(connection, run_id)
    if name != run.name:
        must_be_free(connection, name)
    connection.execute(update(runs).where(runs.c.id == run_id).values(name=name, **news()))
    note_event(connection, run_id, "renamed", person(), name)


def annotate(connection: Connection, run_id: int, note: str) -> None:
    must_exist(connection, run_id)
    connection.execute(update(runs).where(runs.c.id == run_id).values(note=note, **news()))
    note_event(connection, run_id, "noted", person())


def archive(connection: Connection, run_id: int) -> None:
    """Put a run away: lists leave it out. Refused while it waits or trains."""
    run = must_exist(connection, run_id)
    over = runs.c.status.in_([status for status in Status if status.is_over])
    moved = connection.execute(
        update(runs)
        .where(runs.c.id == run_id, over, runs.c.archived_at.is_(None))
        .values(archived_at=database_now(), **news())
    )
    if not moved.rowcount:
        if run.archived_at is not None:
            raise Refused(f"run {run_id} is archived already")
        raise Refused(f"run {run_id} is {run.status}; only a run that is over can be archived")
    note_event(connection, run_id, "archived", person())


def unarchive(connection: Connection, run_id: int) -> None:
    """Put a run back where lists show it."""
    must_exist(connection, run_id)
    moved = connection.execute(
        update(runs)
        .where(runs.c.id == run_id, runs.c.archived_at.is_not(None))
        .values(archived_at=None, **news())
    )
    if not moved.rowcount:
        raise Refused(f"run {run_id} is not archived")
    note_event(connection, run_id, "unarchived", person())


def must_be_free(connection: Connection, name: str) -> None:
    if name.isdecimal():
        raise Refused(f"the name {name!r} would be taken for a run's number; add a letter")
    if name_is_taken(connection, name):
        raise Refused(f"a run named {name!r} exists already; choose another name")


def free_name(connection: Connection, run_id: int) -> str:
    """A readable name for a run; another one where a person gave it to a run of theirs."""
    names = (readable_name(run_id, draw) for draw in itertools.count())
    return next(name for name in names if not name_is_taken(connection, name))


def name_is_taken(connection: Connection, name: str) -> bool:
    return bool(connection.execute(select(exists().where(runs.c.name == name))).scalar())
