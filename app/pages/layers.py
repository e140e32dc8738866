"""LayersPage: what the layers of a run gave for the probe batch, over its training."""

from collections.abc import Sequence
from typing import Annotated, Any, cast

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection, exists, select

from app import finding
from app.connections import Reading, Reference
from app.missing import NotThere
from app.models import runs
from app.mosaic import all_planes, mosaic_png
from app.names import Storable
from app.pages.run import show
from app.recorded import recorded_layers, recorded_views, steps_of
from app.run_view import find_run
from app.sparkline import sparklines
from trainer.anatomy import LayerFacts, model_anatomy
from trainer.config import RunConfig, View
from trainer.store.reader import read_probe_input
from trainer.store.tables import layer_outputs

router = APIRouter(prefix="/runs/{run}")

VIEWS = {"channels": "Outputs", "weight": "Weights", "gradient": "Gradients"}
MOST_OTHERS = 100
"""Newest runs that are offered for a comparison."""


@router.get("/layers")
def layers(
    request: Request,
    run: Reference,
    connection: Reading,
    layer: Annotated[str, Query(max_length=300), Storable] = "",
    view: View = "channels",
) -> HTMLResponse:
    found = find_run(connection, run)
    views = recorded_views(connection, found["id"])
    # a run may have been asked for its weights alone
    view = view if view in views or not views else cast(View, views[0])
    recorded = recorded_layers(connection, found["id"], view)
    names = list(dict.fromkeys(facts["layer"] for facts in recorded))
    if layer and names and layer not in names:
        if view == "channels":
            raise NotThere(f"layer {layer} was not recorded; there are: {', '.join(names)}")
        # one without weights, or in front of all that learns
        layer = ""
    first_maps = next((facts["layer"] for facts in recorded if len(facts["shape"]) > 2), None)
    chosen = layer or first_maps or (names[0] if names else "")
    return show(
        request,
        connection,
        found,
        "layers",
        tree=layer_tree(found),
        sparks=sparklines(connection, found["id"]),
        recorded=set(names),
        layer=chosen,
        view=view,
        views={name: VIEWS[name] for name in views},
        calls=[facts for facts in recorded if facts["layer"] == chosen],
        steps=steps_of(recorded),
        others=others(connection, found["id"], chosen, view) if names else [],
    )


def layer_tree(run: dict[str, Any]) -> tuple[LayerFacts, ...]:
    config = RunConfig.model_validate(run["config"])
    return model_anatomy(config.model, config.task.facts())


def others(connection: Connection, run_id: int, layer: str, view: str) -> Sequence[Any]:
    """The newest other runs that recorded a layer of this name: id and name."""
    c = layer_outputs.c
    has_it = exists().where(c.run_id == runs.c.id, c.layer == layer, c.view == view)
    query = select(runs.c.id, runs.c.name).where(runs.c.id != run_id, has_it)
    return connection.execute(query.order_by(runs.c.id.desc()).limit(MOST_OTHERS)).all()


@router.get("/probe/{example}.png")
def probe_picture(
    run: Reference, example: Annotated[int, Path(ge=0, lt=1000)], connection: Reading
) -> Response:
    """One of the examples whose layer outputs are kept, as a picture."""
    stored = read_probe_input(connection, finding.find(connection, run))
    if stored is None or example >= len(stored.quantised):
        raise NotThere(f"run {run} kept no probe example {example}")
    picture = mosaic_png(all_planes(stored.quantised[example]))
    return Response(picture, media_type="image/png", headers={"Cache-Control": "max-age=300"})
