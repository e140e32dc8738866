"""Live pages: how soon a point of a training is on the page, and what open pages cost the training.

    python benchmarks/live_pages.py [--quick] [--json FOLDER]

`tricklab serve` with its worker, the browser and whoever listens share the cores of one machine.
"""

import argparse
import itertools
import selectors
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.browser import chromium
from harness.command import run
from harness.table import Table, goal
from harness.turns import Times, in_turn
from lab import Lab, quick_config
from playwright.sync_api import Browser
from server import Served, end_workers, living_workers, serving, wait_for

from trainer.store.packing import Points

LISTENERS = 50
MOST_DELAY, MOST_COST = 1.0, 0.02
"""Seconds from a step to its point on the page; share of the training's speed."""

WATCHING = """
    window.seen = [];
    let newest = 0;
    const look = () => {
        const chart = document.querySelector("[data-metric=loss] .chart");
        const steps = chart?.data?.find((line) => line.name === "training")?.x ?? [];
        const last = steps[steps.length - 1] ?? 0;
        if (last > newest) {
            newest = last;
            window.seen.push([last, Date.now() / 1000]);
        }
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
"""
"""Notes at each frame which step the loss curve now reaches, and when."""


def measure(chosen: argparse.Namespace) -> Iterator[Table]:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab.at(Path(folder), access="off")
        lab.forget_worker()
        with serving(lab.settings) as served:
            wait_for(lambda: living_workers(lab.settings))
            train(lab, served, 2)
            try:
                with chromium() as browser:
                    yield delay(lab, served, browser, 60 if chosen.quick else 300)
            except FileNotFoundError as reason:
                print(f"\nThe delay on the page was left out: {reason}")
            yield cost(lab, served, 40 if chosen.quick else 100, 3 if chosen.quick else 11)
            end_workers(lab.settings)
        lab.engine.dispose()


# -- how soon a point is there --------------------------------------------------------------


def delay(lab: Lab, served: Served, browser: Browser, epochs: int) -> Table:
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.add_init_script(WATCHING)
    run_id = queue(served, epochs)
    page.goto(f"{str(served.client.base_url).rstrip('/')}/runs/{run_id}")
    wait_for(lambda: lab.run(run_id).status == "finished", 300)
    wait_for(lambda: page.evaluate("window.seen.length > 3"))
    seen: list[tuple[int, float]] = page.evaluate("window.seen")
    # the first drawings still wait for the page's scripts
    delays = longest_waits(lab.points(run_id, "train_loss"), seen[2:])
    table = Table(
        "From a step to its point on the page, s",
        ["drawings", "median of the oldest new point", "longest", "goal"],
    )
    middle = statistics.median(delays)
    wanted = goal(max(delays) <= MOST_DELAY, f"{MOST_DELAY:.0f} s")
    table.add(len(delays), f"{middle:.2f}", f"{max(delays):.2f}", wanted)
    return table


def longest_waits(points: Points, seen: list[tuple[int, float]]) -> list[float]:
    """For each drawing of the curve, how long its oldest new point had waited."""
    times = dict(zip(points.steps.tolist(), points.times.tolist(), strict=True))
    waits = []
    for (before, _), (_, at) in itertools.pairwise(seen):
        waits.append(at - times[before + 1])
    return waits


# -- what listeners cost --------------------------------------------------------------------


def cost(lab: Lab, served: Served, epochs: int, turns: int) -> Table:
    def alone() -> float:
        return train(lab, served, epochs)

    def watched() -> float:
        return train(lab, served, epochs, LISTENERS)

    found: dict[str, Times] = in_turn({"alone": alone, "watched": watched}, turns)
    slower = found["watched"].over(found["alone"]) - 1
    table = Table(
        "A training that is watched", ["pages open", "training seconds", "slower by", "goal"]
    )
    table.add(0, f"{found['alone'].median:.2f}", "", "")
    wanted = goal(slower <= MOST_COST, f"{100 * MOST_COST:.0f} %")
    table.add(LISTENERS, f"{found['watched'].median:.2f}", f"{100 * slower:.1f} %", wanted)
    low, high = found["alone"].spread
    table.note(f"n = {turns} in turn; half of those alone took {low:.2f} to {high:.2f} s.")
    return table


def train(lab: Lab, served: Served, epochs: int, listeners: int = 0) -> float:
    """Have a run trained while so many pages look on; its training seconds."""
    run_id = queue(served, epochs)
    with listening(served, run_id, listeners):
        wait_for(lambda: lab.run(run_id).status == "finished", 300)
    return float(lab.run(run_id).train_seconds)


def queue(served: Served, epochs: int) -> int:
    config = quick_config(budget={"epochs": epochs}, recording={"layer_steps": "never"})
    answer = served.client.post("/api/v1/runs", json={"config": config.model_dump(mode="json")})
    return int(answer.raise_for_status().json()["id"])


@contextmanager
def listening(served: Served, run_id: int, count: int) -> Iterator[None]:
    """So many event streams open on a run, read by one thread that looks at nothing of it."""
    address = served.client.base_url
    request = f"GET /api/v1/live?runs={run_id} HTTP/1.1\r\nHost: {address.host}\r\n\r\n".encode()
    streams = [socket.create_connection((address.host, address.port)) for _ in range(count)]
    chooser, is_over = selectors.DefaultSelector(), threading.Event()
    for stream in streams:
        stream.sendall(request)
        assert stream.recv(1 << 16).startswith(b"HTTP/1.1 200")
        chooser.register(stream, selectors.EVENT_READ)

    def read() -> None:
        while not is_over.is_set():
            for key, _ in chooser.select(0.1):
                key.fileobj.recv(1 << 16)
            time.sleep(0.02)

    reader = threading.Thread(target=read)
    reader.start()
    yield
    is_over.set()
    reader.join()
    for stream in streams:
        stream.close()


if __name__ == "__main__":
    run(__doc__, measure)
