"""What was asked for and is not there."""

from collections.abc import Iterable


class NotThere(LookupError):
    """Nothing has this number or name; the text says what there is instead."""


class RunMissing(NotThere):
    """No run has this number or name."""

    def __init__(self, run: int | str) -> None:
        super().__init__(f"there is no run {run}")


def missing(kind: str, name: str, there_are: Iterable[str]) -> NotThere:
    """What to raise for a name that is not among these."""
    names = ", ".join(there_are) or "none"
    return NotThere(f"there is no {kind} {name!r}; there are: {names}")
