"""RunActions: what the buttons of a run's page do; each sends the browser back to the page."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Form, Request
from fastapi.responses import RedirectResponse, Response

from app import finding, labels, offspring, queue
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
        run_id = finding.find(connection, run)
        queue.ask(connection, run_id, asked)
        return back_to(run_id)


for name, asked in ASKS.items():
    add_ask(name, asked)


@router.post("/resume")
def resume(run: Reference, connection: Writing) -> RedirectResponse:
    run_id = finding.find(connection, run)
    queue.resume(connection, run_id)
    return back_to(run_id)


@router.post("/retry")
def retry(run: Reference, connection: Writing) -> RedirectResponse:
    run_id = finding.find(connection, run)
    queue.retry(connection, run_id)
    return back_to(run_id)


@router.post("/retry-lighter")
def retry_lighter(run: Reference, connection: Writing) -> RedirectResponse:
    """A new run in less memory; its page."""
    return back_to(offspring.retry_lighter(connection, finding.find(connection, run)))


@router.post("/clone")
def clone(run: Reference, connection: Writing) -> RedirectResponse:
    """The same config queued once more; the page of the new run."""
    return back_to(offspring.clone(connection, finding.find(connection, run)))


@router.post("/continue")
def train_on(
    run: Reference,
    connection: Writing,
    settings: TheSettings,
    epochs: Annotated[int, Form(ge=1, le=100_000)],
) -> RedirectResponse:
    """A new run that goes on where this one finished; its page."""
    run_id = finding.find(connection, run)
    return back_to(offspring.continue_run(connection, settings, run_id, epochs))


@router.post("/archive")
def archive(run: Reference, connection: Writing) -> RedirectResponse:
    run_id = finding.find(connection, run)
    labels.archive(connection, run_id)
    return back_to(run_id)


@router.post("/unarchive")
def unarchive(run: Reference, connection: Writing) -> RedirectResponse:
    run_id = finding.find(connection, run)
    labels.unarchive(connection, run_id)
    return back_to(run_id)


@router.post("/describe")
def describe(
    run: Reference,
    connection: Writing,
    run_name: Annotated[RunName, Form()],
    note: Annotated[str, Form(max_length=10_000)] = "",
) -> RedirectResponse:
    """Change the name and the note."""
    run_id = finding.find(connection, run)
    before = runs_by_id(connection, [run_id])[0]
    if run_name != before["name"]:
        labels.rename(connection, run_id, run_name)
    if note != before["note"]:
        labels.annotate(connection, run_id, note)
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
    run_id = finding.find(connection, run)
    if not confirmed:
        return render(request, "runs/delete.html", runs=runs_by_id(connection, [run_id]))
    remove_run(connection, settings, run_id, afterwards)
    return RedirectResponse("/runs", 303)


def back_to(run_id: int) -> RedirectResponse:
    return RedirectResponse(f"/runs/{run_id}", 303)
