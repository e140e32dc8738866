"""/curves: series of several runs as charts want them, or only what is new of them."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.api import shapes
from app.api.answers import MISSING, JsonResponse, RunList, numbers
from app.api.columns import Encoded, packed, plain
from app.api.curve_cursor import CURSOR, Cursor
from app.connections import Reading
from app.finding import attempts_of
from app.names import Storable
from app.run_view import summary
from trainer.store.curve_reader import Curve, Steps, read_curves, read_newer
from trainer.store.reader import choose_series

router = APIRouter(tags=["series"])

MOST_POINTS = 1_000_000
"""In one answer of several curves; beyond, each gets fewer."""
LAST_STEP = 2**63 - 1

Layer = Annotated[str, Query(max_length=300, description="A layer's statistics instead."), Storable]
Names = Annotated[
    str, Query(max_length=2000, description="Names of series, with commas between; all if empty.")
]
Step = Annotated[int, Query(ge=0, le=LAST_STEP, description="Only steps between these two.")]


@router.get("/curves", operation_id="read_curves", response_model=shapes.Curves, responses=MISSING)
def curves(
    connection: Reading,
    runs: RunList,
    names: Names = "",
    layer: Layer = "",
    points: Annotated[int, Query(ge=2, le=20_000, description="About how many at most.")] = 1500,
    smoothing: Annotated[float, Query(ge=0, lt=1, description="Share kept of the past.")] = 0,
    first: Step = 0,
    last: Step = LAST_STEP,
    cursor: Annotated[
        str,
        Query(pattern=CURSOR, description="Of an earlier answer: only what is new since then."),
    ] = "",
    times: Annotated[bool, Query(description="Also when each point was made.")] = True,
    packed_: Annotated[
        bool, Query(alias="packed", description="Columns as base64 of little-endian numbers.")
    ] = False,
) -> Response:
    """Series of several runs as charts want them: thinned, extremes kept, smoothed as a whole.

    With a cursor a curve that went on has only its new points, and `appended` says so.
    """
    run_ids = numbers(runs)
    attempts = attempts_of(connection, run_ids)
    rows = choose_series(connection, run_ids, names.split(",") if names else [], layer)
    most = min(points, max(2, MOST_POINTS // max(1, len(rows))))
    steps = None if (first, last) == (0, LAST_STEP) else Steps(first, last)
    # what is new can only be appended to a curve that reaches to the end
    seen = Cursor.parsed(cursor if steps is None else "")
    new = {row.id for row in rows if 0 <= seen.missing(row, attempts) <= most}
    whole = [row for row in rows if row.id not in new]
    read = read_curves(connection, whole, most, smoothing, steps)
    found = {row.id: curve for row, curve in zip(whole, read, strict=True)}
    found |= {
        series_id: read_newer(connection, series_id, seen.place(series_id), smoothing)
        for series_id in new
    }
    encode = packed if packed_ else plain
    return JsonResponse(
        {
            "curves": [
                {
                    "run": row.run_id,
                    **summary(row),
                    **columns(found[row.id], encode, times=times, smoothed=smoothing > 0),
                    "appended": row.id in new,
                }
                for row in rows
            ],
            "cursor": Cursor.at(rows, attempts).text,
        }
    )


def columns(
    curve: Curve, encode: Callable[..., Encoded], *, times: bool, smoothed: bool
) -> dict[str, Any]:
    found = {"steps": encode(curve.points.steps), "values": encode(curve.points.values)}
    if times:
        found["times"] = encode(curve.points.times)
    if smoothed:
        found["smoothed"] = encode(curve.smoothed, rounded=True)
    return found
