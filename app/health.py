"""Health: whether the server is alive, and whether it can work."""

from typing import Any

from fastapi import APIRouter, Response

from app.api.answers import BAD, Responses, problems
from app.connections import Writing
from app.db import is_migrated
from app.problems import problem

router = APIRouter(tags=["health"])
NOT_READY: Responses = {**BAD, 503: problems("It cannot work now")}


@router.get("/healthz", operation_id="is_alive")
def alive() -> dict[str, str]:
    """Answers as long as the server runs."""
    return {"status": "alive"}


@router.get("/readyz", operation_id="is_ready", response_model=None, responses=NOT_READY)
def ready(connection: Writing) -> Response | dict[str, Any]:
    """Whether the database has the newest schema and can be written."""
    if not is_migrated(connection):
        return problem(503, "the database has another schema; run `tricklab migrate`")
    return {"status": "ready"}
