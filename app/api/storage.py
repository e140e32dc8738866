"""/storage: what the lab takes on its disk, and giving some of it back."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from app import cleaning
from app.api import shapes
from app.api.answers import REFUSED, JsonResponse
from app.cleaning import Cleaning
from app.connections import AnEngine, Reading, TheSettings
from app.storage import usage

router = APIRouter(prefix="/storage", tags=["storage"])

PATIENCE_SECONDS = 20.0
"""After which an answer tells what was done so far: programs in between give up on longer ones."""


class CleanUp(BaseModel):
    """What to clean up."""

    model_config = ConfigDict(extra="forbid")

    what: Annotated[
        Cleaning, Field(description=" ".join(f"{each}: {each.meaning}" for each in Cleaning))
    ]
    dry_run: Annotated[bool, Field(strict=True, description="Only count; delete nothing.")] = False


@router.get("", operation_id="get_storage", response_model=shapes.Storage)
def get(connection: Reading, settings: TheSettings) -> Response:
    """What everything takes, the runs that take most, and what is free."""
    return JsonResponse(usage(connection, settings))


@router.post("/clean", operation_id="clean_storage", response_model=shapes.Freed, responses=REFUSED)
def clean(wanted: CleanUp, engine: AnEngine, settings: TheSettings) -> Response:
    """Delete what is safe to delete, and tell what that gave back.

    Never anything of a run that waits, trains or is paused. Where `is_complete` is false, ask
    again for the rest.
    """
    freed = cleaning.clean(
        engine, settings, wanted.what, dry_run=wanted.dry_run, seconds=PATIENCE_SECONDS
    )
    return JsonResponse(asdict(freed))
