"""The queue: every change of a run's status, each one guarded statement, and nothing else."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, exists, func, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.missing import RunMissing
from app.models import Asked, Status, run_events, runs, workers
from app.names import readable_name
from trainer.config import RunConfig
from trainer.part import Refused

PERSON = "person"


@dataclass(frozen=True)
class Claim:
    """A run that a worker took. The fence is its right to write: a later claim has a higher one."""

    run_id: int
    worker_id: int
    fence: int
    attempt: int
    config: RunConfig


class ClaimLost(Exception):
    """Another worker took the run over, or it was deleted; whoever held it may not write on."""


def now() -> float:
    """Unix seconds. Statuses never depend on it; leases do, see `requeue_lost`."""
    return time.time()


# -- what a person does ---------------------------------------------------------------------


def add(
    connection: Connection,
    config: RunConfig,
    *,
    name: str = "",
    recipe: str = "",
    note: str = "",
    priority: int = 0,
    parent_id: int | None = None,
    request_key: str | None = None,
) -> int:
    """Put a new run into the queue and give its number. Refuses a name that is taken."""
    if name:
        must_be_free(connection, name)
    result = connection.execute(
        insert(runs).values(
            name=name or f"unnamed-{time.time_ns()}",
            recipe=recipe,
            note=note,
            config=config.model_dump(mode="json"),
            request_key=request_key,
            status=Status.QUEUED,
            priority=priority,
            parent_id=parent_id,
            created_at=now(),
        )
    )
    assert result.inserted_primary_key is not None
    run_id = int(result.inserted_primary_key[0])
    if not name:
        connection.execute(
            update(runs).where(runs.c.id == run_id).values(name=free_name(connection, run_id))
        )
    note_event(connection, run_id, "queued", PERSON)
    return run_id


def add_once(
    connection: Connection, config: RunConfig, *, request_key: str | None, **more: Any
) -> tuple[int, bool]:
    """Add a run, unless one was added under this key; its number, and whether it is new.

    Refused when the key was used for another config.
    """
    if request_key is not None:
        known = select(runs.c.id, runs.c.config).where(runs.c.request_key == request_key)
        earlier = connection.execute(known).one_or_none()
        if earlier is not None:
            if RunConfig.model_validate(earlier.config) != config:
                raise Refused(
                    f"the key {request_key!r} was used for run {earlier.id}, which has another "
                    "config; use a new key for a new run"
                )
            return int(earlier.id), False
    return add(connection, config, request_key=request_key, **more), True


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


def ask(connection: Connection, run_id: int, asked: Asked) -> None:
    """Ask a run to pause, stop or cancel.

    A run that trains obeys at its next step; one that waits or is paused changes at once.
    Refused when the run is over, or when there is nothing to pause or stop.
    """
    run = must_exist(connection, run_id)
    if run.status == Status.RUNNING:
        moved = change(connection, run_id, [Status.RUNNING], asked=asked)
        if moved:
            note_event(connection, run_id, f"asked to {asked}", PERSON)
            return
    if asked == Asked.PAUSE and change(
        connection, run_id, [Status.QUEUED], status=Status.PAUSED, reason="paused before it began"
    ):
        note_event(connection, run_id, Status.PAUSED, PERSON)
    elif asked in (Asked.CANCEL, Asked.STOP) and change(
        connection,
        run_id,
        [Status.QUEUED, Status.PAUSED],
        status=Status.CANCELLED,
        reason="cancelled while it waited",
        ended_at=now(),
    ):
        note_event(connection, run_id, Status.CANCELLED, PERSON)
    else:
        raise Refused(f"run {run_id} is {run.status}; there is nothing to {asked}")


def resume(connection: Connection, run_id: int) -> None:
    """Put a paused run back into the queue, to go on from its checkpoint."""
    run = must_exist(connection, run_id)
    if not change(
        connection, run_id, [Status.PAUSED], status=Status.QUEUED, reason="", asked=Asked.NOTHING
    ):
        raise Refused(f"run {run_id} is {run.status}; only a paused run can be resumed")
    note_event(connection, run_id, "resumed", PERSON)


def rename(connection: Connection, run_id: int, name: str) -> None:
    run = must_exist(connection, run_id)
    if name != run.name:
        must_be_free(connection, name)
    connection.execute(update(runs).where(runs.c.id == run_id).values(name=name, **news()))
    note_event(connection, run_id, "renamed", PERSON, name)


def annotate(connection: Connection, run_id: int, note: str) -> None:
    must_exist(connection, run_id)
    connection.execute(update(runs).where(runs.c.id == run_id).values(note=note, **news()))
    note_event(connection, run_id, "noted", PERSON)


def remove(connection: Connection, run_id: int) -> None:
    """Delete a run and all it recorded. Refused while a worker trains it."""
    must_exist(connection, run_id)
    gone = connection.execute(
        delete(runs).where(runs.c.id == run_id, runs.c.status != Status.RUNNING)
    )
    if not gone.rowcount:
        raise Refused(f"run {run_id} is running; cancel it first")


# -- what a worker does ---------------------------------------------------------------------


def claim(connection: Connection, worker_id: int, run_id: int | None = None) -> Claim | None:
    """Take the next queued run, or one in particular; None when there is none.

    Atomic: two workers never get the same run.
    """
    wanted = runs.c.status == Status.QUEUED
    if run_id is not None:
        wanted &= runs.c.id == run_id
    oldest = select(runs.c.id).where(wanted).order_by(runs.c.priority.desc(), runs.c.id).limit(1)
    row = connection.execute(
        update(runs)
        .where(runs.c.id == for_one_worker(connection, oldest), runs.c.status == Status.QUEUED)
        .values(
            status=Status.RUNNING,
            reason="",
            asked=Asked.NOTHING,
            worker_id=worker_id,
            fence=runs.c.fence + 1,
            attempt=runs.c.attempt + 1,
            started_at=func.coalesce(runs.c.started_at, now()),
            **news(),
        )
        .returning(runs.c.id, runs.c.fence, runs.c.attempt, runs.c.config)
    ).one_or_none()
    if row is None:
        return None
    note_event(connection, row.id, Status.RUNNING, f"worker {worker_id}", f"attempt {row.attempt}")
    return Claim(row.id, worker_id, row.fence, row.attempt, RunConfig.model_validate(row.config))


def for_one_worker(connection: Connection, query: Select[Any]) -> ColumnElement[Any]:
    """Where several may write at once, pass over rows that another worker is taking."""
    if connection.dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True)
    return query.scalar_subquery()


def report(connection: Connection, held: Claim, **values: Any) -> Asked:
    """Write how far a run is, and learn what is asked of it. Raises ClaimLost."""
    asked = connection.execute(
        update(runs).where(still_held(held)).values(**values, **news()).returning(runs.c.asked)
    ).scalar_one_or_none()
    if asked is None:
        raise ClaimLost(f"run {held.run_id} is no longer held under fence {held.fence}")
    return Asked(asked)


def conclude(
    connection: Connection,
    held: Claim,
    status: Status,
    reason: str = "",
    result: Mapping[str, Any] | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """End a run, or pause it. Raises ClaimLost when it is not this claim's to end."""
    values: dict[str, Any] = {"status": status, "reason": reason, "asked": Asked.NOTHING}
    if result is not None:
        values |= {"result": result, "evidence": evidence}
    if status.is_over:
        values["ended_at"] = now()
    ended = connection.execute(
        update(runs).where(still_held(held)).values(**values, worker_id=None, **news())
    )
    if not ended.rowcount:
        raise ClaimLost(f"run {held.run_id} is no longer held under fence {held.fence}")
    note_event(connection, held.run_id, status, f"worker {held.worker_id}", reason)


