"""Reading a curve: an answer a chart can draw, 2,000 points out of series of every length.

    python benchmarks/reading.py [--quick] [--no-peers] [--json FOLDER]

In this process, and over HTTP from a server in a process of its own; without smoothing and smoothed
over the whole series. Extremes are kept in all of it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx2
import numpy as np
from harness.command import run
from harness.peers import Peers
from harness.table import Table, goal
from lab import Lab, points_of, tiny_config
from server import Served, serving

from trainer.store.curve_reader import read_curves
from trainer.store.database import reading, writing
from trainer.store.packing import Points
from trainer.store.reader import choose_series
from trainer.store.writer import SeriesKey, Writer

BLOCK = 400_000
SMOOTHING = 0.99
SHOWN = 2000
PEERS = ("tensorboard", "trackio", "mlflow", "aim")
MOST_FOR_PEERS = 1_000_000
"""The longest series that others are asked for: filling them takes minutes."""


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


def warm(served: Served) -> None:
    """Wait until a server has loaded what it loads in the background: this page needs it."""
    served.client.get("/runs/new").raise_for_status()


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
    series = {f"{length:,} points": [length] for length in lengths}
    series["100 runs x 10,000"] = [10_000] * 100
    times = 15 if chosen.quick else 51
    table = Table(
        "Reading a curve of 2,000 points",
        ["series", "in the process, ms", "smoothed", "over HTTP, ms", "smoothed", "KB", "goal"],
    )
    outside = {}
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab.at(Path(folder), access="off")
        runs = {title: [fill(lab, length) for length in own] for title, own in series.items()}
        with serving(lab.settings, "--no-worker") as served:
            warm(served)
            for title, own in runs.items():
                cells, outside[title] = measured(lab, served.client, own, times)
                table.add(title, *cells)
            empty = milliseconds(lambda: served.client.get("/healthz"), times)
        lab.engine.dispose()
    table.note(f"n = {times}; smoothing {SMOOTHING}; an empty answer takes {empty:.1f} ms.")
    yield table
    asked = dict(list(series.items())[:1]) if chosen.quick else series
    yield beside(Peers(none=chosen.no_peers), asked, outside, times)


def measured(
    lab: Lab, client: httpx2.Client, runs: list[int], times: int
) -> tuple[list[str], float]:
    """The cells of a row, and the milliseconds over HTTP without smoothing."""
    most = 40 if len(runs) > 1 else 5
    inside = [milliseconds(in_process(lab, runs, s), times) for s in (0.0, SMOOTHING)]
    asked = [over_http(client, runs, s) for s in (0.0, SMOOTHING)]
    plain, smoothed = (milliseconds(ask, times) for ask in asked)
    size = len(asked[0]()) / 1000
    wanted = goal(plain <= most and smoothed <= 2 * most, f"{most}, {2 * most}")
    cells = [f"{one:.1f}" for one in (*inside, plain, smoothed)]
    return [*cells, f"{size:.0f}", wanted], plain


def beside(
    peers: Peers, series: Mapping[str, list[int]], ours: Mapping[str, float], times: int
) -> Table:
    """The same from other tools' own servers, as long as filling them takes no hour."""
    table = Table(
        "Reading a curve over HTTP, ms, and how many times ours", ["tool", *series, "remarks"]
    )
    table.add("**Tricklab**", *(f"{ours[title]:.1f}" for title in series), "extremes are kept")
    asked = {title: own for title, own in series.items() if max(own) <= MOST_FOR_PEERS}
    for name in PEERS:
        answer = peers.ask(name, "reading", series=asked, points=SHOWN, times=times)
        cells = [beside_ours(answer.facts.get(title), ours[title]) for title in series]
        table.add(answer.title, *cells, answer.reason or answer.facts.get("note", ""))
    table.add("wandb", *("" for _ in series), "its pages are a service; offline it has none")
    return table


def beside_ours(theirs: float | None, ours: float) -> str:
    return "" if theirs is None else f"{theirs:,.0f} ({theirs / ours:,.0f} x)"


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
        "times": False,
        "packed": True,
    }

    def ask() -> bytes:
        answer = client.get("/api/v1/curves", params=asked)
        answer.raise_for_status()
        return answer.content

    return ask


if __name__ == "__main__":
    run(__doc__, measure)
