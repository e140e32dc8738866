"""RunsPage: what is running, what waits, what came out."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import Connection, func, select

from app import labels
from app.connections import Reading, TheSettings, Writing
from app.inquiries import desk
from app.models import Status, runs
from app.order import queue_status
from app.pages.failure import TITLES
from app.pages.templates import render
from app.remove import remove_run
from app.run_query import RunQuery, Sort, count_runs
from app.run_view import list_runs, runs_by_id
from app.samples import add_samples
from app.worker_view import list_workers
from trainer.inquiries import Reproducibility
from trainer.part import name_of

router = APIRouter()

PAGE = 50


@dataclass(frozen=True)
class Shown:
    """What the address of the page says about it."""

    query: RunQuery
    page: int


async def shown(
    status: Annotated[str, Query(pattern=f"^({'|'.join(['', *Status])})$")] = "",
    text: Annotated[str, Query(max_length=200)] = "",
    sort: Sort = "number",
    order: Annotated[str, Query(pattern="^(up|down)$")] = "down",
    page: Annotated[int, Query(ge=1, le=10**6)] = 1,
    archived: bool = False,
) -> Shown:
    query = RunQuery(
        status=Status(status) if status else None,
        text=text,
        sort=sort,
        descending=order == "down",
        limit=PAGE,
        offset=(page - 1) * PAGE,
        archived=archived,
    )
    return Shown(query, page)


Wanted = Annotated[Shown, Depends(shown)]


@router.get("/")
def home() -> RedirectResponse:
    return RedirectResponse("/runs")


@router.get("/runs")
def page(
    request: Request, wanted: Wanted, connection: Reading, settings: TheSettings
) -> HTMLResponse:
    return render(request, "runs.html", **listed(connection, wanted, settings.lease_seconds))


@router.get("/runs/table")
def table(
    request: Request, wanted: Wanted, connection: Reading, settings: TheSettings
) -> HTMLResponse:
    """The part of the page that changes while runs go on."""
    return render(request, "runs/table.html", **listed(connection, wanted, settings.lease_seconds))


def listed(connection: Connection, wanted: Shown, lease_seconds: float) -> dict[str, Any]:
    counts = status_counts(connection)
    total = count_runs(connection, wanted.query)
    alive = [w for w in list_workers(connection, lease_seconds) if w["is_alive"]]
    listed_runs = list_runs(connection, wanted.query)
    ids = [run["id"] for run in listed_runs]
    return {
        "runs": listed_runs,
        "repeated": desk.newest_answers(connection, name_of(Reproducibility), ids),
        "query": wanted.query,
        "page": wanted.page,
        "pages": max(1, -(-total // PAGE)),
        "total": total,
        "counts": counts,
        "all": sum(counts.values()),
        "archived": count_runs(connection, RunQuery(archived=True)),
        "statuses": list(Status),
        "causes": TITLES,
        "workers_alive": len(alive),
        "troubled": [worker for worker in alive if worker["trouble"]],
        "queue": queue_status(connection),
    }


def status_counts(connection: Connection) -> dict[str, int]:
    """How many runs each status has, without those put away."""
    query = select(runs.c.status, func.count().label("runs")).where(runs.c.archived_at.is_(None))
    return {row.status: row.runs for row in connection.execute(query.group_by(runs.c.status))}


@router.post("/runs/sample")
def queue_samples(connection: Writing) -> RedirectResponse:
    add_samples(connection)
    return RedirectResponse("/runs", 303)


Chosen = Annotated[list[int], Form(max_length=500)]


@router.post("/runs/delete")
def delete(
    request: Request,
    connection: Writing,
    settings: TheSettings,
    afterwards: BackgroundTasks,
    runs: Chosen,
    confirmed: Annotated[bool, Form()] = False,
) -> Response:
    """Delete runs, after showing which."""
    if not confirmed:
        return render(request, "runs/delete.html", runs=runs_by_id(connection, runs))
    for run_id in runs:
        remove_run(connection, settings, run_id, afterwards)
    return RedirectResponse("/runs", 303)


@router.post("/runs/archive")
def archive(connection: Writing, runs: Chosen) -> RedirectResponse:
    """Put runs away: all of them, or none where one is not over."""
    for run_id in runs:
        labels.archive(connection, run_id)
    return RedirectResponse("/runs", 303)


@router.post("/runs/unarchive")
def unarchive(connection: Writing, runs: Chosen) -> RedirectResponse:
    for run_id in runs:
        labels.unarchive(connection, run_id)
    return RedirectResponse("/runs?archived=true", 303)
