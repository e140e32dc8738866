"""/runs/…/features: a run's network up to a layer, as something that makes features."""

import base64
import io
from typing import Annotated, Any, Literal

import numpy as np
from anyio import sleep, to_thread
from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, Row

from app.api import shapes
from app.api.answers import REFUSED, JsonResponse, problems
from app.api.inquiries import view
from app.connections import AnEngine, RunNumber, TheSettings
from app.inquiries import desk
from app.inquiries.desk import State, TooManyWait
from app.problems import Invalid
from app.settings import Settings
from app.sources import finished
from app.worker_view import count_alive
from trainer.anatomy import model_anatomy
from trainer.config import RunConfig
from trainer.inquiries import Features
from trainer.store.database import reading, writing

router = APIRouter(prefix="/runs/{run}/features", tags=["layers"])

LOOK_SECONDS = 0.1


class Wanted(BaseModel):
    """Which layer, and which examples of the run's task."""

    model_config = ConfigDict(extra="forbid")

    layer: str = Field(min_length=1, max_length=300, examples=["block3.conv"])
    call: int = Field(0, ge=0, lt=1000, description="Which use of a layer used repeatedly.")
    split: Literal["test", "train"] = "test"
    examples: list[Annotated[int, Field(ge=0, lt=2**31, strict=True)]] = Field(
        default_factory=lambda: list(range(8)), min_length=1, max_length=4096
    )


@router.post(
    "",
    operation_id="make_features",
    response_model=shapes.Features,
    responses={
        **REFUSED,
        200: {"content": {"application/x-npz": {}}},
        202: {"model": shapes.Inquiry, "description": "Still being computed: follow the inquiry."},
        429: problems("Too many wait"),
    },
)
async def make(
    run_id: RunNumber,
    wanted: Wanted,
    engine: AnEngine,
    settings: TheSettings,
    format: Literal["json", "npz"] = "json",
    wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for it.")] = 20,
) -> Response:
    """What the layer gives, computed by a worker from the newest checkpoint of a finished run.

    After `wait` seconds without an answer: 202 with the inquiry, whose answer has the same.
    """
    inquiry = Features(run=str(run_id), **wanted.model_dump())
    number, can_wait = await to_thread.run_sync(asked, engine, inquiry, run_id, settings)
    row = await to_thread.run_sync(found, engine, number)
    waited = 0.0
    while can_wait and row.ended_at is None and waited < wait:
        await sleep(LOOK_SECONDS)
        waited += LOOK_SECONDS
        row = await to_thread.run_sync(found, engine, number)
    if row.ended_at is None:
        return JsonResponse(view(row), 202, {"Location": f"/api/v1/inquiries/{number}"})
    if row.status != State.FINISHED:
        raise HTTPException(409, row.reason)
    return packed(row.answer) if format == "npz" else JsonResponse(plain(row.answer))


def asked(engine: Engine, inquiry: Features, run_id: int, settings: Settings) -> tuple[int, bool]:
    """The number of the inquiry, and whether somebody is there to answer it.

    Raises Refused and Invalid for what can be told without computing.
    """
    with reading(engine) as connection:
        config = RunConfig.model_validate(finished(connection, str(run_id)).config)
        can_wait = count_alive(connection, settings.lease_seconds) > 0
    names = [layer.path for layer in model_anatomy(config.model, config.task.facts())]
    if inquiry.layer not in names:
        message = f"this network has no such layer; it has {', '.join(names)}"
        raise Invalid([{"field": "layer", "message": message, "given": inquiry.layer}])
    try:
        with writing(engine) as connection:
            return desk.add(connection, inquiry, run_id), can_wait
    except TooManyWait as many:
        raise HTTPException(429, str(many), {"Retry-After": "10"}) from many


def found(engine: Engine, number: int) -> Row[Any]:
    with reading(engine) as connection:
        return desk.find(connection, number)


def array(answer: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = np.frombuffer(base64.b64decode(answer["values"]), "<f4")
    return values.reshape(answer["shape"])


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "values": array(answer).tolist()}


def packed(answer: dict[str, Any]) -> Response:
    """The same as numpy's archive: features, targets and examples."""
    file = io.BytesIO()
    np.savez_compressed(
        file,
        features=array(answer),
        targets=np.asarray(answer["targets"]),
        examples=np.asarray(answer["examples"]),
    )
    name = f"run-{answer['run']}-features.npz"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(file.getvalue(), media_type="application/x-npz", headers=headers)
