"""RunPage: one run, in tabs with addresses of their own."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from app.config_view import config_rows
from app.connections import Reading, Reference
from app.inquiries import desk
from app.metrics import cards
from app.pages.inquiries import fragment
from app.pages.results import standing
from app.pages.run_header import header_facts
from app.pages.templates import render
from app.run_view import find_run, runs_by_id
from app.runlog import without_escapes
from trainer.recipes import RECIPES
from trainer.store.reader import list_checkpoints, read_log

router = APIRouter(prefix="/runs/{run}")

TABS = {
    "curves": "Curves",
    "layers": "Layers",
    "results": "Results",
    "evidence": "Evidence",
    "timeline": "Timeline",
    "log": "Log",
    "config": "Config",
    "environment": "Environment",
}
LOG_TAIL = 400_000
"""Characters of a log that its page shows at once; the API has all of it."""


@router.get("")
def curves(
    request: Request,
    run: Reference,
    connection: Reading,
    smoothing: Annotated[float, Query(ge=0, lt=1)] = 0,
    x: Annotated[str, Query(pattern="^(step|epoch|time)$")] = "step",
    scale: Annotated[str, Query(pattern="^(linear|log)$")] = "linear",
) -> HTMLResponse:
    found = find_run(connection, run)
    chosen = {"smoothing": smoothing, "x": x, "scale": scale}
    shown = cards(found["metrics"], found["main_metric"])
    return show(request, connection, found, "curves", chosen=chosen, cards=shown)


@router.get("/header")
def header(request: Request, run: Reference, connection: Reading) -> HTMLResponse:
    """The part of every tab that changes while the run goes on."""
    found = find_run(connection, run)
    facts = header_facts(connection, request.app.state.settings, found)
    return render(request, "run/header.html", run=found, **facts)


@router.get("/results")
def results(request: Request, run: Reference, connection: Reading) -> HTMLResponse:
    """What the model is right and wrong about, class by class."""
    found = find_run(connection, run)
    return show(request, connection, found, "results", standing=standing(found))


@router.get("/evidence")
def evidence(request: Request, run: Reference, connection: Reading) -> HTMLResponse:
    found = find_run(connection, run)
    asked = desk.newest_about(connection, found["id"])
    return show(request, connection, found, "evidence", about=asked, fragment=fragment)


@router.get("/log")
def log(request: Request, run: Reference, connection: Reading) -> HTMLResponse:
    found = find_run(connection, run)
    chunks = read_log(connection, found["id"])
    text = without_escapes("".join(chunk.text for chunk in chunks))
    return show(
        request,
        connection,
        found,
        "log",
        text=text[-LOG_TAIL:],
        cut=len(text) > LOG_TAIL,
        last=chunks[-1].number if chunks else -1,
    )


@router.get("/config")
def config(request: Request, run: Reference, connection: Reading) -> HTMLResponse:
    """The config, and where it differs from the run it was cloned from or its recipe."""
    found = find_run(connection, run)
    origin, before = origin_of(connection, found)
    configs = [found["config"]] + ([before] if before is not None else [])
    rows = config_rows(configs)
    return show(request, connection, found, "config", rows=rows, origin=origin)


def origin_of(connection: Connection, run: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    if run["parent_id"] is not None:
        parent = runs_by_id(connection, [run["parent_id"]])[0]
        return f"run {parent['id']}, {parent['name']}", parent["config"]
    if run["recipe"] in RECIPES:
        return f"recipe {run['recipe']}", RECIPES[run["recipe"]].config.model_dump(mode="json")
    return "", None


@router.get("/environment")
def environment(request: Request, run: Reference, connection: Reading) -> HTMLResponse:
    found = find_run(connection, run)
    checkpoints = list_checkpoints(connection, found["id"])
    return show(request, connection, found, "environment", checkpoints=checkpoints)


def show(
    request: Request, connection: Connection, run: dict[str, Any], tab: str, **context: Any
) -> HTMLResponse:
    """A tab of a run's page, under its header."""
    context |= header_facts(connection, request.app.state.settings, run)
    return render(request, f"run/{tab}.html", run=run, tab=tab, tabs=TABS, **context)
