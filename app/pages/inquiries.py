"""Inquiries on pages: asked by a button, followed while they are answered, then shown."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from markupsafe import Markup
from sqlalchemy import Connection, Row

from app import finding, forms
from app.connections import AnEngine, Reading, Reference, TheSettings, Writing
from app.inquiries import desk
from app.inquiries.advice import advice
from app.inquiries.desk import State
from app.pages.new_run import MOST_FIELDS, split, with_sources
from app.pages.preflight import notes, slices
from app.pages.templates import JINJA
from app.run_view import find_run
from app.worker_view import count_alive
from trainer.config import RunConfig
from trainer.inquiries import INQUIRIES, Equivalence, Inquiry, Preflight, Reproducibility
from trainer.lessons import LESSONS
from trainer.part import name_of
from trainer.store.database import writing

router = APIRouter()

Number = Annotated[int, Path(ge=1, lt=2**63)]
TITLES = {name_of(kind): kind.title for kind in INQUIRIES}
TEMPLATES = {name_of(kind): name_of(kind) for kind in INQUIRIES} | {
    name_of(lesson): "lesson" for lesson in LESSONS
}
"""By which template the answer of each kind is shown: lessons all by the same."""


@router.post("/runs/new/try")
async def try_config(request: Request, engine: AnEngine) -> JSONResponse:
    """Ask for a pre-flight of what is filled in; its number, or the errors by field."""
    from anyio import to_thread

    filled, _ = split(await request.form(max_fields=MOST_FIELDS))

    def asked() -> JSONResponse:
        checked = with_sources(engine, filled)
        if checked.config is None:
            return JSONResponse({"errors": dict(checked.errors)})
        with writing(engine) as connection:
            number = desk.add(connection, Preflight(config=checked.config))
        return JSONResponse({"errors": {}, "number": number})

    return await to_thread.run_sync(asked)


@router.post("/runs/{run}/prove")
def prove(run: Reference, connection: Writing) -> JSONResponse:
    """Ask whether the claims of a run's tricks hold, step by step."""
    return about(connection, run, lambda config: Equivalence(config=config))


@router.post("/runs/{run}/repeat")
def repeat(run: Reference, connection: Writing) -> JSONResponse:
    """Ask whether a run's first steps come out the same twice."""
    return about(connection, run, lambda config: Reproducibility(config=config))


def about(connection: Connection, run: str, asking: Any) -> JSONResponse:
    run_id = finding.find(connection, run)
    config = RunConfig.model_validate(find_run(connection, run)["config"])
    inquiry: Inquiry = asking(config)
    return JSONResponse({"errors": {}, "number": desk.add(connection, inquiry, run_id)})


@router.get("/inquiries/{number}")
def told(number: Number, connection: Reading, settings: TheSettings) -> JSONResponse:
    """How far an answer is, as a fragment of a page; and, of a pre-flight, errors by field."""
    row = desk.find(connection, number)
    is_helpless = row.status == State.QUEUED and not count_alive(connection, settings.lease_seconds)
    return JSONResponse(
        {
            "over": row.ended_at is not None,
            "html": fragment(row, is_helpless=is_helpless),
            "errors": blamed(row),
            "notes": noted(row),
        }
    )


@router.post("/inquiries/{number}/cancel")
def cancel(number: Number, connection: Writing) -> Response:
    """End an inquiry; pages do so when nobody waits for it any more."""
    desk.cancel(connection, number)
    return HTMLResponse("", 204)


def fragment(row: Row[Any], *, is_helpless: bool = False) -> Markup:
    """An inquiry as it stands, for a page or a part of one."""
    template = JINJA.get_template("inquiries/inquiry.html")
    return Markup(
        template.render(
            inquiry=row,
            template=TEMPLATES[row.kind],
            title=TITLES[row.kind],
            is_helpless=is_helpless,
            advice=advice(row.cause),
            slices=slices,
        )
    )


def noted(row: Row[Any]) -> dict[str, str]:
    """What a pre-flight that went well found out about the form's fields."""
    is_preflight = row.kind == name_of(Preflight) and row.status == State.FINISHED
    return notes(row.answer) if is_preflight and row.answer["ok"] else {}


def blamed(row: Row[Any]) -> dict[str, str]:
    """The form's field that a pre-flight found at fault, with what is wrong."""
    answer = row.answer or {}
    if row.kind != name_of(Preflight) or row.status != State.FINISHED or answer.get("ok", True):
        return {}
    config = RunConfig.model_validate(row.request["config"])
    field = answer.get("field", "")
    return {forms.field_name(field, config): answer["reason"]} if field else {}
