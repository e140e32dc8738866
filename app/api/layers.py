"""/runs/…/layers: what the layers of a run gave, as JSON, numbers or a picture."""

import io
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Path, Query, Response
from sqlalchemy import Connection

from app.api import shapes
from app.api.answers import MISSING, JsonResponse
from app.api.any_name import LAYER
from app.connections import Reading, RunNumber
from app.missing import NotThere, missing
from app.mosaic import mosaic_png
from app.names import Storable
from trainer.store.reader import StoredOutput, list_layer_outputs, read_layer_output

router = APIRouter(prefix="/runs/{run}/layers", tags=["layers"])

LayerPath = Annotated[str, Path(max_length=300), Storable]
Step = Annotated[int | None, Query(ge=0, lt=2**63, description="The last one if left out.")]
Call = Annotated[int, Query(ge=0, lt=1000, description="Which use of a layer used repeatedly.")]
Example = Annotated[int, Query(ge=0, lt=1000)]


@router.get("", operation_id="list_layers", response_model=shapes.RecordedLayers, responses=MISSING)
def list_(run_id: RunNumber, connection: Reading) -> Response:
    """Which layers were kept, at which steps, and how many bytes they take."""
    rows = list_layer_outputs(connection, run_id)
    layers: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        facts = {
            "layer": row.layer,
            "call": row.call,
            "dtype": row.dtype,
            "shape": row.shape,
            "full_shape": row.full_shape,
            "steps": [],
        }
        layers.setdefault((row.layer, row.call), facts)["steps"].append(row.step)
    return JsonResponse(
        {
            "layers": list(layers.values()),
            "steps": sorted({row.step for row in rows}),
            "bytes": sum(row.bytes for row in rows),
        }
    )


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
) -> Response:
    """One example as bytes between X-Low and X-High, in the order of X-Shape."""
    output = find(connection, run_id, layer, step, call)
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
        200: {"content": {"application/x-npz": {}, "image/png": {}}},
    },
)
def read(
    run_id: RunNumber,
    layer: LayerPath,
    connection: Reading,
    step: Step = None,
    call: Call = 0,
    example: Example = 0,
    format: Literal["json", "npz", "png"] = "json",
) -> Response:
    """One layer's output: one example as JSON or picture, all of them as `.npz`."""
    output = find(connection, run_id, layer, step, call)
    if format == "npz":
        name = safe_name(f"run-{run_id}-{layer}-step-{output.step}.npz")
        return Response(
            npz(output),
            media_type="application/x-npz",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )
    chosen = output.quantised[must_have(output, example)]
    if format == "png":
        return Response(mosaic_png(chosen), media_type="image/png")
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


def find(
    connection: Connection, run_id: int, layer: str, step: int | None, call: int
) -> StoredOutput:
    """The output of a layer at a step, the last one by default. Raises NotThere."""
    steps: dict[tuple[str, int], list[int]] = {}
    for row in list_layer_outputs(connection, run_id):
        steps.setdefault((row.layer, row.call), []).append(row.step)
    calls = [number for name, number in steps if name == layer]
    if not calls:
        raise missing("recorded layer", layer, dict.fromkeys(name for name, _ in steps))
    if call not in calls:
        raise missing(f"call of layer {layer} numbered", str(call), map(str, calls))
    wanted = max(steps[layer, call]) if step is None else step
    output = read_layer_output(connection, run_id, layer, wanted, call)
    if output is None:
        there = ", ".join(map(str, steps[layer, call]))
        raise NotThere(f"layer {layer} was not recorded at step {wanted}; it was at {there}")
    return output


def must_have(output: StoredOutput, example: int) -> int:
    kept = len(output.quantised)
    if example >= kept:
        raise NotThere(f"there is no example {example}; there are 0 to {kept - 1}")
    return example


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


def safe_name(text: str) -> str:
    """A file name that no system and no header misreads."""
    return "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else "-" for c in text)
