"""Results: what a run's model is right and wrong about, as tables for its page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHADES = 10
"""How many shades a cell of the confusion matrix can have; see static/style.css."""
MOST_CLASSES = 30
"""A larger confusion matrix is told by its worst confusions alone."""
WORST = 12


@dataclass(frozen=True)
class Cell:
    """How often one class was taken for another."""

    count: int
    shade: int
    """0 to SHADES: its share of the row."""


@dataclass(frozen=True)
class Confused:
    """Examples of one class that were taken for another."""

    right: str
    said: str
    count: int
    share: float


@dataclass(frozen=True)
class Standing:
    """A run's last evaluation in detail."""

    classes: tuple[str, ...]
    columns: tuple[str, ...]
    """Figures of each class: recall, precision, F1 …"""
    rows: tuple[tuple[Any, ...], ...]
    counts: tuple[int, ...]
    matrix: tuple[tuple[Cell, ...], ...]
    worst: tuple[Confused, ...]
    reliability: tuple[Mapping[str, Any], ...]


def standing(run: Mapping[str, Any]) -> Standing | None:
    """The details of a run's result; None where it has none, as runs on numbers."""
    details = (run["result"] or {}).get("details")
    if not details or "confusion" not in details:
        return None
    classes, table = tuple(details["classes"]), details["confusion"]
    figures = {name: column for name, column in details["per_class"].items() if name != "count"}
    is_small = len(classes) <= MOST_CLASSES
    return Standing(
        classes,
        tuple(figures),
        tuple(zip(*figures.values(), strict=True)),
        tuple(map(sum, table)),
        tuple(map(shaded, table)) if is_small else (),
        tuple(confusions(classes, table)[:WORST]),
        tuple(details.get("reliability", ())),
    )


def shaded(row: Sequence[int]) -> tuple[Cell, ...]:
    total = sum(row)
    return tuple(Cell(count, round(SHADES * count / total) if total else 0) for count in row)


def confusions(classes: Sequence[str], table: Sequence[Sequence[int]]) -> list[Confused]:
    """The pairs of classes that are confused, the most frequent first."""
    found = [
        Confused(classes[right], classes[said], count, count / sum(row))
        for right, row in enumerate(table)
        for said, count in enumerate(row)
        if right != said and count
    ]
    return sorted(found, key=lambda one: one.count, reverse=True)
