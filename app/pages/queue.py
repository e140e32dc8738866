"""QueuePage: who trains, what waits in which order and for what; and the order itself."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import Connection

from app import finding, order
from app.connections import Reading, Reference, TheSettings, Writing
from app.names import Storable
from app.pages.run_header import LONG_SECONDS, clock, doing
from app.pages.templates import render
from app.queue_view import queue_view
from app.settings import Settings
from trainer.part import Refused

router = APIRouter(prefix="/queue")

Place = Literal["first", "up", "down", "last"]


@router.get("")
def page(request: Request, connection: Reading, settings: TheSettings) -> HTMLResponse:
    return render(request, "queue.html", **shown(connection, settings))


@router.get("/list")
def list_(request: Request, connection: Reading, settings: TheSettings) -> HTMLResponse:
    """The part of the page that changes."""
    return render(request, "queue/list.html", **shown(connection, settings))


def shown(connection: Connection, settings: Settings) -> dict[str, Any]:
    view = queue_view(connection, settings)
    now = clock(connection)
    in_hand = {run["worker_id"]: run for run in view["running"]}
    return {
        "queue": view,
        "lanes": [lane(worker, in_hand.get(worker["id"]), now) for worker in view["workers"]],
        "long_seconds": LONG_SECONDS,
    }


def lane(worker: dict[str, Any], run: dict[str, Any] | None, now: float) -> dict[str, Any]:
    """A worker, the run it has in hand, what that does, and how long ago it last got on."""
    moved_at = run["moved_at"] if run else None
    return {
        "worker": worker,
        "run": run,
        "doing": doing(run, now) if run else None,
        "still_seconds": None if moved_at is None else max(0.0, now - moved_at),
    }


@router.post("/pause")
def pause(
    connection: Writing,
    reason: Annotated[str, Form(max_length=200), Storable] = "",
    running_too: Annotated[bool, Form()] = False,
) -> RedirectResponse:
    """Give out no more runs; ticked, those that train save themselves and wait too."""
    order.pause_queue(connection, running_too=running_too, reason=reason.strip())
    return back()


@router.post("/resume")
def resume(connection: Writing) -> RedirectResponse:
    order.resume_queue(connection)
    return back()


@router.post("/{run}/move")
def move(run: Reference, connection: Writing, to: Annotated[Place, Form()]) -> RedirectResponse:
    """Let a waiting run go first, one earlier, one later, or last."""
    run_id = finding.find(connection, run)
    waiting = [row.id for row in order.waiting_runs(connection)]
    if run_id not in waiting:
        raise Refused(f"run {run_id} does not wait any more; it has no place in the queue")
    here = waiting.index(run_id)
    places = {"first": 0, "up": max(0, here - 1), "down": here + 1, "last": len(waiting)}
    order.move(connection, run_id, places[to])
    return back()


@router.post("/{run}/priority")
def prioritise(
    run: Reference,
    connection: Writing,
    priority: Annotated[int, Form(ge=order.LOWEST, le=order.HIGHEST)],
) -> RedirectResponse:
    order.prioritise(connection, finding.find(connection, run), priority)
    return back()


def back() -> RedirectResponse:
    return RedirectResponse("/queue", 303)
