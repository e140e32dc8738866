"""The queue: every change of a run's status, each one guarded statement, and nothing else.

A statement names the status it leaves and, where a worker speaks, the fence it holds; an event
says who did it, when and why.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Select, delete, exists, func, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.events import QUEUE, note_event, person
from app.finding import must_exist
from app.labels import free_name, must_be_free
from app.models import Asked, Status, news, queue_state, runs, workers
from app.trick_use import trick_names
from trainer.config import RunConfig
from trainer.failures import Cause, Failure
from trainer.part import Refused
from trainer.store.database_clock import database_now


@dataclass(frozen=True)
class Claim:
    """A run that a worker took. The fence is its right to write: a later claim has a higher one."""

    run_id: int
    worker_id: int
    fence: int
    attempt: int
    config: RunConfig
    device: str = "cpu"

    @property
    def holder(self) -> str:
        return f"worker {self.worker_id}"


class ClaimLost(Exception):
    """Another worker took the run over, or it was deleted; whoever held it may not write on."""


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
    why: str = "",
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
            trick_names=trick_names(config),
            wanted_device=config.device,
            request_key=request_key,
            status=Status.QUEUED,
            priority=priority,
            parent_id=parent_id,
            created_at=database_now(),
        )
    )
    assert result.inserted_primary_key is not None
    run_id = int(result.inserted_primary_key[0])
    named = name or free_name(connection, run_id)
    connection.execute(update(runs).where(runs.c.id == run_id).values(name=named, place=run_id))
    note_event(connection, run_id, Status.QUEUED, person(), why)
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


def ask(connection: Connection, run_id: int, asked: Asked) -> None:
    """Ask a run to pause, stop or cancel.

    A run that trains obeys at its next step; one that waits or is paused changes at once.
    Refused when the run is over, or when there is nothing to pause or stop.
    """
    run = must_exist(connection, run_id)
    running = runs.c.status == Status.RUNNING
    if change(connection, run_id, running, f"asked to {asked}", asked=asked):
        return
    if asked == Asked.PAUSE:
        reason = "paused before it began" if not run.step else f"paused at step {run.step}"
        moved = change(
            connection,
            run_id,
            runs.c.status == Status.QUEUED,
            Status.PAUSED,
            status=Status.PAUSED,
            reason=reason,
        )
    else:
        moved = change(
            connection,
            run_id,
            runs.c.status.in_([Status.QUEUED, Status.PAUSED]),
            Status.CANCELLED,
            status=Status.CANCELLED,
            reason="cancelled while it waited",
            cause="",
            failure=None,
            ended_at=database_now(),
        )
    if not moved:
        raise Refused(f"run {run_id} is {run.status}; there is nothing to {asked}")


def resume(connection: Connection, run_id: int) -> None:
    """Put a paused run back into the queue, to go on from its checkpoint."""
    run = must_exist(connection, run_id)
    if not change(connection, run_id, runs.c.status == Status.PAUSED, "resumed", **waiting_again()):
        raise Refused(f"run {run_id} is {run.status}; only a paused run can be resumed")


def retry(connection: Connection, run_id: int) -> None:
    """Put a failed or cancelled run back into the queue, to go on from its last checkpoint."""
    run = must_exist(connection, run_id)
    over = runs.c.status.in_([Status.FAILED, Status.CANCELLED])
    if not change(
        connection, run_id, over, "retried", ended_at=None, archived_at=None, **waiting_again()
    ):
        raise Refused(
            f"run {run_id} is {run.status}; only a failed or cancelled run can be retried"
        )


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
    """Take the next run that this worker may train, or one in particular; None if there is none.

    Atomic: two workers never get the same run. A paused queue gives out only a run that is named.
    """
    device = connection.execute(select(workers.c.device).filter_by(id=worker_id)).scalar_one()
    if run_id is not None:
        wanted = runs.c.id == run_id
    else:
        wanted = for_device(worker_id, device) & ~is_paused()
    waiting = runs.c.status == Status.QUEUED
    order = (runs.c.priority.desc(), runs.c.place, runs.c.id)
    following = select(runs.c.id).where(waiting, wanted).order_by(*order).limit(1)
    row = connection.execute(
        update(runs)
        .where(runs.c.id == for_one_worker(connection, following), waiting)
        .values(
            status=Status.RUNNING,
            reason="",
            asked=Asked.NOTHING,
            worker_id=worker_id,
            fence=runs.c.fence + 1,
            attempt=runs.c.attempt + 1,
            tries=runs.c.tries + 1,
            started_at=func.coalesce(runs.c.started_at, database_now()),
            activity="starting",
            moved_at=database_now(),
            **news(),
        )
        .returning(runs.c.id, runs.c.fence, runs.c.attempt, runs.c.config)
    ).one_or_none()
    if row is None:
        return None
    by = f"worker {worker_id}"
    note_event(connection, row.id, Status.RUNNING, by, f"attempt {row.attempt} on {device}")
    try:
        config = RunConfig.model_validate(row.config)
    except ValidationError as invalid:
        held = Claim(row.id, worker_id, row.fence, row.attempt, RunConfig(), device)
        reason = "its config does not fit this version of Tricklab: " + said(invalid)
        fail(connection, held, Failure(Cause.REFUSED, reason))
        return claim(connection, worker_id, run_id)
    return Claim(row.id, worker_id, row.fence, row.attempt, config, device)


def said(invalid: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in invalid.errors()[:3])


def for_device(
    worker_id: int, device: str, wanted: ColumnElement[Any] = runs.c.wanted_device
) -> ColumnElement[bool]:
    """What a worker may take: what wants its device, its kind, or whichever is best."""
    kind = device.partition(":")[0]
    mine = wanted.in_([device, kind])
    anywhere = wanted == "auto"
    if kind == "cpu":
        # auto means the CPU only where there is nothing faster
        faster = workers.c.ended_at.is_(None) & (workers.c.device != "cpu")
        anywhere &= ~exists(select(workers.c.id).where(faster))
    return or_(mine, anywhere)


def is_paused() -> ColumnElement[bool]:
    return exists(select(queue_state.c.id).where(queue_state.c.paused_at.is_not(None)))


def for_one_worker(connection: Connection, query: Select[Any]) -> ColumnElement[Any]:
    """Where several may write at once, pass over rows that another worker is taking."""
    if connection.dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True)
    return query.scalar_subquery()


def report(connection: Connection, held: Claim, **values: Any) -> Asked:
    """Write how far a run is, and learn what is asked of it. Raises ClaimLost."""
    asked = connection.execute(
        update(runs)
        .where(still_held(held))
        .values(**values, moved_at=database_now(), **news())
        .returning(runs.c.asked)
    ).scalar_one_or_none()
    return Asked(must_be_held(asked, held))


def asked(connection: Connection, held: Claim) -> Asked:
    """What is asked of a run, without writing anything. Raises ClaimLost."""
    answer = connection.execute(select(runs.c.asked).where(still_held(held))).scalar_one_or_none()
    return Asked(must_be_held(answer, held))


def say(connection: Connection, held: Claim, activity: str) -> None:
    """Write what the run's process waits for, without counting that as getting on."""
    connection.execute(update(runs).where(still_held(held)).values(activity=activity, **news()))


