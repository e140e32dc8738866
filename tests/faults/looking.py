"""Looking: G14: fifty open pages cost a training next to nothing."""

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
from lab import quick_config
from server import API, client_at, free_port, is_up

from app.models import Asked, Status
from app.settings import ROOT
from faults.promise import Shown
from faults.world import World, eventually

MOST = 0.02


def looking_costs_next_to_nothing(
    folder: Path, seed: int, pages: int, pairs: int, seconds: float
) -> Shown:
    """One long training; in turns nobody looks and fifty pages do. Medians of paired rates."""
    shown = Shown("G14", "")
    started = time.monotonic()
    world = World.at(folder, seed)
    recording = {"layer_steps": "never", "checkpoint_seconds": 3600}
    with world.working():
        run_id = world.add(quick_config(budget={"epochs": 100_000}, recording=recording))
        world.wait_for_step(run_id, 100)
        ratios = []
        with served(world) as port:
            for number in range(pairs):
                # the order changes, so that a machine that grows slower favours neither
                if number % 2:
                    looked_at = watched_rate(world, run_id, port, pages, seconds)
                    alone = rate(world, run_id, seconds)
                else:
                    alone = rate(world, run_id, seconds)
                    looked_at = watched_rate(world, run_id, port, pages, seconds)
                ratios.append(looked_at / alone)
        world.ask(run_id, Asked.CANCEL)
        world.wait_for(run_id, Status.CANCELLED)
    cost = 1 - statistics.median(ratios)
    low, high = min(ratios), max(ratios)
    shown.what = (
        f"{pages} open pages cost {cost * 100:.1f} % of the steps per second (median of "
        f"{pairs} pairs of {seconds:.0f} s; from {low:.3f} to {high:.3f} of the rate alone)"
    )
    shown.must(cost <= MOST, f"that is more than {MOST * 100:.0f} %")
    shown.seconds = time.monotonic() - started
    world.lab.engine.dispose()
    return shown


@contextlib.contextmanager
def served(world: World) -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "serve", "--no-worker", "--port", str(port)],
        env={**os.environ, **world.settings.as_environment(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with client_at(port) as client:
            eventually(lambda: is_up(client), "the server is up")
        yield port
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def rate(world: World, run_id: int, seconds: float) -> float:
    """Steps per second of training, over a while."""
    first = world.lab.run(run_id)
    began = time.monotonic()
    time.sleep(seconds)
    last = world.lab.run(run_id)
    return float((last.step - first.step) / (time.monotonic() - began))


def watched_rate(world: World, run_id: int, port: int, pages: int, seconds: float) -> float:
    """The same while pages are open: each follows the run and fetches its curve as it changes."""
    over = threading.Event()
    heard: list[int] = []
    viewers = threading.Thread(target=look, args=(port, run_id, pages, over, heard))
    viewers.start()
    eventually(lambda: len(heard) >= pages, "every page hears of the run")
    found = rate(world, run_id, seconds)
    over.set()
    viewers.join()
    return found


def look(port: int, run_id: int, pages: int, over: threading.Event, heard: list[int]) -> None:
    """Many event streams in one process: the readers' own work is not what is measured."""
    import asyncio

    async def follow(client: httpx2.AsyncClient) -> None:
        address = f"http://127.0.0.1:{port}{API}/live"
        async with client.stream("GET", address, params={"runs": str(run_id)}) as stream:
            async for _ in stream.aiter_raw():
                heard.append(1)
                if over.is_set():
                    return

    async def all_of_them() -> None:
        limits = httpx2.Limits(max_connections=pages + 1)
        async with httpx2.AsyncClient(timeout=60, limits=limits) as client:
            await asyncio.gather(*(follow(client) for _ in range(pages)))

    asyncio.run(all_of_them())
