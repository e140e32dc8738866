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
from typing import Any

from harness.command import run
from harness.table import Table, goal
from lab import Lab, quick_config
from server import Served, end_workers, living_workers, serving, wait_for
from sqlalchemy import Select, select

from app.events import events_of
from app.models import runs
from trainer.store.database import reading
from trainer.store.tables import series

PAUSE_SECONDS = 0.002
"""Between two looks into the database: how exact what is seen there is."""
MOST_SECONDS = 0.5


def measure(chosen: argparse.Namespace) -> Iterator[Table]:
    turns = 5 if chosen.quick else 21
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab.at(Path(folder), access="off")
        lab.forget_worker()
        with serving(lab.settings) as served:
            wait_for(lambda: living_workers(lab.settings))
            # the first one pays for what the worker loads only once
            starts = [start(lab, served) for _ in range(turns + 1)][1:]
            end_workers(lab.settings)
        lab.engine.dispose()
    yield shown(starts)


def shown(starts: list[dict[str, float]]) -> Table:
    table = Table(
        "From queueing to the first loss, ms",
        ["until", "median", "of it since the line before", "slowest", "goal"],
    )
    before = 0.0
    for name in starts[0]:
        taken = [1000 * found[name] for found in starts]
        middle = statistics.median(taken)
        wanted = f"{1000 * MOST_SECONDS:.0f} ms"
        is_last = name == list(starts[0])[-1]
        table.add(
            name,
            f"{middle:.0f}",
            f"{middle - before:.0f}",
            f"{max(taken):.0f}",
            goal(middle <= 1000 * MOST_SECONDS, wanted) if is_last else "",
        )
        before = middle
    table.note(f"n = {len(starts)}; the digits CNN, its data loaded anew each time.")
    return table


def start(lab: Lab, served: Served) -> dict[str, float]:
    """Queue a run, and see it to its end; seconds from the request to each part of its start."""
    config = quick_config().model_dump(mode="json")
    began = time.time()
    answer = served.client.post("/api/v1/runs", json={"config": config})
    answered = time.time()
    answer.raise_for_status()
    run_id = answer.json()["id"]
    ready = first_sight(lab, select(runs.c.id).where(runs.c.id == run_id, runs.c.device != ""))
    loss = first_sight(lab, select(series.c.id).filter_by(run_id=run_id, name="train_loss"))
    wait_for(lambda: lab.run(run_id).status == "finished")
    moments = {
        "the request is answered": answered,
        "a worker has claimed it": claimed_at(lab, run_id),
        "data and network are there": ready,
        "its first step is done": float(lab.points(run_id, "train_loss").times[0]),
        "its first loss can be read": loss,
    }
    return {name: moment - began for name, moment in moments.items()}


def first_sight(lab: Lab, query: Select[Any]) -> float:
    """When a query had its first answer."""
    while True:
        with reading(lab.engine) as connection:
            if connection.execute(query).first():
                return time.time()
        time.sleep(PAUSE_SECONDS)


def claimed_at(lab: Lab, run_id: int) -> float:
    with reading(lab.engine) as connection:
        return next(e.at for e in events_of(connection, run_id) if e.kind == "running")


if __name__ == "__main__":
    run(__doc__, measure)
