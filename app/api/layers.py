"""/runs/…/layers: what the layers of a run gave, as JSON, numbers or a picture."""

import io
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Path, Query, Response

from app.api import shapes
from app.api.answers import MISSING, JsonResponse
from app.api.any_name import LAYER
from app.connections import Reading, RunNumber
from app.film import animation, chosen_steps, frames
from app.mosaic import mosaic_png
from app.names import Storable
from app.problems import Invalid
from app.recorded import (
    find,
    must_have,
    must_show,
    recorded_layers,
    recorded_steps,
    steps_of,
)
from trainer.config import View
from trainer.store.reader import StoredOutput

router = APIRouter(prefix="/runs/{run}/layers", tags=["layers"])

LayerPath = Annotated[str, Path(max_length=300), Storable]
Step = Annotated[int | None, Query(ge=0, lt=2**63, description="The last one if left out.")]
Call = Annotated[int, Query(ge=0, lt=1000, description="Which use of a layer used repeatedly.")]
Example = Annotated[int, Query(ge=0, lt=1000)]
Kept = Annotated[
    View,
    Query(
        alias="view",
        description="channels is a layer's output; weight and gradient where the run kept them.",
    ),
]
Time = Annotated[int, Query(ge=0, lt=100_000, description="Of a video: what pictures show.")]


@router.get("", operation_id="list_layers", response_model=shapes.RecordedLayers, responses=MISSING)
def list_(run_id: RunNumber, connection: Reading, view: Kept = "channels") -> Response:
    """Which layers were kept, at which steps, and how many bytes they take."""
    layers = recorded_layers(connection, run_id, view)
    size = sum(layer["bytes"] for layer in layers)
    return JsonResponse({"layers": layers, "steps": steps_of(layers), "bytes": size})


# before the one below, which would take it for a layer of that name
@router.get(
    f"/{LAYER}/bytes",
    operation_id="read_layer_bytes",
    response_class=Response,
    responses={**MISSING, 200: {"content": {"application/octet-stream": {}}}},
)
def read_bytes(
    run_id: RunNumber,
    layer: LayerPath,
    connection: Reading,
    step: Step = None,
    call: Call = 0,
    example: Example = 0,
    view: Kept = "channels",
) -> Response:
    """One example as bytes between X-Low and X-High, in the order of X-Shape."""
    output = find(connection, run_id, layer, step, call, view)
    values = output.quantised[must_have(output, example)]
    headers = {
        "X-Step": str(output.step),
        "X-Shape": ",".join(map(str, values.shape)),
        "X-Low": repr(output.low),
        "X-High": repr(output.high),
        "X-Examples": str(len(output.quantised)),
        # what was recorded at a step never changes, but the run may be deleted or resumed
        "Cache-Control": "no-cache" if step is None else "private, max-age=60",
    }
    return Response(values.tobytes(), media_type="application/octet-stream", headers=headers)


@router.get(
    f"/{LAYER}",
    operation_id="read_layer",
    response_model=shapes.LayerOutput,
    responses={
        **MISSING,
        200: {"content": {"application/x-npz": {}, "image/png": {}, "image/webp": {}}},
    },
)
def read(
    run_id: RunNumber,
    layer: LayerPath,
    connection: Reading,
    step: Step = None,
    call: Call = 0,
    example: Example = 0,
    time: Time = 0,
    view: Kept = "channels",
    format: Literal["json", "npz", "png", "webp"] = "json",
) -> Response:
    """One layer's output: one example as JSON or picture, all of them as `.npz`.

    A `webp` is moving: the example's channels at every step, at most 64 of them.
    """
    output = find(connection, run_id, layer, step, call, view)
    if format == "npz":
        name = f"run-{run_id}-{layer}-step-{output.step}.npz"
        return Response(npz(output), media_type="application/x-npz", headers=saved_as(name))
    chosen = output.quantised[must_have(output, example)]
    if format in ("png", "webp"):
        must_show(output, example, 0, time)
    if format == "png":
        return Response(mosaic_png(chosen, time), media_type="image/png")
    if format == "webp":
        if step is not None:
            message = "a webp shows every step; leave this out, or ask for format=png"
            raise Invalid([{"field": "step", "message": message, "given": step}])
        steps = chosen_steps(recorded_steps(connection, run_id, layer, call, view))
        film = list(frames(connection, run_id, output, steps, example, view))
        name = f"run-{run_id}-{layer}-example-{example}.webp"
        return Response(animation(film, time), media_type="image/webp", headers=saved_as(name))
    return JsonResponse(
        {
            "layer": layer,
            "call": call,
            "step": output.step,
            "example": example,
            "examples": len(output.quantised),
            "shape": chosen.shape,
            "full_shape": output.full_shape,
            "low": output.low,
            "high": output.high,
            "values": output.values()[example],
        }
    )


def npz(output: StoredOutput) -> bytes:
    """All examples as a NumPy archive: values, the bytes they come from, low and high."""
    file = io.BytesIO()
    np.savez_compressed(
        file,
        values=output.values(),
        quantised=output.quantised,
        low=output.low,
        high=output.high,
        step=output.step,
    )
    return file.getvalue()


def saved_as(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{safe_name(name)}"'}


def safe_name(text: str) -> str:
    """A file name that no system and no header misreads."""
    return "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else "-" for c in text)
