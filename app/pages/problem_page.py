"""ProblemPage: an error as a page, where a person asked for one."""

from http import HTTPStatus

from fastapi import Request
from fastapi.responses import HTMLResponse

from app.pages.templates import render


def problem_page(request: Request, status: int, detail: str) -> HTMLResponse:
    return render(request, "problem.html", status, title=HTTPStatus(status).phrase, detail=detail)
