"""NewRunPage: a form generated from the config's classes; checked while it is filled in."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from sqlalchemy import Connection, Engine
from starlette.datastructures import FormData

from app import catalogue, forms, queue
from app.access.roles import actor
from app.connections import AnEngine, Reading
from app.forms import Filled
from app.names import name_problem
from app.order import HIGHEST, LOWEST
from app.pages.templates import JINJA, render
from app.run_view import find_run
from app.sources import missing_sources
from trainer.check import facts
from trainer.config import RunConfig
from trainer.part import Refused, name_of
from trainer.recipes import RECIPES, recipe
from trainer.store.database import writing

router = APIRouter()

MOST_FIELDS = 1000
ABOUT = ("run_name", "note", "recipe", "parent", "priority")
"""Fields that say something about the run but are no part of its config."""

Reference = Annotated[str, Query(max_length=200)]
Patterns = Annotated[str, Query(max_length=20_000)]


@router.get("/runs/new")
def page(
    request: Request,
    connection: Reading,
    recipe: Reference = "",
    clone: Reference = "",
    trick: Reference = "",
    layers: Patterns = "",
) -> HTMLResponse:
    """The form, filled from a recipe or from another run, perhaps with a trick switched on.

    Layers to record, and any field under its own name, are taken from the address.
    """
    filled, about = preset(connection, recipe, clone)
    filled = with_fields(filled, {**request.query_params}, layers)
    return show(request, with_trick(filled, trick) if trick else filled, about)


def with_fields(filled: Filled, given: Mapping[str, str], layers: str) -> Filled:
    """The same form with other values in some of its fields; names that are none are passed over:
    an address carries other things as well."""
    typed = {name: value for name, value in given.items() if name in forms.field_names()}
    if layers.strip():
        typed["recording.layers"] = layers
    return forms.of_items({**filled.values, **typed}.items()) if typed else filled


def with_trick(filled: Filled, name: str) -> Filled:
    """The same form with a trick on. Raises NotThere with the names there are."""
    switch = f"tricks.{name_of(catalogue.find('trick', name))}.on"
    return forms.of_items({**filled.values, switch: "on"}.items())


def preset(connection: Connection, name: str, clone: str) -> tuple[Filled, dict[str, str]]:
    about = dict.fromkeys(ABOUT, "") | {"priority": "0"}
    if clone:
        parent = find_run(connection, clone)
        about |= {name: str(parent[name]) for name in ("recipe", "note", "priority")}
        about["parent"] = str(parent["id"])
        return forms.of_config(RunConfig.model_validate(parent["config"])), about
    name = name or next(iter(RECIPES))
    return forms.of_config(recipe(name).config), about | {"recipe": name}


@router.post("/runs/new")
async def queue_run(request: Request, engine: AnEngine) -> Response:
    """Queue what was filled in, or show it again with its errors."""
    from anyio import to_thread

    filled, about = split(await request.form(max_fields=MOST_FIELDS))
    return await to_thread.run_sync(lambda: queued(request, engine, filled, about))


def queued(request: Request, engine: AnEngine, filled: Filled, about: dict[str, str]) -> Response:
    filled = with_sources(engine, filled)
    if filled.config is None:
        return show(request, filled, about, status_code=422)
    try:
        with writing(engine) as connection:
            run_id = queue.add(
                connection,
                filled.config,
                name=about["run_name"].strip(),
                recipe=about["recipe"],
                note=about["note"],
                priority=int(about["priority"]),
                parent_id=int(about["parent"]) if about["parent"] else None,
            )
    except Refused as refusal:
        errors = {**filled.errors, "run_name": str(refusal)}
        return show(request, Filled(filled.values, None, errors), about, status_code=422)
    return RedirectResponse(f"/runs/{run_id}", 303)


@router.post("/runs/new/check")
async def check(request: Request, engine: AnEngine) -> JSONResponse:
    """Errors by field, and the panel beside the form, for what is filled in so far."""
    from anyio import to_thread

    filled, about = split(await request.form(max_fields=MOST_FIELDS))
    return await to_thread.run_sync(lambda: checked(with_sources(engine, filled), about))


def checked(filled: Filled, about: dict[str, str]) -> JSONResponse:
    panel = JINJA.get_template("new_run/panel.html").render(**told(filled, about))
    return JSONResponse({"errors": dict(filled.errors), "panel": panel})


def with_sources(engine: Engine, filled: Filled) -> Filled:
    """The same, with an error beside each field that names a run which does not exist."""
    if filled.config is None:
        return filled
    missing = missing_sources(engine, filled.config)
    errors = {forms.field_name(field, filled.config): message for field, message in missing}
    return replace(filled, config=None, errors=errors) if errors else filled


def split(form: FormData) -> tuple[Filled, dict[str, str]]:
    """The config's fields, and what is said about the run."""
    items = form.multi_items()
    about = {name: str(form.get(name, "")) for name in ABOUT}
    about["priority"] = about["priority"].strip() or "0"
    filled = forms.of_items((name, value) for name, value in items if name not in ABOUT)
    problems = about_problems(about)
    return Filled(
        filled.values, None if problems else filled.config, {**filled.errors, **problems}
    ), about


