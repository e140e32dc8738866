"""Reading a curve: an answer a chart can draw, 2,000 points out of series of every length.

    python benchmarks/reading.py [--quick] [--no-peers] [--json FOLDER]

In this process, and over HTTP from a server in a process of its own; without smoothing and smoothed
over the whole series. Extremes are kept in all of it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import numpy as np
from harness.command import run
from harness.table import Table, goal
from lab import Lab, points_of, tiny_config
from server import serving

from trainer.store.curve_reader import read_curves
from trainer.store.database import reading, writing
from trainer.store.packing import Points
from trainer.store.reader import choose_series
from trainer.store.writer import SeriesKey, Writer

BLOCK = 400_000
SMOOTHING = 0.99
SHOWN = 2000


def noise(count: int) -> Points:
    """A loss as a network in single precision measures it: falling, noisy, with one spike."""
    values = np.exp(-np.arange(count) / count) + np.random.default_rng(0).normal(0, 0.1, count)
    values[count // 3] = 9.0
    return points_of(values.astype(np.float32).astype(np.float64))


def fill(lab: Lab, count: int) -> int:
    run_id, points = lab.add(tiny_config()), noise(count)
    writer = Writer(run_id)
    for first in range(0, count, BLOCK):
        with writing(lab.engine) as connection:
            writer.append(connection, {SeriesKey("loss"): points[first : first + BLOCK]})
    return run_id


def milliseconds(work: Callable[[], object], times: int) -> float:
    work()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def measure(chosen: argparse.Namespace) -> Iterator[Table]:
    lengths = (10_000, 100_000, 1_000_000) if chosen.quick else (10**4, 10**5, 10**6, 10**7)
    times = 15 if chosen.quick else 51
    table = Table(
        "Reading a curve of 2,000 points",
        ["series", "in the process, ms", "smoothed", "over HTTP, ms", "smoothed", "KB", "goal"],
    )
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab.at(Path(folder), access="off")
        series = {f"{length:,} points": [fill(lab, length)] for length in lengths}
        series["100 runs x 10,000"] = [fill(lab, 10_000) for _ in range(100)]
        with serving(lab.settings, "--no-worker") as served:
            for title, runs in series.items():
                most = 40 if len(runs) > 1 else 5
                inside = [milliseconds(in_process(lab, runs, s), times) for s in (0.0, SMOOTHING)]
                asked = [over_http(served.client, runs, s) for s in (0.0, SMOOTHING)]
                outside = [milliseconds(ask, times) for ask in asked]
                size = len(asked[0]()) / 1000
                is_reached = outside[0] <= most and outside[1] <= 2 * most
                times_ = [f"{one:.1f}" for one in (*inside, *outside)]
                table.add(title, *times_, f"{size:.0f}", goal(is_reached, f"{most}, {2 * most}"))
            empty = milliseconds(lambda: served.client.get("/healthz"), times)
        lab.engine.dispose()
    table.note(f"n = {times}; smoothing {SMOOTHING}; an empty answer takes {empty:.1f} ms.")
    yield table


def in_process(lab: Lab, runs: list[int], smoothing: float) -> Callable[[], object]:
    def read() -> object:
        with reading(lab.engine) as connection:
            series = choose_series(connection, runs, ["loss"])
            return read_curves(connection, series, SHOWN, smoothing)

    return read


def over_http(client: httpx2.Client, runs: list[int], smoothing: float) -> Callable[[], bytes]:
    asked = {
        "runs": ",".join(map(str, runs)),
        "names": "loss",
        "points": SHOWN,
        "smoothing": smoothing,
        "packed": True,
    }

    def ask() -> bytes:
        answer = client.get("/api/v1/curves", params=asked)
        answer.raise_for_status()
        return answer.content

    return ask


if __name__ == "__main__":
    run(__doc__, measure)
