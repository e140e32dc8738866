"""Resizing: a row or a column more or less, of inputs and targets alike."""

from collections.abc import Mapping

from trainer.loss_bench.base import BenchLoss
from trainer.loss_bench.number_text import Numbers, numbers

CHANGES: Mapping[str, tuple[str, int]] = {
    "more rows": ("row", 1),
    "fewer rows": ("row", -1),
    "more columns": ("column", 1),
    "fewer columns": ("column", -1),
}


def resized(loss: type[BenchLoss], input: str, target: str, change: str) -> dict[str, str]:
    """Both texts changed so that they still go together; as they are where they cannot be read."""
    what, by = CHANGES.get(change, ("", 0))
    try:
        given, wanted = numbers(input), numbers(target)
    except ValueError:
        return {"input": input, "target": target}
    if what == "row" and len(given.shape) > 1:
        given, wanted = given.resized(0, by), wanted.resized(0, by)
    elif what == "column":
        has_columns = loss.family != "classes" or wanted.shape == given.shape
        axis = 1 if loss.family == "classes" and len(given.shape) > 1 else len(given.shape) - 1
        given = given.resized(axis, by)
        wanted = wanted.resized(min(axis, last(wanted)), by) if has_columns else wanted
    return {"input": given.text, "target": wanted.text}


def last(of: Numbers) -> int:
    return len(of.shape) - 1
