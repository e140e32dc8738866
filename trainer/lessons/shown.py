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
class Chart:
    """Lines, bars or dots over one axis."""

    title: str
    x_title: str
    y_title: str
    lines: Sequence[Line]
    kind: Literal["lines", "bars", "dots"] = "lines"
    is_log: bool = False
    """Whether the upright axis is logarithmic. Zeros then stand at its foot."""


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


@dataclass(frozen=True)
class Shown:
    """What a lesson came to: a sentence, and what it is seen by."""

    verdict: str
    """With the numbers of this answer in it."""
    figures: Sequence[Chart | Pictures | Table] = ()
    remarks: Sequence[str] = ()
    """What else there is to see in it, a sentence each."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """The same for programs."""

    def told(self) -> dict[str, Any]:
        """As JSON, each figure with what it is."""
        kinds = {Chart: "chart", Pictures: "pictures", Table: "table"}
        figures = [{"is": kinds[type(one)], **asdict(one)} for one in self.figures]
        return {
            "verdict": self.verdict,
            "figures": figures,
            "remarks": list(self.remarks),
            "numbers": dict(self.numbers),
        }
