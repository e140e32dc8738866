"""The desk: every change of an inquiry's status, each one guarded statement.

As `app.queue` does for runs: a statement names the status it leaves and, where a worker speaks, the
fence it holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.events import person
from app.missing import NotThere
from app.models import Status, inquiries, runs, workers
from app.queue import for_device, for_one_worker
from trainer.failures import Failure
from trainer.inquiries import Inquiry
from trainer.part import Refused, name_of
from trainer.store.database_clock import database_now

MOST_WAITING = 100
KEPT = 1000
"""Inquiries about nothing in particular, once over, are forgotten from the thousandth on."""
KEPT_ABOUT_RUNS = 10_000
"""Those about runs, which go with their run, from the ten thousandth on: evidence stays longer than
a lesson that somebody played with."""
MOST_CLAIMS = 2
"""An inquiry whose worker was lost is tried once more: perhaps it is what ends workers."""


class State(StrEnum):
    """Where an inquiry stands."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TooManyWait(Refused):
    """So many inquiries wait already that another would wait for ever."""


@dataclass(frozen=True)
class Errand:
    """An inquiry that a worker took. The fence is its right to write."""

    inquiry_id: int
    worker_id: int
    fence: int
    request: Mapping[str, Any]
    device: str


class ErrandLost(Exception):
    """The inquiry is somebody else's now, or over; whoever held it may not write on."""


# -- what a person does ---------------------------------------------------------------------


def add(connection: Connection, inquiry: Inquiry, run_id: int | None = None) -> int:
    """Ask a question, perhaps about a run; its number. Raises TooManyWait."""
    waiting = select(func.count()).select_from(inquiries).where(waits())
    if connection.execute(waiting).scalar_one() >= MOST_WAITING:
        raise TooManyWait(f"{MOST_WAITING} questions wait already; cancel some or ask later")
    forget_old(connection)
    added = connection.execute(
        insert(inquiries).values(
            kind=name_of(type(inquiry)),
            request=inquiry.model_dump(mode="json"),
            status=State.QUEUED,
            by=person(),
            run_id=run_id,
            alone=int(inquiry.needs_device_alone),
            wanted_device=inquiry.device,
            created_at=database_now(),
        )
    )
    assert added.inserted_primary_key is not None
    return int(added.inserted_primary_key[0])


def cancel(connection: Connection, inquiry_id: int) -> None:
    """End an inquiry; one that is being answered ends within seconds. Refused when it is over."""
    own = inquiries.c.id == inquiry_id
    if connection.execute(update(inquiries).where(own, waits()).values(**cancelled())).rowcount:
        return
    asked = update(inquiries).where(own, is_answered()).values(asked="cancel")
    if not connection.execute(asked).rowcount:
        found = find(connection, inquiry_id)
        raise Refused(f"inquiry {inquiry_id} is {found.status}; there is nothing to cancel")


def find(connection: Connection, inquiry_id: int) -> Row[Any]:
    """One inquiry. Raises NotThere."""
    row = connection.execute(select(inquiries).where(inquiries.c.id == inquiry_id)).one_or_none()
    if row is None:
        raise NotThere(f"there is no inquiry {inquiry_id}")
    return row


def newest_about(connection: Connection, run_id: int) -> dict[str, Row[Any]]:
    """The last inquiry of each kind that was asked about a run, by its kind."""
    newest = select(func.max(inquiries.c.id)).where(inquiries.c.run_id == run_id)
    query = select(inquiries).where(inquiries.c.id.in_(newest.group_by(inquiries.c.kind)))
    return {row.kind: row for row in connection.execute(query)}


def newest_answers(connection: Connection, kind: str, run_ids: Sequence[int]) -> dict[int, Any]:
    """Of each of these runs the last answer of a kind, where there is one."""
    own = (inquiries.c.run_id.in_(run_ids), inquiries.c.kind == kind)
    finished = inquiries.c.status == State.FINISHED
    newest = select(func.max(inquiries.c.id)).where(*own, finished).group_by(inquiries.c.run_id)
    query = select(inquiries.c.run_id, inquiries.c.answer).where(inquiries.c.id.in_(newest))
    return {row.run_id: row.answer for row in connection.execute(query)}


def forget_old(connection: Connection) -> None:
    about_none = inquiries.c.run_id.is_(None)
    for which, kept in ((about_none, KEPT), (~about_none, KEPT_ABOUT_RUNS)):
        over = inquiries.c.ended_at.is_not(None) & which
        newest = select(inquiries.c.id).where(over).order_by(inquiries.c.id.desc())
        oldest_kept = newest.offset(kept).limit(1).scalar_subquery()
        connection.execute(delete(inquiries).where(over, inquiries.c.id <= oldest_kept))


def waits() -> ColumnElement[bool]:
    return inquiries.c.status == State.QUEUED


# -- what a worker does ---------------------------------------------------------------------


def is_waiting(connection: Connection, worker_id: int, *, alone: bool) -> bool:
    """Whether a worker would get one; looked at before the database is locked for a claim."""
    return connection.execute(following(connection, worker_id, alone)).first() is not None


def following(connection: Connection, worker_id: int, alone: bool) -> Select[Any]:
    """The oldest inquiry that waits for one like this worker."""
    device = device_of(connection, worker_id)
    wanted = for_device(worker_id, device, inquiries.c.wanted_device)
    mine = select(inquiries.c.id).where(waits(), wanted, inquiries.c.alone == int(alone))
    return mine.order_by(inquiries.c.id).limit(1)


