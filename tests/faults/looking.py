"""Looking: G14: fifty open pages cost a training next to nothing."""

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lab import quick_config
from server import API, client_at, free_port, is_up

from app.models import Asked, Status
from app.settings import ROOT
from faults.promise import Shown
from faults.world import PATIENCE, World, eventually

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
            # shown once all that the server imports after its start is there: some twenty
            # seconds of a core beside a training, which are the start's and not the pages'
            client.get("/runs/new", timeout=PATIENCE).raise_for_status()
        yield port
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def rate(world: World, run_id: int, seconds: float) -> float:
    """Steps per second of training, over a while."""
    first = world.lab.run(run_id)
    time.sleep(seconds)
    last = world.lab.run(run_id)
    # between two reports of the run itself: of what came after the last one nothing is known
    return float((last.step - first.step) / (last.moved_at - first.moved_at))


def watched_rate(world: World, run_id: int, port: int, pages: int, seconds: float) -> float:
    """The same while pages are open: each follows the run."""
    path = f"{API}/live?runs={run_id}"
    # in a process of their own: their work is not the server's
    command = [sys.executable, "-m", "faults.looking", str(port), path, str(pages)]
    viewers = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert viewers.stdout is not None
    with viewers:
        assert viewers.stdout.readline() == "every page hears of the run\n"
        found = rate(world, run_id, seconds)
        viewers.kill()
    return found


async def look(port: int, path: str, pages: int) -> None:
    """Hold event streams open until killed; a line is printed once each has brought something."""
    heard = 0

    async def follow() -> None:
        nonlocal heard
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readuntil(b"data:")
        heard += 1
        if heard == pages:
            print("every page hears of the run", flush=True)
        while await reader.read(65536):
            pass

    await asyncio.gather(*(follow() for _ in range(pages)))


if __name__ == "__main__":
    asyncio.run(look(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
