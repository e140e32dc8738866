"""/tasks, /models, /tricks …: what can be chosen, from the classes that define it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from app import catalogue
from app.api import shapes
from app.api.answers import MISSING, JsonResponse
from app.check import config_errors
from app.connections import AnEngine
from app.problems import MOST_ERRORS, Invalid, field_errors
from trainer.anatomy import model_anatomy
from trainer.check import facts
from trainer.config import RunConfig
from trainer.models import Model
from trainer.part import Part, Refused
from trainer.recipes import RECIPES
from trainer.tasks import Task

router = APIRouter(tags=["catalogue"])

Name = Annotated[str, Path(max_length=100)]
SHAPES = {"task": shapes.Task, "model": shapes.Model, "loss": shapes.Loss, "trick": shapes.Trick}


def add_routes(kind: str, plural: str) -> None:
    """A list and a detail route for one kind of choice."""
    shape = SHAPES.get(kind, shapes.Part)
    listed: dict[str, Any] = {plural: (list[shape], ...)}  # type: ignore[valid-type]

    @router.get(
        f"/{plural}",
        operation_id=f"list_{plural}",
        response_model=create_model(plural.capitalize(), **listed),
    )
    def list_() -> Response:
        """What there is to choose, with its parameters."""
        return JsonResponse({plural: [catalogue.describe(p) for p in catalogue.KINDS[kind]]})

    @router.get(
        f"/{plural}/{{name}}",
        operation_id=f"get_{kind}",
        response_model=shape,
        responses=MISSING,
    )
    def get(name: Name) -> Response:
        """One of them by its name."""
        return JsonResponse(catalogue.describe(catalogue.find(kind, name)))


for kind, plural in {
    "task": "tasks",
    "model": "models",
    "loss": "losses",
    "optimizer": "optimizers",
    "schedule": "schedules",
    "trick": "tricks",
}.items():
    add_routes(kind, plural)


MODEL_PARAMETERS = {
    "name": "parameters",
    "in": "query",
    "description": "The model's own parameters, each under its name.",
    "style": "form",
    "explode": True,
    "schema": {"type": "object", "additionalProperties": True},
}


@router.get(
    "/models/{name}/layers",
    operation_id="list_model_layers",
    response_model=shapes.Layers,
    responses=MISSING,
    openapi_extra={"parameters": [MODEL_PARAMETERS]},
)
def layers(
    name: Name, request: Request, task: Annotated[str, Query(max_length=100)] = "digits"
) -> Response:
    """The layers of a model on a task."""
    model, chosen = catalogue.find("model", name), catalogue.find("task", task)()
    built = model.model_validate(given(model, request))
    assert isinstance(built, Model)
    assert isinstance(chosen, Task)
    try:
        found = model_anatomy(built, chosen.facts())
    except Refused as refusal:
        raise Invalid([{"field": "name", "message": str(refusal), "given": name}]) from refusal
    return JsonResponse({"layers": [vars(layer) for layer in found]})


def given(part: type[Part], request: Request) -> dict[str, Any]:
    """A part's parameters out of the query: those that are lists may be given repeatedly."""
    query = request.query_params
    properties = part.model_json_schema()["properties"]
    return {
        key: query.getlist(key) if properties.get(key, {}).get("type") == "array" else query[key]
        for key in query
        if key != "task"
    }


@router.get("/recipes", operation_id="list_recipes", response_model=shapes.Recipes)
def recipes() -> Response:
    """The ready-made configs."""
    return JsonResponse(
        {
            "recipes": [
                {
                    "name": name,
                    "title": found.title,
                    "purpose": found.purpose,
                    "config": found.config.model_dump(mode="json"),
                }
                for name, found in RECIPES.items()
            ]
        }
    )


class Question(BaseModel):
    """A config that may still have mistakes in it."""

    model_config = ConfigDict(extra="forbid")

    config: dict[str, Any]


@router.post("/check", operation_id="check_config", response_model=shapes.Checked)
def check_config(question: Question, engine: AnEngine) -> Response:
    """What is wrong with a config, and what its run will be like; queues nothing."""
    try:
        config = RunConfig.model_validate(question.config)
    except ValidationError as invalid:
        return JsonResponse(
            {"problems": field_errors(invalid.errors())[:MOST_ERRORS], "facts": None}
        )
    if errors := config_errors(config, engine):
        return JsonResponse({"problems": errors, "facts": None})
    told = facts(config)
    answer = {
        **vars(told),
        "layers": [vars(layer) for layer in told.layers],
        "recording": vars(told.recording),
    }
    return JsonResponse({"problems": [], "facts": answer})
