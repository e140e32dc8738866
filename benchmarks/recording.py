"""Recording a scalar: points per second until durable, what a call costs, bytes per point.

    python benchmarks/recording.py [--quick] [--no-peers] [--json FOLDER]

Ours is the product's own way: `Recorder.add` in one thread, chunks written to SQLite by another,
two values a step. The alternatives store the same numbers with what Python has at hand.
"""

import argparse
import os
import sqlite3
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness.command import run
from harness.peers import Peers
from harness.table import Table, goal
from lab import Lab, tiny_config

from app.executors.training import ClaimOverseer
from trainer.clock import Clock
from trainer.recorder import Recorder
from trainer.store.writer import Writer

PEERS = ("tensorboard", "trackio", "mlflow", "wandb", "aim")


@dataclass(frozen=True)
class Recorded:
    """What recording so many points came to."""

    points: int
    seconds: float
    """Until the last of them was on the disk."""
    calling_seconds: float
    """In the thread that recorded."""
    bytes: int

    def cells(self) -> tuple[str, str, str]:
        return (
            f"{self.points / self.seconds:,.0f}",
            f"{1e6 * self.calling_seconds / self.points:.2f}",
            f"{self.bytes / self.points:.1f}",
        )


def ours(folder: Path, points: int) -> Recorded:
    lab = Lab.at(folder)
    lab.add(tiny_config())
    claim = lab.claim(1)
    file = folder / "tricklab.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = file.stat().st_size
    clock = Clock()
    recorder = Recorder(lab.engine, Writer(1), ClaimOverseer(claim), clock)
    # what a network in single precision measures
    losses = (1 / np.arange(1, points // 2 + 1)).astype(np.float32).tolist()
    began, cpu = time.perf_counter(), time.thread_time()
    for step, loss in enumerate(losses, 1):
        recorder.add(step, {"train_loss": loss, "learning_rate": 0.5})
        recorder.turn(step)
        clock.lap("recording")
    recorder.hand_over(points // 2)
    calling = time.thread_time() - cpu
    recorder.close()
    seconds = time.perf_counter() - began
    lab.engine.dispose()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Recorded(points, seconds, calling, file.stat().st_size - before)


def nothing(folder: Path, points: int) -> Recorded:
    def record(step: int, value: float) -> None:
        pass

    return by_hand(folder / "nothing", points, record, lambda: None)


def raw_file(folder: Path, points: int) -> Recorded:
    file = (folder / "raw").open("wb")
    pack = struct.Struct("<qd").pack

    def close() -> None:
        file.flush()
        os.fsync(file.fileno())
        file.close()

    return by_hand(folder / "raw", points, lambda s, v: file.write(pack(s, v)), close)


def rows(folder: Path, points: int) -> Recorded:
    """One row per point, in batches of a thousand."""
    connection = sqlite3.connect(folder / "rows", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE points (step INTEGER, value REAL, time REAL)")
    waiting: list[tuple[int, float, float]] = []

    def write() -> None:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO points VALUES (?, ?, ?)", waiting)
        connection.execute("COMMIT")
        waiting.clear()

    def record(step: int, value: float) -> None:
        waiting.append((step, value, time.time()))
        if len(waiting) == 1000:
            write()

    def close() -> None:
        write()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    return by_hand(folder / "rows", points, record, close)


def by_hand(
    file: Path, points: int, record: Callable[[int, float], object], close: Callable[[], None]
) -> Recorded:
    began, cpu = time.perf_counter(), time.thread_time()
    for step in range(points):
        record(step, 1.0 / (step + 1))
    calling = time.thread_time() - cpu
    close()
    seconds = time.perf_counter() - began
    return Recorded(points, seconds, calling, file.stat().st_size if file.exists() else 0)


WAYS: Mapping[str, Callable[[Path, int], Recorded]] = {
    "nothing, the call alone": nothing,
    "append to a raw file": raw_file,
    "**Tricklab's recorder**": ours,
    "one row per point, sqlite3": rows,
}


def measure(chosen: argparse.Namespace) -> Iterator[Table]:
    points, turns = (1_000_000, 3) if chosen.quick else (4_000_000, 5)
    table = Table(
        "Recording a scalar",
        ["how", "points/s until durable", "µs of the calling thread", "bytes a point", "goal"],
    )
    found: dict[str, list[Recorded]] = {name: [] for name in WAYS}
    for _ in range(turns):
        for name, way in WAYS.items():
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(way(Path(folder), points))
    for name, those in found.items():
        middle = sorted(those, key=lambda one: one.seconds)[turns // 2]
        reached = ""
        if way_is_ours(name):
            rate = middle.points / middle.seconds
            calling = 1e6 * middle.calling_seconds / middle.points
            size = middle.bytes / middle.points
            is_reached = rate >= 1.5e6 and calling <= 1 and size <= 10
            reached = goal(is_reached, "1,500,000 points/s, 1 µs, 10 bytes")
        table.add(name, *middle.cells(), reached)
    peers = Peers(none=chosen.no_peers)
    for name in PEERS:
        answer = peers.ask(name, "recording", points=2_000 if chosen.quick else 10_000)
        cells = Recorded(**answer.facts).cells() if answer else (answer.reason, "", "")
        table.add(answer.title, *cells, "")
    table.note(f"n = {turns}, {points:,} points; peers once, fewer points.")
    yield table
    yield slow_run(chosen.quick)


def way_is_ours(name: str) -> bool:
    return "Tricklab" in name


def slow_run(quick: bool) -> Table:
    """What a run of forty steps a second writes, and how long its newest value stays unseen."""
    seconds = 5 if quick else 60
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lab = Lab.at(folder)
        lab.add(tiny_config())
        clock = Clock()
        recorder = Recorder(lab.engine, Writer(1), ClaimOverseer(lab.claim(1)), clock)
        began, step, largest, delays = time.monotonic(), 0, 0, []
        before = written_bytes()
        with sqlite3.connect(f"file:{folder / 'tricklab.db'}?mode=ro", uri=True) as reader:
            while time.monotonic() < began + seconds:
                step += 1
                recorder.add(step, {"a": 0.1 * step, "b": 0.5, "c": 1.0 / step})
                recorder.turn(step)
                clock.lap("recording")
                time.sleep(1 / 40)
                (last,) = reader.execute("SELECT max(last_step) FROM series").fetchone()
                delays.append((step - (last or 0)) / 40)
                largest = max(largest, (folder / "tricklab.db-wal").stat().st_size)
        recorder.close()
        written, payload = written_bytes() - before, 3 * step * 8
        lab.engine.dispose()
    table = Table(
        "A slow run: 40 steps a second, three series",
        ["bytes written", "over the bytes of its points", "largest log", "longest unseen", "goal"],
    )
    worst = max(delays[20:])
    table.add(
        f"{written / 1e6:.1f} MB in {seconds} s",
        f"{written / payload:.0f} times",
        f"{largest / 1e6:.1f} MB",
        f"{worst:.2f} s",
        goal(worst <= 1, "seen within a second"),
    )
    return table


def written_bytes() -> int:
    """What this process has sent to the disk so far, as Linux counts it."""
    facts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(facts["wchar"])


if __name__ == "__main__":
    run(__doc__, measure)
