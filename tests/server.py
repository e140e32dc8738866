"""Servers for tests: the application in this process, and `tricklab serve` with its worker."""

import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import psutil
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel
from sqlalchemy import select

from app.main import create_app
from app.models import workers
from app.server import Server
from app.settings import ROOT, Settings
from trainer.store.database import connect, reading

API = "/api/v1"
PATIENCE = 60.0
"""Seconds after which something counts as never going to happen; for busy machines."""


Prepare = Callable[[FastAPI], None]
"""What a test does to the application before it is served."""


BROWSER = {"Accept": "text/html,application/xhtml+xml"}
"""What a browser asks for, so that refusals come as pages."""


@contextlib.contextmanager
def client_of(settings: Settings, prepare: Prepare = lambda app: None) -> Iterator[TestClient]:
    """A client on the whole application, without a network and without a worker."""
    app = create_app(settings)
    prepare(app)
    with TestClient(
        app, base_url="http://127.0.0.1", raise_server_exceptions=False, follow_redirects=False
    ) as client:
        yield client


@contextlib.contextmanager
def listening(settings: Settings, prepare: Prepare = lambda app: None) -> Iterator[httpx2.Client]:
    """The application on a real port, served by a thread of this process; without a worker."""
    settings = settings.model_copy(update={"port": free_port()})
    app = create_app(settings)
    prepare(app)
    server = Server(app, settings)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        with client_at(settings.port) as client:
            wait_for(lambda: server.started)
            yield client
    finally:
        server.handle_exit(signal.SIGTERM, None)
        thread.join()


@dataclass(frozen=True)
class Served:
    """A `tricklab serve` process and a client on it."""

    process: subprocess.Popen[bytes]
    client: httpx2.Client

    def stop(self, how: signal.Signals = signal.SIGTERM) -> float:
        """Send the signal and wait for the end; how many seconds that took."""
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(PATIENCE)
        return time.monotonic() - began


@contextlib.contextmanager
def serving(settings: Settings, *options: str) -> Iterator[Served]:
    """`tricklab serve` on a free port. A worker that it leaves behind goes on: see end_workers."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve", "--port", str(port), *options],
        env={**os.environ, **settings.as_environment(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with client_at(port) as client:
            wait_for(lambda: is_up(client) or process.poll() is not None)
            assert process.poll() is None, "the server ended at once"
            yield Served(process, client)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def client_at(port: int) -> httpx2.Client:
    return httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_up(client: httpx2.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx2.TransportError:
        return False


def wait_for(happened: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Ask again and again until the answer is true; the answer."""
    deadline = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < deadline, f"nothing came of it in {seconds} s"
        time.sleep(0.05)
    return answer


def end_workers(settings: Settings) -> None:
    """End the workers of a lab and wait until they are gone."""
    processes = living_workers(settings)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
    wait_for(lambda: not any(is_alive(process) for process in processes))


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody waited for does not."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def living_workers(settings: Settings) -> list[int]:
    """The process numbers of workers that have not ended; not those that tests made up."""
    engine = connect(settings.database_url)
    with reading(engine) as connection:
        real = (workers.c.host == platform.node()) & workers.c.ended_at.is_(None)
        query = select(workers.c.process).where(real)
        processes = list(connection.execute(query).scalars())
    engine.dispose()
    return processes


def states(stream: httpx2.Response) -> Iterator[dict[str, Any]]:
    """The runs' states as they come out of an event stream."""
    kind = ""
    for line in stream.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: ") and kind == "run":
            yield json.loads(line.removeprefix("data: "))


def told(response: Any, shape: type[BaseModel], status_code: int = 200) -> Any:
    """The content of an answer, which must be just what the API's documentation says it is."""
    assert response.status_code == status_code, response.text
    shape.model_validate_json(response.content, strict=True)
    return response.json()


def refusal(response: Any, status_code: int) -> str:
    """Why a request was refused: the detail of a well-formed problem."""
    assert response.status_code == status_code, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status_code
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert "Traceback" not in response.text
    detail = problem["detail"]
    assert isinstance(detail, str)
    return detail


def seconds_of(ask: Callable[[], Any]) -> float:
    """How long a request takes that must succeed."""
    began = time.perf_counter()
    assert ask().status_code == 200
    return time.perf_counter() - began
