"""RunsPage: what is running, what waits, what came out."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import Connection, func, select

from app import queue
from app.connections import Reading, TheSettings, Writing
from app.models import Status, runs, workers
from app.pages.templates import render
from app.remove import remove_run
from app.run_view import RunQuery, Sort, count_runs, list_runs, runs_by_id
from app.samples import add_samples

router = APIRouter()

PAGE = 50


@dataclass(frozen=True)
class Shown:
    """What the address of the page says about it."""

    query: RunQuery
    page: int


def shown(
    status: Annotated[str, Query(pattern=f"^({'|'.join(['', *Status])})$")] = "",
    text: Annotated[str, Query(max_length=200)] = "",
    sort: Sort = "number",
    order: Annotated[str, Query(pattern="^(up|down)$")] = "down",
    page: Annotated[int, Query(ge=1, le=10**6)] = 1,
) -> Shown:
    query = RunQuery(
        status=Status(status) if status else None,
        text=text,
        sort=sort,
        descending=order == "down",
        limit=PAGE,
        offset=(page - 1) * PAGE,
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
    return {
        "runs": list_runs(connection, wanted.query),
        "query": wanted.query,
        "page": wanted.page,
        "pages": max(1, -(-total // PAGE)),
        "total": total,
        "counts": counts,
        "all": sum(counts.values()),
        "statuses": list(Status),
        "workers_alive": workers_alive(connection, lease_seconds),
    }


def status_counts(connection: Connection) -> dict[str, int]:
    query = select(runs.c.status, func.count().label("runs")).group_by(runs.c.status)
    return {row.status: row.runs for row in connection.execute(query)}


def workers_alive(connection: Connection, lease_seconds: float) -> int:
    """How many workers gave a sign of life lately."""
    since = queue.now() - lease_seconds
    alive = (workers.c.ended_at.is_(None)) & (workers.c.seen_at >= since)
    return connection.execute(select(func.count()).where(alive)).scalar_one()


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
