"""Listing runs: 100 of many, with 20 parameters and 20 metrics each, over HTTP.

python benchmarks/listing.py [--quick] [--no-peers] [--json FOLDER]
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from harness.command import run
from harness.peers import Peers
from harness.table import Table, goal
from lab import Lab, tiny_config
from reading import milliseconds, warm
from server import serving
from sqlalchemy import insert, select

from app.models import runs
from trainer.store.database import writing
from trainer.store.summary import Summary
from trainer.store.tables import series

SHOWN = 100
ASKED = {
    "latest": {"limit": SHOWN},
    "sorted by a metric": {"limit": SHOWN, "sort": "val_accuracy"},
    "filtered and sorted": {
        "limit": SHOWN,
        "status": "finished",
        "text": "bench",
        "sort": "val_loss",
    },
}
FIELDS = (
    "name,status,recipe,created_at,train_seconds,progress,"
    "metrics.val_accuracy.last,metrics.val_loss.last,metrics.metric_0.last,"
    "config.optimizer.learning_rate"
)
"""What a table shows of a run."""
METRICS = ("val_accuracy", "val_loss", *(f"metric_{number}" for number in range(18)))
GOALS = {1000: 10.0, 10_000: 20.0}


def fill(lab: Lab, count: int) -> None:
    """Finished runs as rows; what they would have recorded is there as summaries."""
    first = lab.add(tiny_config())
    with writing(lab.engine) as connection:
        like = connection.execute(select(runs).where(runs.c.id == first)).one()._mapping
        finished = {**like, "status": "finished", "created_at": time.time()}
        del finished["id"]
        rows = [{**finished, "name": f"bench-{number}"} for number in range(count - 1)]
        connection.execute(insert(runs), rows)
        ids = connection.execute(select(runs.c.id).where(runs.c.id >= first)).scalars().all()
        chance = np.random.default_rng(0)
        for some in np.array_split(ids, max(1, count // 500)):
            connection.execute(
                insert(series), [metric(int(i), m, chance) for i in some for m in METRICS]
            )


def metric(run_id: int, name: str, chance: np.random.Generator) -> dict[str, object]:
    first, last = (float(value) for value in chance.random(2))
    summary = Summary(10, 0, 1, 10, first, last, min(first, last), 1, max(first, last), 10, 5.0)
    return {"run_id": run_id, "name": name, "layer": "", **vars(summary)}


def measure(chosen: argparse.Namespace) -> Iterator[Table]:
    times = 9 if chosen.quick else 31
    table = Table("Listing 100 runs over HTTP, ms", ["of", *ASKED, "the page", "goal"])
    peers = Peers(none=chosen.no_peers)
    for count in (1000,) if chosen.quick else (1000, 10_000):
        found, some, page, empty = ours(count, times)
        most = GOALS[count]
        for title, own in ((f"{count:,} runs", found), ("the fields of a table alone", some)):
            table.add(
                title, *(f"{one:.1f}" for one in own), "", goal(max(own) <= most, f"{most:.0f}")
            )
        table.add("the page /runs", *[""] * len(ASKED), f"{page:.1f}", goal(page <= 50, "50"))
        answer = peers.ask("mlflow", "listing", runs=count, shown=SHOWN, times=times)
        pairs = zip(found, answer.facts.values(), strict=False)
        cells = [f"{theirs:.0f} ({theirs / own:.0f} x)" for own, theirs in pairs] or [""] * 3
        table.add(f"{answer.title}, {count:,} runs", *cells, "", answer.reason)
    table.note(f"n = {times}; an empty answer takes {empty:.1f} ms.")
    yield table


def ours(count: int, times: int) -> tuple[list[float], list[float], float, float]:
    """Milliseconds of lists whole and by fields, of the page, and of an empty answer."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab.at(Path(folder), access="off")
        fill(lab, count)
        with serving(lab.settings, "--no-worker") as served:
            warm(served)

            def get(path: str, asked: Mapping[str, object]) -> object:
                return served.client.get(path, params=asked).raise_for_status()

            def list_runs(**more: object) -> list[float]:
                ways = [{**asked, **more} for asked in ASKED.values()]
                return [
                    milliseconds(lambda way=way: get("/api/v1/runs", way), times) for way in ways
                ]

            found, some = list_runs(), list_runs(fields=FIELDS)
            page, empty = (
                milliseconds(lambda at=at: get(at, {}), times) for at in ("/runs", "/healthz")
            )
        lab.engine.dispose()
    return found, some, page, empty


if __name__ == "__main__":
    run(__doc__, measure)
