"""ShapesBench: what calls do to shape, strides and memory. Computed here: nothing is allocated."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse
from markupsafe import Markup

from app.pages.templates import JINJA, render
from app.shape_presets import PRESETS
from app.shapes_shown import DTYPES, NUMBERED, Shown, shown_for

router = APIRouter()


@router.get("/lab/shapes")
def page(request: Request) -> HTMLResponse:
    """The bench, in the state that the address holds."""
    shown = shown_for(request.query_params)
    return render(
        request,
        "lab/shapes.html",
        shown=shown,
        result=result_of(shown),
        dtypes=DTYPES,
        numbered=NUMBERED,
        presets=PRESETS,
    )


@router.get("/lab/shapes/result")
def result(request: Request) -> JSONResponse:
    """The errors by field, and what is shown for these values."""
    shown = shown_for(request.query_params)
    return JSONResponse({"errors": dict(shown.errors), "html": result_of(shown)})


def result_of(shown: Shown) -> Markup:
    return Markup(JINJA.get_template("lab/shapes_result.html").render(shown=shown))
