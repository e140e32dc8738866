"""Summary: all that tables, sorting and filters need to know of a series."""

import math
from dataclasses import dataclass

import numpy as np

from trainer.store.packing import Points


@dataclass
class Summary:
    """Counts, ends, extremes with where they are, and the sum; kept while points come in."""

    points: int = 0
    nonfinite: int = 0
    first_step: int = 0
    last_step: int = 0
    first: float = math.nan
    last: float = math.nan
    lowest: float = math.nan
    lowest_step: int = 0
    highest: float = math.nan
    highest_step: int = 0
    total: float = 0.0

    @classmethod
    def of(cls, points: Points) -> "Summary":
        summary = cls()
        summary.add(points)
        return summary

    def add(self, points: Points) -> None:
        """Take in points, at least one, that follow those before."""
        if not self.points:
            self.first_step, self.first = int(points.steps[0]), float(points.values[0])
        self.last_step, self.last = int(points.steps[-1]), float(points.values[-1])
        self.points += len(points)
        finite = np.isfinite(points.values)
        steps, values = points.steps, points.values
        if not finite.all():
            self.nonfinite += int((~finite).sum())
            steps, values = steps[finite], values[finite]
        if not len(values):
            return
        low, high = int(values.argmin()), int(values.argmax())
        # written so that a NaN, which stands for "none yet", gives way
        if not self.lowest <= values[low]:
            self.lowest, self.lowest_step = float(values[low]), int(steps[low])
        if not self.highest >= values[high]:
            self.highest, self.highest_step = float(values[high]), int(steps[high])
        with np.errstate(over="ignore"):
            self.total += float(values.sum())