def device_of(connection: Connection, worker_id: int) -> str:
    query = select(workers.c.device).filter_by(id=worker_id)
    device: str = connection.execute(query).scalar_one()
    return device


def claim(connection: Connection, worker_id: int, *, alone: bool) -> Errand | None:
    """Take the oldest inquiry that this worker may answer, or None. Atomic."""
    device = device_of(connection, worker_id)
    oldest = for_one_worker(connection, following(connection, worker_id, alone))
    row = connection.execute(
        update(inquiries)
        .where(inquiries.c.id == oldest, waits())
        .values(
            status=State.RUNNING,
            worker_id=worker_id,
            device=device,
            fence=inquiries.c.fence + 1,
            beside_run=trained_by(worker_id).scalar_subquery(),
            started_at=database_now(),
            doing="starting",
            share=0.0,
            answer=None,
            asked="",
        )
        .returning(inquiries.c.id, inquiries.c.fence, inquiries.c.request)
    ).one_or_none()
    return None if row is None else Errand(row.id, worker_id, row.fence, row.request, device)


def trained_by(worker_id: int) -> Select[Any]:
    """The run that a worker has trained at this moment."""
    running = runs.c.status == Status.RUNNING
    return select(runs.c.id).where(running, runs.c.worker_id == worker_id).limit(1)


def report(
    connection: Connection,
    held: Errand,
    share: float,
    doing: str,
    so_far: Mapping[str, Any] | None,
) -> bool:
    """Write how far the answer is; whether somebody wants it still. Raises ErrandLost."""
    known = {} if so_far is None else {"answer": dict(so_far)}
    asked = connection.execute(
        update(inquiries)
        .where(still_held(held))
        .values(share=share, doing=doing, **known)
        .returning(inquiries.c.asked)
    ).scalar_one_or_none()
    return is_wanted(asked, held)


def look(connection: Connection, held: Errand) -> bool:
    """Whether somebody wants the answer still. Raises ErrandLost."""
    query = select(inquiries.c.asked).where(still_held(held))
    return is_wanted(connection.execute(query).scalar_one_or_none(), held)


def is_wanted(asked: str | None, held: Errand) -> bool:
    if asked is None:
        raise ErrandLost(f"inquiry {held.inquiry_id} is over, or another worker's")
    return asked != "cancel"


def conclude(connection: Connection, held: Errand, answer: Mapping[str, Any]) -> None:
    """Give the answer, and say in it which run was trained beside. Raises ErrandLost."""
    began_beside = select(inquiries.c.beside_run).where(still_held(held))
    beside = connection.execute(began_beside).scalar_one_or_none()
    # it may have begun while the answer was sought
    beside = beside or connection.execute(trained_by(held.worker_id)).scalar_one_or_none()
    told = {**answer, "beside_run": beside}
    end(connection, held, State.FINISHED, answer=told, beside_run=beside, share=1.0, doing="")


def fail(connection: Connection, held: Errand, failure: Failure) -> None:
    """End without an answer, by a named failure. Raises ErrandLost."""
    end(connection, held, State.FAILED, reason=failure.reason, cause=failure.cause)


def withdraw(connection: Connection, held: Errand) -> None:
    """End as was asked. Raises ErrandLost."""
    end(connection, held, State.CANCELLED, reason="cancelled")


def give_back(
    connection: Connection, inquiry_id: int, fence: int, why: str, *, is_lost: bool = True
) -> None:
    """Let another worker answer, if somebody wants it still; one lost again and again fails."""
    own = (inquiries.c.id == inquiry_id) & (inquiries.c.fence == fence) & is_answered()
    to_end = inquiries.c.asked == "cancel"
    if connection.execute(update(inquiries).where(own, to_end).values(**cancelled())).rowcount:
        return
    values: dict[str, Any] = {"status": State.QUEUED, "worker_id": None, "doing": "", "share": 0.0}
    if is_lost and fence >= MOST_CLAIMS:
        values = {
            "status": State.FAILED,
            "cause": "lost",
            "reason": why,
            "ended_at": database_now(),
        }
    connection.execute(update(inquiries).where(own).values(**values))


def cancelled() -> dict[str, Any]:
    return {"status": State.CANCELLED, "ended_at": database_now(), "reason": "cancelled"}


def is_answered() -> ColumnElement[bool]:
    return inquiries.c.status == State.RUNNING


def end(connection: Connection, held: Errand, state: State, **values: Any) -> None:
    ended = connection.execute(
        update(inquiries)
        .where(still_held(held))
        .values(status=state, ended_at=database_now(), **values)
    )
    if not ended.rowcount:
        raise ErrandLost(f"inquiry {held.inquiry_id} is over, or another worker's")


def still_held(held: Errand) -> ColumnElement[bool]:
    return (inquiries.c.id == held.inquiry_id) & (inquiries.c.fence == held.fence) & is_answered()


def give_back_orphans(connection: Connection) -> None:
    """Give back what workers held that have ended."""
    for row in connection.execute(orphans()).all():
        give_back(connection, row.id, row.fence, f"worker {row.worker_id} was lost; ask again")


def has_orphans(connection: Connection) -> bool:
    return connection.execute(orphans().limit(1)).first() is not None


def orphans() -> Select[Any]:
    """Inquiries that are being answered although the worker that held them has ended."""
    return (
        select(inquiries.c.id, inquiries.c.fence, inquiries.c.worker_id)
        .select_from(inquiries.outerjoin(workers, workers.c.id == inquiries.c.worker_id))
        .where(is_answered(), or_(workers.c.id.is_(None), workers.c.ended_at.is_not(None)))
    )
