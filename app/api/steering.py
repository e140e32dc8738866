"""/runs/{run}/…: what a person does to a run: hold it, end it, try it again, make others of it."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from app import finding, labels, offspring, order, queue
from app.api import shapes
from app.api.answers import REFUSED, one_run
from app.connections import Reference, TheSettings, Writing
from app.models import Asked

router = APIRouter(prefix="/runs", tags=["runs"])


class Longer(BaseModel):
    """How much longer a finished run is trained."""

    model_config = ConfigDict(extra="forbid")

    epochs: Annotated[
        int, Field(ge=1, le=100_000, strict=True, description="In addition to those it had.")
    ]


class Place(BaseModel):
    """A place among the runs that wait."""

    model_config = ConfigDict(extra="forbid")

    position: Annotated[
        int, Field(ge=1, lt=2**63, strict=True, description="1 is trained next; too high is last.")
    ]


# -- hold, end, go on -----------------------------------------------------------------------


@router.post("/{run}/pause", operation_id="pause_run", response_model=shapes.Run, responses=REFUSED)
def pause(run: Reference, connection: Writing) -> Response:
    """Save a checkpoint at the next step and free the device."""
    return ask(connection, run, Asked.PAUSE)


@router.post("/{run}/stop", operation_id="stop_run", response_model=shapes.Run, responses=REFUSED)
def stop(run: Reference, connection: Writing) -> Response:
    """Evaluate at the next step and count the run as finished."""
    return ask(connection, run, Asked.STOP)


@router.post(
    "/{run}/cancel", operation_id="cancel_run", response_model=shapes.Run, responses=REFUSED
)
def cancel(run: Reference, connection: Writing) -> Response:
    """End the run at the next step, without a result."""
    return ask(connection, run, Asked.CANCEL)


@router.post(
    "/{run}/resume", operation_id="resume_run", response_model=shapes.Run, responses=REFUSED
)
def resume(run: Reference, connection: Writing) -> Response:
    """Put a paused run back into the queue."""
    run_id = finding.find(connection, run)
    queue.resume(connection, run_id)
    return one_run(connection, run_id)


@router.post("/{run}/retry", operation_id="retry_run", response_model=shapes.Run, responses=REFUSED)
def retry(run: Reference, connection: Writing) -> Response:
    """Put a failed or cancelled run back into the queue, to go on from its last checkpoint."""
    run_id = finding.find(connection, run)
    queue.retry(connection, run_id)
    return one_run(connection, run_id)


@router.post("/{run}/move", operation_id="move_run", response_model=shapes.Run, responses=REFUSED)
def move(run: Reference, to: Place, connection: Writing) -> Response:
    """Put a waiting run at a place in the queue.

    It takes the priority of its new neighbours where its own would not let it stand there.
    """
    run_id = finding.find(connection, run)
    order.move(connection, run_id, to.position - 1)
    return one_run(connection, run_id)


# -- new runs -------------------------------------------------------------------------------


@router.post(
    "/{run}/clone",
    status_code=201,
    operation_id="clone_run",
    response_model=shapes.Run,
    responses=REFUSED,
)
def clone(run: Reference, connection: Writing) -> Response:
    """Queue a new run with the same config."""
    child = offspring.clone(connection, finding.find(connection, run))
    return one_run(connection, child, 201)


@router.post(
    "/{run}/retry-lighter",
    status_code=201,
    operation_id="retry_run_lighter",
    response_model=shapes.Run,
    responses=REFUSED,
)
def retry_lighter(run: Reference, connection: Writing) -> Response:
    """Queue a new run with half the batch and twice the accumulation, against lack of memory."""
    child = offspring.retry_lighter(connection, finding.find(connection, run))
    return one_run(connection, child, 201)


@router.post(
    "/{run}/continue",
    status_code=201,
    operation_id="continue_run",
    response_model=shapes.Run,
    responses=REFUSED,
)
def continue_run(
    run: Reference, longer: Longer, connection: Writing, settings: TheSettings
) -> Response:
    """Queue a new run that trains a finished one on, from its curves and its last checkpoint.

    The finished run stays as it is. Its limits of steps and seconds are left out.
    """
    run_id = finding.find(connection, run)
    child = offspring.continue_run(connection, settings, run_id, longer.epochs)
    return one_run(connection, child, 201)


# -- put away -------------------------------------------------------------------------------


@router.post(
    "/{run}/archive", operation_id="archive_run", response_model=shapes.Run, responses=REFUSED
)
def archive(run: Reference, connection: Writing) -> Response:
    """Put a run that is over away: lists leave it out."""
    run_id = finding.find(connection, run)
    labels.archive(connection, run_id)
    return one_run(connection, run_id)


@router.post(
    "/{run}/unarchive", operation_id="unarchive_run", response_model=shapes.Run, responses=REFUSED
)
def unarchive(run: Reference, connection: Writing) -> Response:
    """Put a run back where lists show it."""
    run_id = finding.find(connection, run)
    labels.unarchive(connection, run_id)
    return one_run(connection, run_id)


def ask(connection: Connection, run: str, asked: Asked) -> Response:
    run_id = finding.find(connection, run)
    queue.ask(connection, run_id, asked)
    return one_run(connection, run_id)
