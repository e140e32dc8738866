"""Command: what every benchmark can be told on its command line, and how it says what it found."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.machine import described
from harness.table import Table


def arguments(about: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, smaller sizes")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    parser.add_argument("--json", type=Path, help="write the tables into this folder too")
    return parser


def run(about: str | None, measure: Callable[[argparse.Namespace], Iterable[Table]]) -> None:
    """Measure as told on the command line, and print each table as soon as it is there."""
    chosen = arguments(about).parse_args()
    print(described(), flush=True)
    for table in measure(chosen):
        show(table, chosen.json)


def show(table: Table, folder: Path | None) -> None:
    """Print a table as soon as it is there, and write it where that is wanted."""
    print(f"\n{table}", flush=True)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        table.save(folder / f"{table.name}.json")
