"""/runs/…/layers/…/film and …/difference: outputs of a layer at several steps or of two runs."""

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Response

from app import finding
from app.api import shapes
from app.api.answers import MISSING, JsonResponse
from app.api.any_name import LAYER
from app.api.layers import Call, Example, Kept, LayerPath, Step, Time
from app.connections import Reading, RunNumber
from app.difference import difference
from app.film import chosen_steps, frames
from app.mosaic import planes_of
from app.recorded import find, must_have, must_show, nearest, recorded_steps

router = APIRouter(prefix="/runs/{run}/layers", tags=["layers"])

AGAINST = r"^(step|run):[0-9]{1,18}$"
Against = Annotated[
    str,
    Query(
        pattern=AGAINST,
        description="`step:8`, another step of this run, or `run:3`, another run at the step "
        "nearest to this one.",
    ),
]


@router.get(
    f"/{LAYER}/film",
    operation_id="read_layer_film",
    response_class=Response,
    responses={**MISSING, 200: {"content": {"application/octet-stream": {}}}},
)
def read_film(
    run_id: RunNumber,
    layer: LayerPath,
    connection: Reading,
    call: Call = 0,
    example: Example = 0,
    channel: Annotated[int, Query(ge=0, lt=100_000)] = 0,
    time: Time = 0,
    view: Kept = "channels",
) -> Response:
    """One channel over training, as bytes in the order of X-Shape: steps, height, width.

    X-Steps, X-Lows and X-Highs have a number for each step. At most 64 steps, evenly chosen. A
    vector or matrix is one channel.
    """
    output = find(connection, run_id, layer, None, call, view)
    must_show(output, must_have(output, example), channel, time)
    steps = chosen_steps(recorded_steps(connection, run_id, layer, call, view))
    film = list(frames(connection, run_id, output, steps, example, view))
    pictures = np.stack([planes_of(frame.levels, time)[channel] for frame in film])
    headers = {
        "X-Shape": ",".join(map(str, pictures.shape)),
        "X-Steps": ",".join(str(frame.step) for frame in film),
        # as short as they can be written: proxies take a few thousand bytes of headers
        "X-Lows": ",".join(str(np.float32(frame.low)) for frame in film),
        "X-Highs": ",".join(str(np.float32(frame.high)) for frame in film),
        "Cache-Control": "no-cache",
    }
    return Response(pictures.tobytes(), media_type="application/octet-stream", headers=headers)


@router.get(
    f"/{LAYER}/difference",
    operation_id="read_layer_difference",
    response_model=shapes.LayerDifference,
    responses={**MISSING, 200: {"content": {"application/octet-stream": {}}}},
)
def read_difference(
    run_id: RunNumber,
    layer: LayerPath,
    connection: Reading,
    against: Against,
    step: Step = None,
    call: Call = 0,
    example: Example = 0,
    view: Kept = "channels",
    format: Literal["json", "bytes"] = "json",
) -> Response:
    """What a layer gave for one example, less what it gave at another step or in another run.

    As bytes, 128 is no difference, 1 and 255 are `X-Most` below and above.
    """
    one = find(connection, run_id, layer, step, call, view)
    kind, number = against.split(":")
    if kind == "step":
        other_id, other = run_id, find(connection, run_id, layer, int(number), call, view)
    else:
        other_id = finding.find(connection, number)
        there = nearest(recorded_steps(connection, other_id, layer, call, view), one.step)
        other = find(connection, other_id, layer, there, call, view)
    must_have(one, example)
    must_have(other, example)
    found = difference(one.values()[example], other.values()[example])
    facts = {
        "step": one.step,
        "against_run": other_id,
        "against_step": other.step,
        "most": found.most,
        "relative": found.relative,
        "cosine": found.cosine,
    }
    if format == "json":
        named = {"layer": layer, "call": call, "example": example}
        return JsonResponse({**named, **facts, "shape": found.values.shape, "values": found.values})
    headers = {"X-" + name.replace("_", "-").title(): str(fact) for name, fact in facts.items()}
    headers["X-Shape"] = ",".join(map(str, found.values.shape))
    return Response(
        found.levels().tobytes(),
        media_type="application/octet-stream",
        headers=headers | {"Cache-Control": "no-cache"},
    )
