"""Server: the web server, and beside it one local worker that outlives a restart of it."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine

from app.access import tokens
from app.compression import is_loopback
from app.db import open_database
from app.devices import DeviceLock, device_name
from app.liveness import Liveness
from app.main import create_app
from app.settings import ROOT, Settings
from trainer.part import Refused
from trainer.store.database import reading, sqlite_file

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


def serve(settings: Settings, *, worker_device: str | None) -> None:
    """Serve until SIGINT or SIGTERM; with a device named, keep a worker on it meanwhile."""
    must_be_trusted(settings)
    must_be_free(settings)
    app = create_app(settings)
    server = Server(app, settings)
    with ExitStack() as beside:
        beside.enter_context(looking_around(app.state.engine, settings))
        if worker_device is not None:
            beside.enter_context(kept_worker(settings, worker_device))
        server.run()


def must_be_trusted(settings: Settings) -> None:
    """Refused where others could reach a server that asks nobody, or that knows nobody."""
    if is_loopback(settings.host):
        return
    beyond = f"{settings.host} can be reached from other machines"
    if settings.access == "off":
        raise Refused(
            f"{beyond}, and TRICKLAB_ACCESS=off lets everybody in who reaches the port: whoever "
            "starts a run has code run here. Listen on 127.0.0.1, or leave access on"
        )
    if settings.token is None and not is_anybody_known(settings):
        raise Refused(
            f"{beyond}, and nobody could log in yet: make a token first, `tricklab token make NAME "
            "--role owner`, or set TRICKLAB_TOKEN. Or listen on 127.0.0.1"
        )


def is_anybody_known(settings: Settings) -> bool:
    file = sqlite_file(settings.database_url)
    if file is not None and not file.exists():
        return False
    engine = open_database(settings)
    with reading(engine) as connection:
        found = tokens.has_any(connection)
    engine.dispose()
    return found


def must_be_free(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise Refused(
                f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); "
                "another server may run there: choose another --port"
            ) from error


class Server(uvicorn.Server):
    """uvicorn, told to end open event streams first: it would wait for them for ever."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                log_level="warning",
                # whoever sits before us may not say who the client is, unless configured
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies),
                server_header=False,
                timeout_graceful_shutdown=5,
            )
        )
        self.app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.app.state.live.close()
        super().handle_exit(sig, frame)


@contextmanager
def looking_around(engine: Engine, settings: Settings) -> Iterator[None]:
    """Inside the block, runs of lost workers go back to the queue even where no worker is left."""
    over = threading.Event()
    liveness = Liveness(engine, settings)

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            liveness.look()

    looker = threading.Thread(target=look, name="liveness")
    looker.start()
    try:
        yield
    finally:
        over.set()
        looker.join()


@contextmanager
def kept_worker(settings: Settings, device: str) -> Iterator[None]:
    """A worker process on the device inside the block, started again whenever there is none.

    It has a session of its own and trains on when the server ends: it finishes the run in hand
    and then sees that its server is gone. A server started meanwhile waits for it.
    """
    over = threading.Event()
    keeper = threading.Thread(target=keep_worker, args=(settings, device, over), name="keeper")
    keeper.start()
    # uvicorn, once closed, passes the signal on; its default would end this process right there
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        over.set()
        keeper.join()


def keep_worker(settings: Settings, device: str, over: threading.Event) -> None:
    lock = DeviceLock(settings.folder, device_name(device))
    process: subprocess.Popen[bytes] | None = None
    while not over.is_set():
        if (process is None or process.poll() is not None) and lock.is_free():
            process = start_worker(settings, device)
        over.wait(LOOK_SECONDS)
    if process is not None and process.poll() is None and is_idle(settings):
        process.send_signal(signal.SIGTERM)


def is_idle(settings: Settings) -> bool:
    """Whether no run trains, so that nobody misses the worker."""
    from app.models import Status, runs
    from trainer.store.database import connect

    engine = connect(settings.database_url)
    with reading(engine) as connection:
        query = runs.select().where(runs.c.status == Status.RUNNING).limit(1)
        idle = connection.execute(query).first() is None
    engine.dispose()
    return idle


def start_worker(settings: Settings, device: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "app", "worker", "--device", device, f"--parent={os.getpid()}"],
        env={**os.environ, **settings.as_environment(), "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
