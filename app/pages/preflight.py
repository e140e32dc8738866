"""Preflight: a tried config as the form shows it: where a step goes, what concerns each field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.pages.templates import duration, number, size

Answer = Mapping[str, Any]
SHARE_TO_NAME = 0.005
"""Of a step; less is not worth a word."""


@dataclass(frozen=True)
class Slice:
    """What of a step went into one activity; in hundredths of the step."""

    name: str
    start: float
    width: float
    colour: int
    milliseconds: float


def slices(answer: Answer) -> Sequence[Slice]:
    """A step, from the data to what is recorded of it, end to end."""
    spent: Mapping[str, float] = answer["seconds_by_activity"]
    whole = sum(spent.values())
    found: list[Slice] = []
    start = 0.0
    for name, seconds in spent.items():
        width = 100 * seconds / whole
        if seconds >= SHARE_TO_NAME * whole:
            found.append(Slice(name, start, width, len(found) % 6, 1000 * seconds))
        start += width
    return found


def notes(answer: Answer) -> dict[str, str]:
    """What was found out about each field of the form that it concerns."""
    spent: Mapping[str, float] = answer["seconds_by_activity"]
    whole = sum(spent.values())

    def part(*activities: str) -> str:
        seconds = sum(spent.get(name, 0.0) for name in activities)
        return f"{100 * seconds / whole:.0f} % of a step, {1000 * seconds:.2g} ms"

    return {
        "loader.batch_size": f"{1000 * answer['step_seconds']:.3g} ms a step, "
        f"{number(round(answer['samples_per_second']))} examples a second",
        "loader.workers": f"waiting for data is {part('data')}",
        "model.name": f"forward and backward are {part('forward', 'backward')}; "
        f"{number(answer['parameters'])} parameters, peak memory "
        f"{size(answer['peak_memory_bytes'])}",
        "optimizer.name": f"its step is {part('optimizer')}",
        "budget.epochs": f"an epoch takes "
        f"{duration(answer['epoch_seconds'] + answer['evaluation_seconds'])}, training in all "
        f"{duration(answer['run_seconds'])}",
        "device": f"tried on {answer['device']}",
    }
