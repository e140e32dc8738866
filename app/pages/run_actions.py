"""RunActions: what the buttons of a run's page do; each sends the browser back to the page."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Form, Request
from fastapi.responses import RedirectResponse, Response

from app import queue
from app.connections import Reference, TheSettings, Writing
from app.models import Asked
from app.names import RunName
from app.pages.templates import render
from app.remove import remove_run
from app.run_view import runs_by_id

router = APIRouter(prefix="/runs/{run}")

ASKS = {"pause": Asked.PAUSE, "stop": Asked.STOP, "cancel": Asked.CANCEL}


def add_ask(name: str, asked: Asked) -> None:
    @router.post(f"/{name}")
    def act(run: Reference, connection: Writing) -> RedirectResponse:
        run_id = queue.find(connection, run)
        queue.ask(connection, run_id, asked)
        return back_to(run_id)


for name, asked in ASKS.items():
    add_ask(name, asked)


@router.post("/resume")
def resume(run: Reference, connection: Writing) -> RedirectResponse:
    run_id = queue.find(connection, run)
    queue.resume(connection, run_id)
    return back_to(run_id)


@router.post("/describe")
def describe(
    run: Reference,
    connection: Writing,
    run_name: Annotated[RunName, Form()],
    note: Annotated[str, Form(max_length=10_000)] = "",
) -> RedirectResponse:
    """Change the name and the note."""
    run_id = queue.find(connection, run)
    before = runs_by_id(connection, [run_id])[0]
    if run_name != before["name"]:
        queue.rename(connection, run_id, run_name)
    if note != before["note"]:
        queue.annotate(connection, run_id, note)
    return back_to(run_id)


@router.post("/delete")
def delete(
    request: Request,
    run: Reference,
    connection: Writing,
    settings: TheSettings,
    afterwards: BackgroundTasks,
    confirmed: Annotated[bool, Form()] = False,
) -> Response:
    run_id = queue.find(connection, run)
    if not confirmed:
        return render(request, "runs/delete.html", runs=runs_by_id(connection, [run_id]))
    remove_run(connection, settings, run_id, afterwards)
    return RedirectResponse("/runs", 303)


def back_to(run_id: int) -> RedirectResponse:
    return RedirectResponse(f"/runs/{run_id}", 303)
