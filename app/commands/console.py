"""Console: what commands share: the lab they speak to, and how they print."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.text import Text

from app.settings import Settings

if TYPE_CHECKING:
    # loading them takes a while, which `tricklab --help` need not
    from sqlalchemy import Connection, Engine

out = Console()
ORDERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that move the cursor, ring, or begin an order; not the ends of lines and tabs."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Run = Annotated[str, typer.Argument(help="Number or name of a run.")]
Runs = Annotated[list[str], typer.Argument(help="Numbers or names of runs.", metavar="RUN...")]


def with_flags(**flags: Any) -> Settings:
    """Flags over the environment."""
    return Settings(**{name: value for name, value in flags.items() if value is not None})


@contextmanager
def lab(settings: Settings) -> Iterator["Engine"]:
    """The lab's database, open inside the block."""
    from app.db import open_database

    engine = open_database(settings)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def reading_lab(settings: Settings) -> Iterator["Connection"]:
    from trainer.store.database import reading

    with lab(settings) as engine, reading(engine) as connection:
        yield connection


@contextmanager
def writing_lab(settings: Settings) -> Iterator["Connection"]:
    """One transaction: what is refused half-way has changed nothing."""
    from trainer.store.database import writing

    with lab(settings) as engine, writing(engine) as connection:
        yield connection


def say(line: str) -> None:
    """Print a line as it is: brackets in a name are no style, and nothing is wrapped."""
    out.print(cell(line), highlight=False, soft_wrap=True)


def cell(value: Any) -> Text:
    """For a table, which would take brackets in a plain text for a style."""
    return Text(without_orders(str(value)))


def without_orders(text: str) -> str:
    """A text of somebody else with what a terminal would obey spelled out: `\\x1b[2J`."""
    return ORDERS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def size(count: int) -> str:
    """Bytes in SI units."""
    scaled, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if scaled < 1000:
            break
        scaled, unit = scaled / 1000, larger
    return f"{scaled:,.{0 if unit == 'B' else 1}f} {unit}"


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def named(numbers: Sequence[int]) -> str:
    """Run 3; Runs 3 and 4; Runs 3, 4, 5, 6, 7 and 12 more."""
    if len(numbers) == 1:
        return f"Run {numbers[0]}"
    if len(numbers) > 6:
        return f"Runs {', '.join(map(str, numbers[:5]))} and {len(numbers) - 5:,} more"
    return f"Runs {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def print_json(value: Any) -> None:
    from trainer.store.database import finite

    sys.stdout.write(orjson.dumps(finite(value), option=orjson.OPT_INDENT_2).decode() + "\n")
