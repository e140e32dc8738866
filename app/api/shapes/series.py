"""Shapes of series: their summaries, points and curves."""

from typing import Literal

from pydantic import Field

from app.api.shapes.shape import Moment, Number, Shape, partial


class Metric(Shape):
    """What a run shows of each of its metrics."""

    points: int
    nonfinite: int = Field(description="How many points are NaN or infinite.")
    last_step: int
    first: Number
    last: Number
    lowest: Number = Field(description="Of the finite values; NaN where there is none.")
    lowest_step: int
    highest: Number = Field(description="Of the finite values; NaN where there is none.")
    highest_step: int


@partial()
class PartialMetric(Metric):
    """What was asked for of a metric."""


class Summary(Metric):
    """A series without its points."""

    name: str
    layer: str = Field(description="Empty for a metric of the run itself.")
    unit: str
    first_step: int
    total: Number = Field(description="Sum of the finite values.")


class SeriesList(Shape):
    series: list[Summary]


class Points(Summary):
    """A series with its points, to the last bit."""

    run: int
    steps: list[int]
    values: list[Number]
    times: list[Moment]
    next: int | None = Field(description="The `after` of the next answer; null on the last.")


class Packed(Shape):
    """A column of numbers in the form that Plotly takes for an array."""

    dtype: Literal["i4", "f4", "f8"]
    bdata: str = Field(description="Little-endian numbers in base64.")


class Curve(Summary):
    """A series as a chart draws it: some of its points, extremes kept."""

    run: int
    steps: list[int] | Packed
    values: list[Number] | Packed
    times: list[Moment] | Packed | None = Field(
        None, description="When each point was made; left out where nobody asked for it."
    )
    smoothed: list[Number] | Packed | None = Field(
        None,
        description="Smoothed over every point, or over means of at least 64 where the series is "
        "that long; only where smoothing was asked for.",
    )
    appended: bool = Field(description="Whether these are only the points since the cursor.")


class Curves(Shape):
    curves: list[Curve]
    cursor: str = Field(description="For the next request: only what is new since this answer.")
