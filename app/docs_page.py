"""DocsPage: the interactive page of the API, from installed files only."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.pages.templates import render

router = APIRouter(include_in_schema=False)


@router.get("/docs", response_class=HTMLResponse)
def docs(request: Request) -> HTMLResponse:
    return render(request, "docs.html", openapi_url=request.app.openapi_url)
