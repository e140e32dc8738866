"""LoaderBench: the way of the data drawn, its first batches, and the sweep over workers."""

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse
from markupsafe import Markup
from sqlalchemy import Engine

from app.connections import AnEngine
from app.inquiries import desk
from app.loader_form import LoaderForm, loader_form
from app.pages.templates import JINJA, render
from app.pipeline import Station, pipeline
from trainer.check import facts
from trainer.inquiries import Inquiry
from trainer.part import Refused
from trainer.store.database import writing

router = APIRouter()

MOST_FIELDS = 100


@router.get("/lab/loader")
def page(request: Request) -> HTMLResponse:
    """The bench, with the options that the address has."""
    form = loader_form(dict(request.query_params))
    return render(request, "lab/loader.html", form=form, pipeline=drawn(form))


@router.get("/lab/loader/pipeline")
def redrawn(request: Request) -> JSONResponse:
    """The errors by field, and the way of the data with these options."""
    form = loader_form(dict(request.query_params))
    return JSONResponse({"errors": dict(form.errors), "html": drawn(form)})


@router.post("/lab/loader/ask")
async def ask(request: Request, engine: AnEngine) -> JSONResponse:
    """Have the first batches taken; the number of the question, or the errors by field."""
    return await asked(request, engine, lambda form: form.batches)


@router.post("/lab/loader/sweep")
async def sweep(request: Request, engine: AnEngine) -> JSONResponse:
    """Have numbers of workers and batch sizes tried; likewise."""
    return await asked(request, engine, lambda form: form.sweep)


async def asked(
    request: Request, engine: Engine, what: Callable[[LoaderForm], Inquiry]
) -> JSONResponse:
    from anyio import to_thread

    items = (await request.form(max_fields=MOST_FIELDS)).multi_items()
    typed = {name: value for name, value in items if isinstance(value, str)}

    def add() -> JSONResponse:
        form = loader_form(typed)
        if form.config is None:
            return JSONResponse({"errors": dict(form.errors)})
        try:
            with writing(engine, durable=False) as connection:
                number = desk.add(connection, what(form))
        except Refused as refusal:
            return JSONResponse({"errors": {"": str(refusal)}})
        return JSONResponse({"errors": {}, "number": number})

    return await to_thread.run_sync(add)


def drawn(form: LoaderForm) -> Markup:
    """The pipeline; where there are errors, that it cannot be drawn."""
    stations: Sequence[Station] = ()
    warnings: Sequence[str] = ()
    if form.config is not None and form.wanted.part is not None:
        stations = pipeline(form.config, form.wanted.part.epoch)
        warnings = facts(form.config).warnings
    template = JINJA.get_template("lab/pipeline.html")
    return Markup(template.render(stations=stations, warnings=warnings))