def asked(connection: Connection, held: Claim) -> Asked:
    """What is asked of a run, without writing anything. Raises ClaimLost."""
    answer = connection.execute(select(runs.c.asked).where(still_held(held))).scalar_one_or_none()
    if answer is None:
        raise ClaimLost(f"run {held.run_id} is no longer held under fence {held.fence}")
    return Asked(answer)


def ask_to_give_back(connection: Connection, held: Claim) -> None:
    """Ask a run to save itself and wait again, as its worker is being stopped."""
    connection.execute(
        update(runs)
        .where(still_held(held), runs.c.asked == Asked.NOTHING)
        .values(asked=Asked.GIVE_BACK, **news())
    )


def give_back(connection: Connection, held: Claim, why: str) -> None:
    """Put a run that was asked to back into the queue. Its attempt does not count."""
    moved = connection.execute(
        update(runs)
        .where(still_held(held))
        .values(
            status=Status.QUEUED,
            reason=why,
            asked=Asked.NOTHING,
            worker_id=None,
            attempt=runs.c.attempt - 1,
            **news(),
        )
    )
    if not moved.rowcount:
        raise ClaimLost(f"run {held.run_id} is no longer held under fence {held.fence}")
    note_event(connection, held.run_id, Status.QUEUED, f"worker {held.worker_id}", why)


