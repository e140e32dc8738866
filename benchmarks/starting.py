"""Starting: from queueing a run to its first loss in the database.

    python benchmarks/starting.py [--quick] [--json FOLDER]

The server and its worker run already, as `tricklab serve` starts them; nothing else waits.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness.command import run
from harness.table import Table, goal
from lab import Lab, quick_config
from server import end_workers, living_workers, serving, wait_for
from sqlalchemy import select

from app.events import events_of
from trainer.store.database import reading
from trainer.store.tables import series


def measure(chosen: argparse.Namespace) -> Iterator[Table]:
    turns = 5 if chosen.quick else 21
    waits: dict[str, list[float]] = {"claimed": [], "first loss": []}
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab.at(Path(folder), access="off")
        lab.forget_worker()
        with serving(lab.settings) as served:
            wait_for(lambda: living_workers(lab.settings))
            config = quick_config().model_dump(mode="json")
            for turn in range(turns + 1):
                began = time.time()
                answer = served.client.post("/api/v1/runs", json={"config": config})
                answer.raise_for_status()
                run_id = answer.json()["id"]
                first = first_loss(lab, run_id)
                claimed = wait_for(lambda run_id=run_id: claimed_at(lab, run_id))
                ended = lambda run_id=run_id: lab.run(run_id).status == "finished"  # noqa: E731
                wait_for(ended)
                # the first one pays for what the worker loads only once
                if turn:
                    waits["claimed"].append(claimed - began)
                    waits["first loss"].append(first - began)
            end_workers(lab.settings)
        lab.engine.dispose()
    table = Table("From queueing to the first loss, s", ["until", "median", "slowest", "goal"])
    for name, seconds in waits.items():
        middle = statistics.median(seconds)
        wanted = goal(middle <= 0.5, "0.5 s") if name == "first loss" else ""
        table.add(name, f"{middle:.2f}", f"{max(seconds):.2f}", wanted)
    table.note(f"n = {turns}; the digits CNN, data loaded anew each time.")
    yield table


def first_loss(lab: Lab, run_id: int) -> float:
    """When the first point of the training loss could be read, within a few milliseconds."""
    there = select(series.c.id).filter_by(run_id=run_id, name="train_loss")
    while True:
        with reading(lab.engine) as connection:
            if connection.execute(there).first():
                return time.time()
        time.sleep(0.002)


def claimed_at(lab: Lab, run_id: int) -> float | None:
    with reading(lab.engine) as connection:
        return next((e.at for e in events_of(connection, run_id) if e.kind == "running"), None)


if __name__ == "__main__":
    run(__doc__, measure)