def conclude(
    connection: Connection,
    held: Claim,
    status: Status,
    reason: str = "",
    result: Mapping[str, Any] | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """End a run, or pause it. Raises ClaimLost when it is not this claim's to end."""
    values: dict[str, Any] = {"status": status, "reason": reason, "cause": "", "failure": None}
    if result is not None:
        values |= {"result": result, "evidence": evidence}
    release(connection, held, status, reason, **values)


def fail(connection: Connection, held: Claim, failure: Failure) -> None:
    """End a run by a named failure; a full disk only pauses it. Raises ClaimLost."""
    status = Status.PAUSED if failure.cause == Cause.DISK_FULL else Status.FAILED
    told = {"cause": failure.cause, "failure": dict(failure.details)}
    release(connection, held, status, failure.reason, status=status, reason=failure.reason, **told)


def ask_to_give_back(connection: Connection, held: Claim) -> None:
    """Ask a run to save itself and wait again, as its worker is being stopped."""
    nothing_asked = runs.c.asked == Asked.NOTHING
    connection.execute(
        update(runs).where(still_held(held), nothing_asked).values(asked=Asked.GIVE_BACK, **news())
    )


def give_back(connection: Connection, held: Claim, why: str) -> None:
    """Put a run that was asked to back into the queue. Raises ClaimLost."""
    release(connection, held, Status.QUEUED, why, status=Status.QUEUED, reason=why, tries=0)


def release(
    connection: Connection, held: Claim, kind: Status, why: str, status: Status, **values: Any
) -> None:
    if status.is_over:
        values["ended_at"] = database_now()
    left = {"asked": Asked.NOTHING, "worker_id": None, "activity": ""}
    moved = change(
        connection, held.run_id, still_held(held), kind, held.holder, why,
        status=status, **left, **values,
    )  # fmt: skip
    must_be_held(moved or None, held)


def requeue(connection: Connection, run_id: int, fence: int, why: str, max_attempts: int) -> Status:
    """Give back a run whose process or worker is gone: queued again, or failed after enough tries
    without a new checkpoint. What a person asked of it meanwhile is done instead.

    The fence makes it happen once, however many notice. Raises ClaimLost.
    """
    mine = (runs.c.id == run_id) & (runs.c.fence == fence) & (runs.c.status == Status.RUNNING)
    tried_enough = runs.c.tries >= max_attempts
    to_end = runs.c.asked.in_([Asked.CANCEL, Asked.STOP])
    for condition, status, reason in (
        (to_end, Status.CANCELLED, f"{why}; cancelled, as was asked"),
        (runs.c.asked == Asked.PAUSE, Status.PAUSED, f"{why}; paused, as was asked"),
        (tried_enough, Status.FAILED, f"{why}; given up after {max_attempts} tries"),
        (~tried_enough, Status.QUEUED, f"{why}; queued again"),
    ):
        values: dict[str, Any] = {"ended_at": database_now() if status.is_over else None}
        if status == Status.FAILED:
            values |= {"cause": Cause.LOST, "failure": {"tries": max_attempts}}
        if change(
            connection, run_id, mine & condition, status, QUEUE, reason,
            status=status, reason=reason, asked=Asked.NOTHING, worker_id=None, activity="",
            # the lost process must not write on, even before somebody claims the run anew
            fence=runs.c.fence + 1, **values,
        ):  # fmt: skip
            return status
    raise ClaimLost(f"run {run_id} is no longer held under fence {fence}")


# -- shared ---------------------------------------------------------------------------------


def change(
    connection: Connection,
    run_id: int,
    leaving: ColumnElement[bool],
    kind: str,
    by: str = "",
    why: str = "",
    **values: Any,
) -> bool:
    """One guarded change of a run with its event; False when the guard no longer holds."""
    moved = connection.execute(
        update(runs).where(runs.c.id == run_id, leaving).values(**values, **news())
    )
    if moved.rowcount:
        note_event(connection, run_id, kind, by or person(), why)
    return bool(moved.rowcount)


def waiting_again() -> dict[str, Any]:
    return {
        "status": Status.QUEUED,
        "reason": "",
        "cause": "",
        "failure": None,
        "asked": Asked.NOTHING,
        "tries": 0,
    }


def still_held(held: Claim) -> ColumnElement[bool]:
    return (
        (runs.c.id == held.run_id)
        & (runs.c.fence == held.fence)
        & (runs.c.status == Status.RUNNING)
    )


def must_be_latest(connection: Connection, held: Claim) -> None:
    """Raises ClaimLost when the run was taken over; not when it is over, as last words may be."""
    mine = (runs.c.id == held.run_id) & (runs.c.fence == held.fence)
    must_be_held(connection.execute(select(runs.c.id).where(mine)).scalar_one_or_none(), held)


def must_be_held(found: Any, held: Claim) -> Any:
    if found is None:
        raise ClaimLost(f"run {held.run_id} is no longer held under fence {held.fence}")
    return found
