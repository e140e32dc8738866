"""Sparkline: a statistic of a layer over training as a small line, and its numbers in words."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from trainer.store.curve_reader import read_curves
from trainer.store.packing import Floats, Points
from trainer.store.reader import list_series

WIDTH, HEIGHT, EDGE = 56, 18, 2
"""Of the picture, and how far from its edges the line stays."""
MOST_POINTS = 56
NAMES = ("spread", "dead")


@dataclass(frozen=True)
class Spark:
    """A line as the points of an SVG polyline, and what is said of it."""

    points: str
    first_step: int
    first: float
    last_step: int
    last: float


def sparklines(connection: Connection, run_id: int) -> Mapping[str, Mapping[str, Spark]]:
    """Spread and share of dead channels of every layer: layer -> name -> line."""
    listed = list_series(connection, [run_id], layers=True)
    rows = [row for row in listed if row.name in NAMES]
    found: dict[str, dict[str, Spark]] = defaultdict(dict)
    # all layers at once: a network has hundreds
    for row, curve in zip(rows, read_curves(connection, rows, MOST_POINTS), strict=True):
        if len(curve.points):
            # shares are drawn as such; a spread from nothing to its largest
            most = 1.0 if row.name == "dead" else 0.0
            found[row.layer][row.name] = spark(curve.points, most)
    return found


def spark(points: Points, most: float = 0.0) -> Spark:
    """A line from 0 to `most` or the highest value, whichever is more, one place for each step."""
    finite = np.isfinite(points.values)
    top = max(most, float(points.values[finite].max(initial=0.0)))
    return Spark(
        points=polyline(points.values[finite], top),
        first_step=int(points.steps[0]),
        first=float(points.values[0]),
        last_step=int(points.steps[-1]),
        last=float(points.values[-1]),
    )


def polyline(values: Floats, top: float) -> str:
    """Points `x,y` from left to right, 0 at the bottom; a single one as a dot."""
    across = np.linspace(EDGE, WIDTH - EDGE, len(values))
    share = values / top if top > 0 else np.zeros_like(values)
    down = HEIGHT - EDGE - share * (HEIGHT - 2 * EDGE)
    places = [f"{x:.4g},{y:.4g}" for x, y in zip(across, down, strict=True)]
    return " ".join(places * 2 if len(places) == 1 else places)
