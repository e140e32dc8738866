"""/runs/…/series: what was measured, to the last bit."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.api import shapes
from app.api.answers import MISSING, JsonResponse, column
from app.api.any_name import SERIES
from app.connections import Reading, RunNumber
from app.missing import missing
from app.names import Storable
from app.run_view import summary
from trainer.store.reader import find_series, list_series, read_points

router = APIRouter(tags=["series"])

Name = Annotated[str, Path(max_length=200), Storable]
Layer = Annotated[str, Query(max_length=300, description="A layer's statistics instead."), Storable]


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
    f"/runs/{{run}}/series/{SERIES}",
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
    return JsonResponse(
        {
            "run": row.run_id,
            **summary(row),
            "steps": shown.steps,
            "values": column(shown.values),
            "times": shown.times,
            "next": following,
        }
    )
