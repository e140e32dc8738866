"""/runs: create, list, look at, change and delete runs."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from sqlalchemy import Connection

from app import finding, labels, order, queue, run_fields
from app.api import shapes
from app.api.answers import MISSING, REFUSED, JsonResponse, one_run
from app.api.paging import cursor_after, position_of
from app.check import must_be_possible
from app.connections import AnEngine, Reading, Reference, RunNumber, TheSettings, Writing
from app.events import events_of
from app.missing import RunMissing
from app.models import Status
from app.names import NameOrNone, RunName, Storable
from app.problems import Invalid
from app.remove import remove_run
from app.run_query import RunQuery, Sort, count_runs
from app.run_view import find_run
from trainer.config import RunConfig
from trainer.recipes import recipe
from trainer.store.reader import list_checkpoints, read_log

router = APIRouter(prefix="/runs", tags=["runs"])

MOST_LOG = 1_000_000
"""Characters of a log in one answer, give or take the last piece."""

Note = Annotated[str, Field(max_length=10_000), Storable]
Priority = Annotated[
    int,
    Field(
        ge=order.LOWEST,
        le=order.HIGHEST,
        strict=True,
        description="Higher ones are trained first.",
    ),
]


Fields = Annotated[
    str,
    Query(
        max_length=2000,
        description="Only these, with commas between; all if empty. Parts with dots: "
        "`metrics.val_accuracy`, `metrics.val_accuracy.last`, `config.optimizer.learning_rate`. "
        "The number, `id`, is always there; a part that a run does not have is left out.",
        examples=["name,status,metrics.val_accuracy.last,config.seed"],
    ),
    Storable,
]


class NewRun(BaseModel):
    """A run to queue: a config, or the name of a recipe."""

    model_config = ConfigDict(extra="forbid")

    config: RunConfig | None = None
    recipe: str = Field(
        "", max_length=100, description="A ready-made config; beside a config: where it came from."
    )
    name: NameOrNone = Field("", description="Made up if empty.")
    note: Note = ""
    priority: Priority = 0
    parent: int | None = Field(
        None, ge=1, lt=2**63, strict=True, description="The run it was cloned from."
    )

    @field_validator("recipe")
    @classmethod
    def is_a_recipe(cls, name: str) -> str:
        if name:
            recipe(name)
        return name

    @model_validator(mode="after")
    def says_what_to_train(self) -> "NewRun":
        if self.config is None and not self.recipe:
            raise ValueError("give a config, or the name of a recipe")
        return self

    def chosen(self) -> RunConfig:
        return self.config or recipe(self.recipe).config


class Change(BaseModel):
    """What can be changed of a run at any time."""

    model_config = ConfigDict(extra="forbid")

    name: RunName | None = None
    note: Note | None = None
    priority: Priority | None = Field(None, description="Only while it waits.")


def possible(new: NewRun, engine: AnEngine) -> NewRun:
    """A new run that can be carried out; found out before the database is locked."""
    must_be_possible(new.chosen(), engine)
    return new


@router.post(
    "",
    status_code=201,
    operation_id="create_run",
    response_model=shapes.Run,
    responses={**REFUSED, 200: {"description": "Queued before", "model": shapes.Run}},
)
def create(
    new: Annotated[NewRun, Depends(possible)],
    connection: Writing,
    idempotency_key: Annotated[
        str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)
    ] = None,
) -> Response:
    """Queue a run. The same Idempotency-Key twice gives the same run, queued once."""
    must_have_parent(connection, new.parent)
    run_id, is_new = queue.add_once(
        connection,
        new.chosen(),
        request_key=idempotency_key,
        name=new.name,
        recipe=new.recipe,
        note=new.note,
        priority=new.priority,
        parent_id=new.parent,
    )
    return one_run(connection, run_id, 201 if is_new else 200)


def must_have_parent(connection: Connection, parent: int | None) -> None:
    try:
        if parent is not None:
            finding.must_exist(connection, parent)
    except RunMissing as missing:
        error = {"field": "parent", "message": str(missing), "given": parent}
        raise Invalid([error]) from missing


@router.get("", operation_id="list_runs", response_model=shapes.RunPage | shapes.PartialRunPage)
def list_(
    connection: Reading,
    status: Status | None = None,
    text: Annotated[
        str,
        Query(max_length=200, description="Words in name, recipe, note; names of tricks, models."),
        Storable,
    ] = "",
    archived: Annotated[bool, Query(description="Those put away, instead of the others.")] = False,
    sort: Sort = "number",
    descending: bool = True,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str, Query(max_length=1000, description="`next` of the page before.")] = "",
    fields: Fields = "",
) -> Response:
    """Runs, newest first unless sorted otherwise. Few fields are read and sent far sooner."""
    tree = run_fields.wanted(fields)
    # one more than asked for tells whether there is a next page
    query = RunQuery(status, text, sort, descending, limit + 1, archived=archived)
    after = position_of(cursor, query) if cursor else None
    places = replace(query, after=after).places(connection)
    shown = [run_id for run_id, _ in places[:limit]]
    last = query.position(places[limit - 1]) if len(places) > limit else None
    return JsonResponse(
        {
            "runs": run_fields.read_fields(connection, shown, tree),
            "total": count_runs(connection, query),
            "next": cursor_after(query, last) if last else None,
        }
    )


@router.get("/{run}", operation_id="get_run", response_model=shapes.Run, responses=MISSING)
def get(run: Reference, connection: Reading, request: Request) -> Response:
    """Everything about a run but its points, layer outputs and log."""
    found = find_run(connection, run)
    tag = f'W/"{found["id"]}-{found["version"]}"'
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    return JsonResponse(found, headers={"ETag": tag})


@router.patch("/{run}", operation_id="change_run", response_model=shapes.Run, responses=REFUSED)
def change(run: Reference, wanted: Change, connection: Writing) -> Response:
    """Rename a run, write a note, or give it another priority while it waits."""
    run_id = finding.find(connection, run)
    if wanted.name is not None:
        labels.rename(connection, run_id, wanted.name)
    if wanted.note is not None:
        labels.annotate(connection, run_id, wanted.note)
    if wanted.priority is not None:
        order.prioritise(connection, run_id, wanted.priority)
    return one_run(connection, run_id)


@router.delete("/{run}", status_code=204, operation_id="delete_run", responses=REFUSED)
def delete(
    run: Reference, connection: Writing, settings: TheSettings, afterwards: BackgroundTasks
) -> None:
    """Delete a run and all it recorded; refused while it trains."""
    remove_run(connection, settings, finding.find(connection, run), afterwards)


@router.get(
    "/{run}/events",
    operation_id="list_run_events",
    response_model=shapes.Events,
    responses=MISSING,
)
def events(run_id: RunNumber, connection: Reading) -> Response:
    """Every transition of a run, oldest first."""
    rows = events_of(connection, run_id)
    return JsonResponse({"events": [dict(row._mapping) for row in rows]})


@router.get("/{run}/log", operation_id="read_run_log", response_model=shapes.Log, responses=MISSING)
def log(
    run_id: RunNumber,
    connection: Reading,
    after: Annotated[int, Query(ge=-1, lt=2**63, description="`last` of the answer before.")] = -1,
) -> Response:
    """What the run's process printed, in order."""
    rows = read_log(connection, run_id, after)
    text, last = "", after
    for row in rows:
        text, last = text + row.text, row.number
        if len(text) >= MOST_LOG:
            break
    return JsonResponse({"text": text, "last": last, "more": bool(rows) and last < rows[-1].number})


@router.get(
    "/{run}/checkpoints",
    operation_id="list_checkpoints",
    response_model=shapes.Checkpoints,
    responses=MISSING,
)
def checkpoints(run_id: RunNumber, connection: Reading) -> Response:
    """The checkpoints that are kept, newest first."""
    rows = list_checkpoints(connection, run_id)
    shown = ("step", "file", "bytes", "sha256", "created_at")
    return JsonResponse(
        {"checkpoints": [{name: row._mapping[name] for name in shown} for row in rows]}
    )
