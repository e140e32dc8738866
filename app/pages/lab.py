"""LabPage: benches and live lessons. A lesson is asked of the worker as often as a value moves."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, JSONResponse

from app import catalogue
from app.connections import AnEngine
from app.inquiries import desk
from app.missing import missing
from app.pages.templates import render
from app.part_form import PartForm, part_form
from trainer.lessons import LESSONS, Lesson
from trainer.part import Refused, name_of
from trainer.store.database import writing

router = APIRouter()

Name = Annotated[str, Path(max_length=100)]
MOST_FIELDS = 100


@router.get("/lab")
def index(request: Request) -> HTMLResponse:
    """What there is to play with, by the founding note it belongs to."""
    return render(request, "lab/index.html", lessons=[described(one) for one in LESSONS])


@router.get("/lab/lessons/{name}")
def page(request: Request, name: Name) -> HTMLResponse:
    """A lesson, with the values that the address has."""
    lesson = find(name)
    return render(request, "lab/lesson.html", lesson=live(lesson, dict(request.query_params)))


@router.post("/lab/lessons/{name}/ask")
async def ask(request: Request, name: Name, engine: AnEngine) -> JSONResponse:
    """Have a lesson answered; its number, or the errors by field."""
    from anyio import to_thread

    typed = {
        key: value
        for key, value in (await request.form(max_fields=MOST_FIELDS)).multi_items()
        if isinstance(value, str)
    }
    form = part_form(find(name), typed)
    if form.part is None:
        return JSONResponse({"errors": dict(form.errors)})
    return await to_thread.run_sync(asked, engine, form.part)


def asked(engine: AnEngine, lesson: Lesson) -> JSONResponse:
    try:
        with writing(engine, durable=False) as connection:
            return JSONResponse({"errors": {}, "number": desk.add(connection, lesson)})
    except Refused as refusal:
        return JSONResponse({"errors": {"": str(refusal)}})


def find(name: str) -> type[Lesson]:
    """The lesson of that name. Raises NotThere with the names there are."""
    for lesson in LESSONS:
        if name_of(lesson) == name:
            return lesson
    raise missing("lesson", name, map(name_of, LESSONS))


def described(lesson: type[Lesson]) -> dict[str, Any]:
    """What a page says of a lesson."""
    summary, _, rest = catalogue.documentation(lesson).partition("\n\n")
    return {
        "name": name_of(lesson),
        "title": lesson.title,
        "summary": summary.replace("\n", " "),
        "paragraphs": [one.replace("\n", " ") for one in rest.split("\n\n") if one],
        "note": lesson.note,
        "tricks": lesson.tricks,
        "formula": lesson.formula,
    }


def live(lesson: type[Lesson], typed: dict[str, str]) -> dict[str, Any]:
    """A lesson with its form, as pages show it."""
    form: PartForm[Lesson] = part_form(lesson, typed)
    return described(lesson) | {"form": form}
