"""Explorer: any network of the catalogue as a tree, built without a weight."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

from app import explorer_form as fields
from app.explorer import Explored, explored, with_pattern
from app.explorer_form import explorer_form
from app.pages.templates import JINJA, render

router = APIRouter()

PARTS = ("totals", "tree", "chosen")
"""What is shown beside the form, each in a place of its own."""


@router.get("/lab/layers")
def page(request: Request) -> HTMLResponse:
    """The explorer, in the state that the address holds."""
    found = asked(request)
    return render(
        request, "lab/layers.html", fields=fields, with_pattern=with_pattern, explored=found
    )


@router.get("/lab/layers/parts")
def parts(request: Request) -> JSONResponse:
    """The errors by field, and the parts of the page; none where there is no network to show."""
    found = asked(request)
    return JSONResponse(
        {
            "errors": dict(found.errors),
            "parts": {name: rendered(name, found) for name in PARTS} if found.totals else {},
        }
    )


def asked(request: Request) -> Explored:
    return explored(explorer_form(request.query_params.multi_items()))


def rendered(part: str, found: Explored) -> str:
    context: dict[str, Any] = {"explored": found, "with_pattern": with_pattern, "fields": fields}
    return JINJA.get_template(f"lab/layers/{part}.html").render(context)
