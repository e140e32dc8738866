"""/runs/…/series and /curves: what was measured, exact or as a chart wants it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from sqlalchemy import Connection, Row

from app.api import shapes
from app.api.answers import MISSING, JsonResponse, RunList, column, numbers
from app.connections import Reading, RunNumber
from app.missing import missing
from app.names import Storable
from app.run_view import runs_by_id, summary
from trainer.store.packing import Points
from trainer.store.reader import find_series, list_series, read_curve, read_points

router = APIRouter(tags=["series"])

MOST_POINTS = 1_000_000
"""In one answer of several curves; beyond, each gets fewer."""

Name = Annotated[str, Path(max_length=200), Storable]
Layer = Annotated[str, Query(max_length=300, description="A layer's statistics instead."), Storable]
Names = Annotated[
    str, Query(max_length=2000, description="Names of series, with commas between; all if empty.")
]


@router.get(
    "/runs/{run}/series",
    operation_id="list_series",
    response_model=shapes.SeriesList,
    responses=MISSING,
)
def list_(
    run_id: RunNumber,
    connection: Reading,
    layers: Annotated[bool, Query(description="Those of the layers instead.")] = False,
) -> Response:
    """The series of a run with their summaries."""
    rows = list_series(connection, [run_id], layers=layers)
    return JsonResponse({"series": [summary(row) for row in rows]})


@router.get(
    "/runs/{run}/series/{name}",
    operation_id="read_series",
    response_model=shapes.Points,
    responses=MISSING,
)
def read(
    run_id: RunNumber,
    name: Name,
    connection: Reading,
    layer: Layer = "",
    after: Annotated[int, Query(ge=-1, lt=2**63, description="Only later steps.")] = -1,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 100_000,
) -> Response:
    """Every point of a series, to the last bit. `next` is the `after` of the next answer."""
    row = find_series(connection, run_id, name, layer)
    if row is None:
        there = list_series(connection, [run_id], layers=bool(layer))
        raise missing("series", name, sorted({other.name for other in there}))
    points = read_points(connection, row.id, after)
    shown = points[:limit]
    following = int(shown.steps[-1]) if len(points) > limit else None
    return JsonResponse({**with_points(row, shown), "next": following})


@router.get("/curves", operation_id="read_curves", response_model=shapes.Curves, responses=MISSING)
def curves(
    connection: Reading,
    runs: RunList,
    names: Names = "",
    layer: Layer = "",
    points: Annotated[int, Query(ge=2, le=20_000, description="About how many at most.")] = 1500,
    smoothing: Annotated[float, Query(ge=0, lt=1, description="Share kept of the past.")] = 0,
) -> Response:
    """Series of several runs as charts want them: thinned, extremes kept, smoothed as a whole."""
    run_ids = numbers(runs)
    runs_by_id(connection, run_ids)
    wanted = set(names.split(",")) if names else None
    rows = [
        row
        for row in list_series(connection, run_ids, layers=bool(layer))
        if row.layer == layer and (wanted is None or row.name in wanted)
    ]
    most = min(points, max(2, MOST_POINTS // max(1, len(rows))))
    return JsonResponse({"curves": [curve(connection, row, most, smoothing) for row in rows]})


def curve(connection: Connection, row: Row[Any], most: int, smoothing: float) -> dict[str, Any]:
    found = read_curve(connection, row.id, most, smoothing)
    shown = with_points(row, found.points)
    return shown | {"smoothed": column(found.smoothed)} if smoothing else shown


def with_points(row: Row[Any], points: Points) -> dict[str, Any]:
    return {
        "run": row.run_id,
        **summary(row),
        "steps": points.steps,
        "values": column(points.values),
        "times": points.times,
    }
