"""Order: which of the waiting runs comes first, and whether any is given out at all."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, update

from app.events import note_event, person
from app.finding import must_exist
from app.models import Asked, Status, news, queue_state, runs
from trainer.part import Refused
from trainer.store.database_clock import database_now

LOWEST, HIGHEST = -1000, 1000


def waiting_runs(connection: Connection) -> Sequence[Row[Any]]:
    """Number, name, priority, place of the runs that wait, in the order they are claimed in."""
    columns = (runs.c.id, runs.c.name, runs.c.priority, runs.c.place)
    query: Select[Any] = select(*columns).where(runs.c.status == Status.QUEUED)
    order = (runs.c.priority.desc(), runs.c.place, runs.c.id)
    return connection.execute(query.order_by(*order)).all()


def prioritise(connection: Connection, run_id: int, priority: int) -> None:
    """Give a run another priority. Higher ones go first; equal ones by their place."""
    if not LOWEST <= priority <= HIGHEST:
        raise Refused(f"a priority is from {LOWEST} to {HIGHEST}, not {priority}")
    put(connection, must_exist(connection, run_id), priority=priority)


def move(connection: Connection, run_id: int, position: int) -> None:
    """Put a waiting run where `position` runs (0: none) go before it.

    It takes the priority of its new neighbours where its own would not let it stand there.
    """
    run = must_exist(connection, run_id)
    must_wait(run)
    others = [row for row in waiting_runs(connection) if row.id != run_id]
    position = max(0, min(position, len(others)))
    before = others[position - 1] if position else None
    after = others[position] if position < len(others) else None
    if before is None and after is None:
        return
    priority = run.priority
    if after is not None:
        priority = max(priority, after.priority)
    if before is not None:
        priority = min(priority, before.priority)
    above = before.place if before is not None and before.priority == priority else None
    below = after.place if after is not None and after.priority == priority else None
    place = between(above, below, run.place)
    if place in (above, below):
        # the gap is used up, as floats are finite: space all out evenly and try again
        for number, row in enumerate(waiting_runs(connection)):
            connection.execute(update(runs).where(runs.c.id == row.id).values(place=number))
        move(connection, run_id, position)
        return
    put(connection, run, place=place, priority=priority)


def between(above: float | None, below: float | None, own: float) -> float:
    """A place after one and before another; either may be missing."""
    if above is None and below is None:
        return own
    if above is None:
        assert below is not None
        return below - 1
    return above + 1 if below is None else (above + below) / 2


def put(connection: Connection, run: Row[Any], **values: Any) -> None:
    moved = connection.execute(
        update(runs)
        .where(runs.c.id == run.id, runs.c.status == Status.QUEUED)
        .values(**values, **news())
    )
    if not moved.rowcount:
        must_wait(must_exist(connection, run.id))
    priority = values.get("priority", run.priority)
    text = f"priority {priority}" if priority != run.priority else ""
    note_event(connection, run.id, "moved", person(), text)


def must_wait(run: Row[Any]) -> None:
    if run.status != Status.QUEUED:
        raise Refused(f"run {run.id} is {run.status}; only a waiting run has a place in the queue")


# -- the whole queue ------------------------------------------------------------------------


def pause_queue(connection: Connection, *, running_too: bool, reason: str = "") -> list[int]:
    """Give out no more runs; with `running_too` those in hand save themselves and wait again.

    Of a queue that is paused already only the reason changes.

    The numbers of the runs that were asked to.
    """
    since = func.coalesce(queue_state.c.paused_at, database_now())
    connection.execute(
        update(queue_state).values(paused_at=since, changed_by=person(), reason=reason)
    )
    if not running_too:
        return []
    asked = connection.execute(
        update(runs)
        .where(runs.c.status == Status.RUNNING, runs.c.asked == Asked.NOTHING)
        .values(asked=Asked.GIVE_BACK, **news())
        .returning(runs.c.id)
    )
    numbers = sorted(asked.scalars())
    for run_id in numbers:
        note_event(connection, run_id, "asked to wait", person(), "the queue was paused")
    return numbers


def resume_queue(connection: Connection) -> None:
    """Give out runs again."""
    connection.execute(update(queue_state).values(paused_at=None, changed_by=person(), reason=""))


def queue_status(connection: Connection) -> Row[Any]:
    """Since when the queue is paused (None: it is not), by whom and why."""
    return connection.execute(select(queue_state)).one()
