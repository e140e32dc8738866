"""Speed tricks: the same recipes with and without each; time, memory and accuracy.

    python benchmarks/tricks.py [--quick] [--device cuda] [--recipes a,b] [--data FOLDER]

On the machine it is run on: what a trick is worth depends on it, sign and all. Needs no more than
the trainer does, so a bare GPU machine will do. Each training has a process of its own, so that
none meets what another left in the allocator or in cuDNN's cache, and they take turns.
"""

import argparse
import multiprocessing
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from harness.command import arguments, show
from harness.machine import described
from harness.table import Table
from sqlalchemy import Column, Connection, insert
from sqlalchemy import Table as SqlTable

from trainer.check import check
from trainer.config import RunConfig
from trainer.data_folders import DataFolders
from trainer.environment import describe
from trainer.part import Refused
from trainer.place import Place
from trainer.recipes import RECIPES
from trainer.run import train_run
from trainer.store import tables
from trainer.store.database import Number, connect, metadata, writing
from trainer.tricks import TRICKS, GradientAccumulation, Trick, name_of

SPEED = ("train_seconds", "peak_memory_bytes")
"""What a trick has to promise to be one of these."""
DEFAULT_RECIPES = ("digits-cnn", "fashion-cnn", "fashion-resnet20")
PATIENCE = 1800.0


class Alone:
    """Oversees a run that nobody asks anything of."""

    def begin(self, connection: Connection, facts: Mapping[str, Any]) -> None: ...
    def say(self, connection: Connection, activity: str) -> None: ...
    def saved(self, connection: Connection) -> None: ...

    def report(self, connection: Connection, step: int, seconds: float, activity: str) -> str:
        return ""

    def asked(self, connection: Connection) -> str:
        return ""


def train(config: RunConfig, data: Path, answer: Any) -> None:
    """In a process of its own: train, and send what came of it, or why nothing did."""
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(f"sqlite:///{folder}/bench.db")
        # elsewhere the application brings the table of runs; here each has one row
        runs = metadata.tables.get("runs")
        if runs is None:
            runs = SqlTable("runs", metadata, Column("id", Number, primary_key=True))
        metadata.create_all(engine, [runs, tables.series, tables.series_chunks, *REST])
        with writing(engine) as connection:
            connection.execute(insert(runs).values(id=1))
        place = Place(1, Path(folder), DataFolders(data))
        try:
            answer.send(train_run(config, place, engine, Alone()).result)
        except (Refused, OSError, ImportError) as reason:
            answer.send(f"{type(reason).__name__}: {reason}")
        finally:
            engine.dispose()


REST = (tables.layer_outputs, tables.checkpoints)


def trained(config: RunConfig, data: Path) -> Mapping[str, Any] | str:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=train, args=(config, data, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(PATIENCE) else f"not done after {PATIENCE:.0f} s"
    except EOFError:
        return "its process ended without a word"
    finally:
        process.kill()
        process.join()


def tricks_for(config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    """Each speed trick that fits a config as it is, switched on as it comes."""
    for kind in TRICKS:
        if kind.claim.measure in SPEED:
            tried = with_trick(config, kind)
            if not check(tried):
                yield name_of(kind), tried


def with_trick(config: RunConfig, kind: type[Trick]) -> RunConfig:
    tried = RunConfig.model_validate({**config.model_dump(), "tricks": [{"name": name_of(kind)}]})
    (trick,) = tried.tricks
    if isinstance(trick, GradientAccumulation):
        # as many examples a step as without it
        size = config.loader.batch_size // trick.steps
        tried = tried.model_copy(
            update={"loader": config.loader.model_copy(update={"batch_size": size})}
        )
    return tried


def measured(name: str, chosen: argparse.Namespace) -> Table:
    """One recipe: the plain one first, then each trick, in turn again and again."""
    config = RECIPES[name].config.model_copy(update={"device": chosen.device})
    if chosen.quick:
        budget = config.budget.model_copy(update={"epochs": 2})
        config = config.model_copy(update={"budget": budget})
    ways = {"plain": config, **dict(tricks_for(config))}
    found: dict[str, list[Mapping[str, Any]]] = {way: [] for way in ways}
    reasons: dict[str, str] = {}
    for _ in range(chosen.turns):
        for way, tried in ways.items():
            if way not in reasons:
                came = trained(tried, chosen.data)
                if isinstance(came, str):
                    reasons[way] = came
                else:
                    found[way].append(came)
    table = Table(
        f"{RECIPES[name].title}, {chosen.device}",
        ["with", "train, s", "of plain", "peak, MB", "of plain", "accuracy", "remarks"],
    )
    for way, results in found.items():
        if results:
            table.add(way, *cells(results, found["plain"]), reasons.get(way, ""))
        else:
            table.add(way, "", "", "", "", "", reasons[way])
    table.note(
        f"Medians, n = {chosen.turns}; {config.budget.epochs} epochs. Time is that of training "
        "alone, without evaluation and recording of outputs."
    )
    return table


def cells(results: Sequence[Mapping[str, Any]], plain: Sequence[Mapping[str, Any]]) -> list[str]:
    def middle(of: Sequence[Mapping[str, Any]], key: str) -> float:
        return statistics.median(float(result[key]) for result in of)

    seconds, peak = (middle(results, key) for key in SPEED)
    of_seconds, of_peak = (
        f"{middle(results, key) / middle(plain, key):.3f}" if plain else "" for key in SPEED
    )
    accuracy = f"{middle(results, 'val_accuracy'):.4f}"
    return [f"{seconds:.2f}", of_seconds, f"{peak / 1e6:.0f}", of_peak, accuracy]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--recipes", default=",".join(DEFAULT_RECIPES))
    parser.add_argument("--turns", type=int, default=0, help="trainings of each; 5, quick 3")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where data sets lie")
    chosen = parser.parse_args()
    chosen.turns = chosen.turns or (3 if chosen.quick else 5)
    print(described("torch", "numpy", "sqlalchemy"), flush=True)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no CUDA device here; --device cpu trains without one.")
    facts = describe(torch.device(chosen.device))
    print("{device_title}, CUDA {cuda}, cuDNN {cudnn}".format(**facts), flush=True)
    for name in chosen.recipes.split(","):
        show(measured(name, chosen), chosen.json)


if __name__ == "__main__":
    main()
