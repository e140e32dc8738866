"""Shown: what a lesson shows, as data that any page can draw."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Value = float | int | str | bool | None


@dataclass(frozen=True)
class Line:
    """Points of one name: a curve, or the bars of one colour."""

    name: str
    x: Sequence[float | str]
    y: Sequence[float]
    is_reference: bool = False
    """Drawn dashed: what the others are held against."""


@dataclass(frozen=True)
class Mark:
    """A point by itself, such as where something stands now."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Chart:
    """Lines, bars or dots over one axis."""

    title: str
    x_title: str
    y_title: str
    lines: Sequence[Line]
    kind: Literal["lines", "bars", "dots"] = "lines"
    is_log: bool = False
    """Whether the upright axis is logarithmic. Zeros then stand at its foot."""
    marks: Sequence[Mark] = ()
    """Points that can be dragged where the page says so; the chart is then not zoomed by mouse."""


@dataclass(frozen=True)
class HeatMap:
    """A value over two numbers, as colours. values[row of y][column of x]."""

    title: str
    x_title: str
    y_title: str
    value_title: str
    x: Sequence[float]
    y: Sequence[float]
    values: Sequence[Sequence[float]]
    marks: Sequence[Mark] = ()


@dataclass(frozen=True)
class Picture:
    """Numbers as a picture. values (H, W)."""

    caption: str
    values: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Pictures:
    """Pictures on one scale of greys."""

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Table:
    """Rows of values; the first of each names it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]


Figure = Chart | HeatMap | Pictures | Table
KINDS = {Chart: "chart", HeatMap: "map", Pictures: "pictures", Table: "table"}


def figure(one: Figure) -> dict[str, Any]:
    """As JSON, with what it is."""
    return {"is": KINDS[type(one)], **asdict(one)}


@dataclass(frozen=True)
class Shown:
    """What a lesson came to: a sentence, and what it is seen by."""

    verdict: str
    """With the numbers of this answer in it."""
    figures: Sequence[Figure] = ()
    remarks: Sequence[str] = ()
    """What else there is to see in it, a sentence each."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """The same for programs."""

    def told(self) -> dict[str, Any]:
        """As JSON, each figure with what it is."""
        figures = [figure(one) for one in self.figures]
        return {
            "verdict": self.verdict,
            "figures": figures,
            "remarks": list(self.remarks),
            "numbers": dict(self.numbers),
        }