def requeue(connection: Connection, run_id: int, fence: int, why: str, max_attempts: int) -> Status:
    """Give back a run whose process or worker is gone: queued again, or failed after enough tries.

    What a person asked of it meanwhile is done instead. The fence makes it happen once, however
    many notice.
    """
    mine = (runs.c.id == run_id) & (runs.c.fence == fence) & (runs.c.status == Status.RUNNING)
    tried_enough = runs.c.attempt >= max_attempts
    to_end = runs.c.asked.in_([Asked.CANCEL, Asked.STOP])
    for condition, status, reason in (
        (to_end, Status.CANCELLED, f"{why}; cancelled, as was asked"),
        (runs.c.asked == Asked.PAUSE, Status.PAUSED, f"{why}; paused, as was asked"),
        (tried_enough, Status.FAILED, f"{why}; given up after {max_attempts} attempts"),
        (~tried_enough, Status.QUEUED, f"{why}; queued again"),
    ):
        moved = connection.execute(
            update(runs)
            .where(mine, condition)
            .values(
                status=status,
                reason=reason,
                asked=Asked.NOTHING,
                worker_id=None,
                # the lost process must not write on, even before somebody claims the run anew
                fence=runs.c.fence + 1,
                ended_at=now() if status.is_over else None,
                **news(),
            )
        )
        if moved.rowcount:
            note_event(connection, run_id, status, "queue", reason)
            return status
    raise ClaimLost(f"run {run_id} is no longer held under fence {fence}")


def requeue_lost(connection: Connection, lease_seconds: float, max_attempts: int) -> list[int]:
    """Give back the runs of workers that ended, or that gave no sign for a lease's length."""
    silent = workers.c.seen_at < now() - lease_seconds
    lost = connection.execute(
        select(runs.c.id, runs.c.fence, runs.c.step, workers.c.id.label("worker_id"))
        .select_from(runs.outerjoin(workers, workers.c.id == runs.c.worker_id))
        .where(
            runs.c.status == Status.RUNNING,
            workers.c.id.is_(None) | workers.c.ended_at.is_not(None) | silent,
        )
    ).all()
    for run in lost:
        why = f"worker {run.worker_id} was lost at step {run.step}"
        requeue(connection, run.id, run.fence, why, max_attempts)
    return [run.id for run in lost]


# -- shared ---------------------------------------------------------------------------------


def change(connection: Connection, run_id: int, leaving: Sequence[Status], **values: Any) -> bool:
    """Change a run that is in one of these statuses; False when it is in none of them any more."""
    moved = connection.execute(
        update(runs)
        .where(runs.c.id == run_id, runs.c.status.in_(leaving))
        .values(**values, **news())
    )
    return moved.rowcount == 1


def still_held(held: Claim) -> ColumnElement[bool]:
    return (
        (runs.c.id == held.run_id)
        & (runs.c.fence == held.fence)
        & (runs.c.status == Status.RUNNING)
    )


def news() -> dict[str, Any]:
    """Every change of a run raises its version: what live pages watch."""
    return {"version": runs.c.version + 1}


def must_exist(connection: Connection, run_id: int) -> Row[Any]:
    run = connection.execute(select(runs).where(runs.c.id == run_id)).one_or_none()
    if run is None:
        raise RunMissing(run_id)
    return run


def find(connection: Connection, reference: str) -> int:
    """The number of a run given by number or by name. Raises RunMissing."""
    by_number = reference.isdecimal() and len(reference) < 19
    wanted = runs.c.id == int(reference) if by_number else runs.c.name == reference
    run_id = connection.execute(select(runs.c.id).where(wanted)).scalar_one_or_none()
    if run_id is None:
        raise RunMissing(reference)
    return int(run_id)


def events(connection: Connection, run_id: int) -> Sequence[Row[Any]]:
    """Every event of a run, oldest first."""
    query = select(run_events).where(run_events.c.run_id == run_id)
    return connection.execute(query.order_by(run_events.c.id)).all()


def note_event(connection: Connection, run_id: int, kind: str, by: str, text: str = "") -> None:
    connection.execute(
        insert(run_events).values(run_id=run_id, at=now(), kind=kind, by=by, text=text)
    )
