"""TimelinePage: everything that happened to a run, in plain words: when, who, why, for how long."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection, Row, select

from app.connections import Reading, Reference
from app.events import PERSON, QUEUE, events_of
from app.models import Status
from app.pages.run import show
from app.pages.templates import render
from app.run_view import find_run
from trainer.store.database_clock import database_now

router = APIRouter(prefix="/runs/{run}/timeline")

TITLES: Mapping[str, str] = {
    Status.RUNNING: "Started",
    "asked to wait": "Asked to save itself and wait",
    "moved": "Moved in the queue",
    "noted": "Note changed",
}
LEADS_TO: Mapping[str, Status] = {
    **{status.value: status for status in Status},
    "resumed": Status.QUEUED,
    "retried": Status.QUEUED,
}
"""The status that begins with an event of this kind; others leave the run where it is."""
SPENT: Mapping[Status, str] = {
    Status.QUEUED: "waited",
    Status.RUNNING: "ran for",
    Status.PAUSED: "stood still for",
}


@dataclass(frozen=True)
class Moment:
    """One event as people read it."""

    at: float
    title: str
    by: str
    why: str
    status: str
    """What began here; empty where the run stayed as it was."""
    during: str
    """The status from here on to the next event."""
    spent: str
    """In which way it then spent how many `seconds`."""
    seconds: float | None
    is_now: bool
    """Whether it still does."""


@router.get("")
def page(request: Request, run: Reference, connection: Reading) -> HTMLResponse:
    found = find_run(connection, run)
    moments = moments_of(connection, found["id"])
    return show(request, connection, found, "timeline", moments=moments)


@router.get("/list")
def list_(request: Request, run: Reference, connection: Reading) -> HTMLResponse:
    """The part of the page that grows."""
    found = find_run(connection, run)
    moments = moments_of(connection, found["id"])
    return render(request, "run/timeline_list.html", run=found, moments=moments)


def moments_of(connection: Connection, run_id: int) -> list[Moment]:
    """Every event of a run, oldest first, with how long each status lasted."""
    events = events_of(connection, run_id)
    changes = [event for event in events if event.kind in LEADS_TO]
    ends = {event.id: following.at for event, following in pairwise(changes)}
    starts = [event.id for event in events if event.kind == Status.RUNNING]
    now = connection.execute(select(database_now())).scalar_one()
    moments, during = [], ""
    for event in events:
        attempt = starts.index(event.id) + 1 if event.id in starts else 0
        status = LEADS_TO.get(event.kind)
        during = status or during
        spent = SPENT.get(status, "") if status else ""
        moments.append(
            Moment(
                at=event.at,
                title=title_of(event, attempt),
                by=by_whom(event.by),
                why=why_of(event),
                status=status or "",
                during=during,
                spent=spent,
                # clocks may jump; a negative time helps nobody
                seconds=max(0.0, ends.get(event.id, now) - event.at) if spent else None,
                is_now=bool(spent) and event.id not in ends,
            )
        )
    return moments


def title_of(event: Row[Any], attempt: int) -> str:
    kind = str(event.kind)
    if kind == Status.QUEUED and is_by_itself(event.by):
        return "Back in the queue"
    if kind == "renamed":
        return f"Renamed to “{event.text}”"
    if attempt > 1:
        return "Started again"
    return TITLES.get(kind, kind[:1].upper() + kind[1:])


def is_by_itself(by: str) -> bool:
    """Whether no person did it. No token's name has a space in it."""
    return by == QUEUE or by.startswith("worker ")


def why_of(event: Row[Any]) -> str:
    return "" if event.kind == "renamed" else str(event.text)


def by_whom(by: str) -> str:
    return {PERSON: "a person", QUEUE: "the queue"}.get(by, by)
