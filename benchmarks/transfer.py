"""Transfer: few examples of half the classes, with and without what the other half has taught.

    python benchmarks/transfer.py [--quick] [--tasks digits,fashion] [--seeds N] [--data FOLDER]

For each seed three runs: the recipe `-half`, then `-scratch`, and `-transfer` with the first for
its source. From one seed to the next nothing else changes, so the differences are paired.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.command import arguments, show
from harness.machine import described
from harness.table import Table
from sqlalchemy import Engine, insert, select

from app import queue
from app.db import open_database
from app.executors.training import train_claimed
from app.models import Status, runs, workers
from app.settings import Settings
from trainer.config import RunConfig
from trainer.recipes import RECIPES
from trainer.store.database import reading, writing
from trainer.tricks import StartingWeights

SEEDS, QUICK_SEEDS = 10, 3


class SmallLab:
    """A lab in a folder that trains one run after the other in this process."""

    def __init__(self, folder: Path, data: Path | None) -> None:
        self.settings = Settings(folder=folder, datasets=data, access="off")
        self.engine: Engine = open_database(self.settings)
        now = time.time()
        with writing(self.engine) as connection:
            row = insert(workers).values(
                host="here", process=1, device="cpu", started_at=now, seen_at=now
            )
            self.worker = connection.execute(row).inserted_primary_key[0]  # type: ignore[index]

    def train(self, config: RunConfig, name: str) -> float:
        """The last test accuracy of a run with this config and name."""
        with writing(self.engine) as connection:
            run_id = queue.add(connection, config, name=name)
            claim = queue.claim(connection, self.worker, run_id)
        assert claim is not None
        train_claimed(claim, self.settings)
        with reading(self.engine) as connection:
            run = connection.execute(select(runs).where(runs.c.id == run_id)).one()
        if run.status != Status.FINISHED:
            raise SystemExit(f"{name}: {run.reason}")
        return float(run.result["val_accuracy"])


def config_of(recipe: str, seed: int, source: str) -> RunConfig:
    config = RECIPES[recipe].config
    tricks = tuple(
        trick.model_copy(update={"source": source}) if isinstance(trick, StartingWeights) else trick
        for trick in config.tricks
    )
    quiet = config.recording.model_copy(update={"layer_steps": "never"})
    return config.model_copy(
        update={"seed": seed, "tricks": tricks, "recording": quiet, "device": "cpu"}
    )


def measured(task: str, seeds: int, lab: SmallLab) -> Table:
    table = Table(
        f"{RECIPES[f'{task}-transfer'].title} against from scratch",
        ["seed", "half", "from scratch", "transfer", "difference, points"],
    )
    gains = []
    for seed in range(seeds):
        half, scratch, transfer = (
            lab.train(
                config_of(f"{task}-{way}", seed, f"{task}-half-{seed}"), f"{task}-{way}-{seed}"
            )
            for way in ("half", "scratch", "transfer")
        )
        gains.append(100 * (transfer - scratch))
        table.add(
            seed, *(f"{100 * x:.1f} %" for x in (half, scratch, transfer)), f"{gains[-1]:+.1f}"
        )
    table.note(summary(gains))
    return table


def summary(gains: Sequence[float]) -> str:
    """Mean of the paired differences, with the standard error of the mean."""
    error = statistics.stdev(gains) / math.sqrt(len(gains))
    better = sum(gain > 0 for gain in gains)
    return (
        f"Transfer minus scratch: {statistics.mean(gains):+.1f} points, standard error "
        f"{error:.1f}, better in {better} of {len(gains)}."
    )


def main() -> None:
    parser: argparse.ArgumentParser = arguments(__doc__)
    parser.add_argument("--tasks", default="digits,fashion")
    parser.add_argument("--seeds", type=int, default=0, help="of each; 10, quick 3")
    parser.add_argument("--data", type=Path, default=None, help="where data sets lie")
    chosen = parser.parse_args()
    print(described("torch", "numpy"), flush=True)
    seeds = chosen.seeds or (QUICK_SEEDS if chosen.quick else SEEDS)
    with tempfile.TemporaryDirectory() as folder:
        lab = SmallLab(Path(folder), chosen.data)
        for task in chosen.tasks.split(","):
            show(measured(task, seeds, lab), chosen.json)
        lab.engine.dispose()


if __name__ == "__main__":
    main()
