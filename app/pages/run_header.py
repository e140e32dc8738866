"""RunHeader: what stands above every tab of a run, and changes while the run goes on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from app.inquiries import desk
from app.inquiries.desk import State
from app.models import Status, runs
from app.order import queue_status
from app.pages.failure import failure_block
from app.queue_view import hindrances_of, pause_in_words
from app.settings import Settings
from app.worker_view import list_workers
from trainer.clock import FOLLOWS
from trainer.store.database_clock import database_now

STEPPING = frozenset({*FOLLOWS.values(), "waiting for data"})
"""Activities that follow one another in every step: only worth a word where one lasts."""
LONG_SECONDS = 3.0


@dataclass(frozen=True)
class Doing:
    """What a running run does beside its steps, and since how many seconds, where that is long."""

    activity: str
    seconds: float | None


def header_facts(
    connection: Connection, settings: Settings, run: Mapping[str, Any]
) -> dict[str, Any]:
    """What the header of a run shows beside the run itself."""
    return {
        "failure": failure_block(run),
        "doing": doing(run, clock(connection)),
        "waits_for": waits_for(connection, settings, run),
        "repeated": repeated(connection, run),
    }


def repeated(connection: Connection, run: Mapping[str, Any]) -> dict[str, Any] | None:
    """The last answer to whether the run can be repeated; None where nobody got one."""
    asked = desk.newest_about(connection, run["id"]).get("reproducibility")
    return None if asked is None or asked.status != State.FINISHED else asked.answer


def clock(connection: Connection) -> float:
    return float(connection.execute(select(database_now())).scalar_one())


def doing(run: Mapping[str, Any], now: float) -> Doing | None:
    """None while it steps as it should. `now` by the clock that wrote when it last got on."""
    if run["status"] != Status.RUNNING or not run["activity"] or run["moved_at"] is None:
        return None
    seconds = now - run["moved_at"]
    if seconds >= LONG_SECONDS:
        return Doing(run["activity"], seconds)
    return None if run["activity"] in STEPPING else Doing(run["activity"], None)


def waits_for(connection: Connection, settings: Settings, run: Mapping[str, Any]) -> str:
    """What a queued run waits for, as a sentence."""
    if run["status"] != Status.QUEUED:
        return ""
    queue = queue_status(connection)
    if queue.paused_at is not None:
        return pause_in_words(queue.reason)
    row = connection.execute(select(runs).where(runs.c.id == run["id"])).one()
    workers = list_workers(connection, settings.lease_seconds)
    if hindrance := hindrances_of(connection, [row], workers)[row.wanted_device]:
        return hindrance
    before = runs.c.priority > row.priority
    before |= (runs.c.priority == row.priority) & (runs.c.place < row.place)
    ahead = select(func.count()).where(runs.c.status == Status.QUEUED, before)
    count = connection.execute(ahead).scalar_one()
    if not count:
        return "It is the next in the queue."
    return f"{count:,} run{'' if count == 1 else 's'} before it in the queue."
