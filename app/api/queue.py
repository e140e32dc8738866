"""/queue: which runs come next, what holds them up, and whether any is given out."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from app import order
from app.api import shapes
from app.api.answers import JsonResponse
from app.connections import Reading, TheSettings, Writing
from app.names import Storable
from app.queue_view import queue_view
from app.settings import Settings

router = APIRouter(prefix="/queue", tags=["queue"])


class Pause(BaseModel):
    """How the queue is paused."""

    model_config = ConfigDict(extra="forbid")

    running_too: Annotated[
        bool,
        Field(strict=True, description="Those that train save themselves and wait again."),
    ] = False
    reason: Annotated[str, Field(max_length=1000), Storable] = ""


@router.get("", operation_id="get_queue", response_model=shapes.Queue)
def get(connection: Reading, settings: TheSettings) -> Response:
    """The runs that wait, in the order they are trained in, and what each waits for."""
    return shown(connection, settings)


@router.post("/pause", operation_id="pause_queue", response_model=shapes.Queue)
def pause(connection: Writing, settings: TheSettings, how: Pause | None = None) -> Response:
    """Give out no more runs; those that train go on unless told otherwise.

    A queue that is paused already keeps its time and its reason.
    """
    chosen = how or Pause()
    order.pause_queue(connection, running_too=chosen.running_too, reason=chosen.reason)
    return shown(connection, settings)


@router.post("/resume", operation_id="resume_queue", response_model=shapes.Queue)
def resume(connection: Writing, settings: TheSettings) -> Response:
    """Give out runs again."""
    order.resume_queue(connection)
    return shown(connection, settings)


def shown(connection: Connection, settings: Settings) -> Response:
    return JsonResponse(queue_view(connection, settings))
