"""The web application: the gate, the API, the pages, the assets."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.types import ASGIApp

from app import api, assets, docs_page, health, pages, problems
from app.access.admission import Admission
from app.access.keys import Keys
from app.access.tokens import adopt
from app.access.tries import Tries
from app.compression import Compressed
from app.db import open_database
from app.gate import MOST_BODY_BYTES, Gate
from app.live import Live
from app.pages.problem_page import problem_page
from app.settings import ROOT, Settings
from trainer.check import facts
from trainer.config import RunConfig
from trainer.store.database import writing

BUSY_SECONDS = 5.0


class Lab(FastAPI):
    """The application behind its gate."""

    def openapi(self) -> dict[str, Any]:
        # it takes half a second: those who ask for it at once would each make it
        with self.state.documenting:
            if self.openapi_schema is None:
                document = super().openapi()
                schemes = document["components"].setdefault("securitySchemes", {})
                schemes["token"] = {"type": "http", "scheme": "bearer"}
                document["security"] = [{"token": []}]
            return super().openapi()

    def build_middleware_stack(self) -> ASGIApp:
        # not add_middleware: what FastAPI itself puts around that answers some errors on its own
        state = self.state
        admission = Admission(
            Compressed(super().build_middleware_stack()),
            state.settings,
            state.engine,
            state.keys,
            state.tries,
            problem_page,
        )
        return Gate(admission, state.settings)


class OwnFiles(StaticFiles):
    """Our own scripts and styles. Browsers ask each time whether they changed: a 304 is cheap."""

    def file_response(self, *args: Any, **more: Any) -> Response:
        response = super().file_response(*args, **more)
        response.headers["Cache-Control"] = "no-cache"
        return response


def warm() -> None:
    """Load what the first requests would otherwise wait for."""
    # the first shapes on the meta device take seconds of imports
    facts(RunConfig())
    # torch alone is a million objects, which the collector would look through again and again
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def opened(app: FastAPI) -> AsyncIterator[None]:
    warm_up = asyncio.create_task(to_thread.run_sync(warm))
    yield
    await app.state.live.end()
    # a thread in the middle of imports makes the process abort as it ends
    await warm_up
    app.state.engine.dispose()


def create_app(settings: Settings) -> FastAPI:
    """The server of a lab, its database opened and migrated."""
    app = Lab(
        title="Tricklab",
        summary="Which training tricks help on my model, my data, my GPU, and can I prove it?",
        version=version("tricklab"),
        openapi_url="/api/v1/openapi.json",
        # our own page instead, from installed files and without inline scripts
        docs_url=None,
        redoc_url=None,
        max_body_size=MOST_BODY_BYTES,
        lifespan=opened,
    )
    app.state.settings = settings
    app.state.documenting = threading.Lock()
    # whoever looks at a page must not wait half a minute to hear that the database is locked
    app.state.engine = open_database(settings, busy_seconds=BUSY_SECONDS)
    app.state.live = Live(app.state.engine)
    app.state.keys = Keys(app.state.engine)
    app.state.tries = Tries()
    app.state.streams = []
    with writing(app.state.engine) as connection:
        adopt(connection, settings.token.get_secret_value() if settings.token else None)
    problems.install(app, problem_page)
    for module in (api, assets, docs_page, health, pages):
        app.include_router(module.router)
    app.mount("/static", OwnFiles(directory=ROOT / "static"), name="static")
    return app