def about_problems(about: dict[str, str]) -> dict[str, str]:
    found = {}
    if problem := name_problem(about["run_name"].strip()):
        found["run_name"] = problem
    if len(about["note"]) > 10_000:
        found["note"] = "at most 10,000 characters"
    if not is_priority(about["priority"]):
        found["priority"] = f"a whole number from {LOWEST} to {HIGHEST}"
    if about["parent"] and not about["parent"].isdigit():
        found[forms.WHOLE] = "the run to clone is no number"
    return found


def is_priority(text: str) -> bool:
    digits = text.removeprefix("-")
    is_short = digits.isascii() and digits.isdigit() and len(digits) < 5
    return is_short and LOWEST <= int(text) <= HIGHEST


def show(
    request: Request, filled: Filled, about: dict[str, str], status_code: int = 200
) -> HTMLResponse:
    return render(
        request,
        "new_run.html",
        status_code,
        about=about,
        recipes=RECIPES,
        forms=forms,
        **told(filled, about),
    )


def told(filled: Filled, about: dict[str, str]) -> dict[str, Any]:
    """What the panel says: sizes and steps, the layers, and the same run for programs."""
    if filled.config is None:
        return {"filled": filled, "facts": None, "programs": None, "explore": ""}
    told = facts(filled.config)
    return {
        "filled": filled,
        "facts": told,
        "explore": urlencode(for_explorer(filled.config, told.total_steps)),
        "programs": for_programs(filled.config, about),
    }


def for_explorer(config: RunConfig, steps: int) -> dict[str, str]:
    """The fields in which the explorer of layers is asked for this network and recording."""
    values = forms.values_of(config)
    own = (f"model.{config.model.name}.", f"task.{config.task.name}.", "recording.layer")
    chosen = {name: value for name, value in values.items() if name.startswith(own)}
    sizes = {"steps": str(steps), "batch": str(config.loader.batch_size)}
    return {"model.name": config.model.name, "task.name": config.task.name, **chosen, **sizes}


def for_programs(config: RunConfig, about: dict[str, str]) -> dict[str, str]:
    """The same run as JSON, as a command, and as a request."""
    data = config.model_dump(mode="json")
    text = orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()
    body: dict[str, Any] = {"config": data, "name": about["run_name"], "note": about["note"]}
    body["priority"] = int(about["priority"])
    is_asked = actor.get().token_id is not None
    token = '  -H "Authorization: Bearer $TRICKLAB_TOKEN" \\\n' if is_asked else ""
    request = orjson.dumps({key: value for key, value in body.items() if value}).decode()
    return {
        "JSON": text,
        "Command line": f"cat > run.json <<'END'\n{text}\nEND\ntricklab train run.json",
        "curl": "curl -X POST http://127.0.0.1:8321/api/v1/runs \\\n"
        f"{token}  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(request)}",
    }
