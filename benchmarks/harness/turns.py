"""Turns: variants measured one after the other, again and again, so that a slow minute hits all."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """What one variant took, in the order of the turns."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """First and third quartile."""
        if len(self.seconds) < 2:
            return self.seconds[0], self.seconds[0]
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    def over(self, other: "Times") -> float:
        """The median of the ratios turn by turn: what both suffered in a turn cancels out."""
        ratios = [a / b for a, b in zip(self.seconds, other.seconds, strict=True)]
        return statistics.median(ratios)


def in_turn(variants: Mapping[str, Callable[[], float]], turns: int) -> dict[str, Times]:
    """Measure each variant once per turn, forwards and backwards in alternation.

    A variant gives its own seconds, so that preparing is not measured.
    """
    found: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(turns):
        names = list(variants) if turn % 2 == 0 else list(reversed(variants))
        for name in names:
            found[name].append(variants[name]())
    return {name: Times(tuple(seconds)) for name, seconds in found.items()}


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """A variant that is nothing but this work."""

    def measured() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return measured
