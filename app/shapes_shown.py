"""Shown: what the bench of shapes shows for what was typed into its fields."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from app.layout_picture import MOST_CELLS, MOST_DRAWN, Memory, Picture, begun, picture, place_of
from trainer.layout_remarks import remarks, trap
from trainer.layouts import MOST_AXES, Layout, Step, explain, listed, parse, whole_numbers
from trainer.part import Refused

T = TypeVar("T")

DTYPES = (
    "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"
).split()
NUMBERED = {"memory": "by place in memory now", "start": "by place at the start"}
"""What the numbers and colours of cells say."""
LONGEST = 1000
"""Letters of a field that are read."""
FIRST_PLACES = 16
"""Of a tensor too large for a picture, as many places as the walk begins with are told."""
DEFAULTS = {
    "shape": "2, 3, 4",
    "calls": ".transpose(1, 2).reshape(2, 12)",
    "dtype": "float32",
    "numbered": "memory",
}


@dataclass(frozen=True)
class Seen:
    """A tensor as it is shown: the first one, or what a call made of it."""

    layout: Layout
    memory: Memory
    picture: Picture | None
    why_none: str
    step: Step | None = None
    remarks: Sequence[str] = ()
    trap: str = ""

    @property
    def nbytes(self) -> int:
        return self.layout.elements * self.layout.itemsize

    @property
    def begins(self) -> str:
        """The first places of the walk, of a tensor that is not drawn."""
        if self.picture is not None or not self.layout.elements:
            return ""
        count = min(self.layout.elements, FIRST_PLACES)
        return listed([place_of(number, self.layout) for number in range(count)])


@dataclass(frozen=True)
class Shown:
    """The state of the bench: what was typed, and what came of it or the errors by field."""

    values: Mapping[str, str]
    errors: Mapping[str, str] = field(default_factory=dict)
    seen: Sequence[Seen] = ()
    failed: Step | None = None

    @property
    def copies(self) -> Sequence[Seen]:
        return [one for one in self.seen if one.step and not one.step.is_shared]

    @property
    def code(self) -> str:
        """The same in Python."""
        first, *rest = self.seen
        called = [str(one.step.call) for one in rest if one.step]
        called += [str(self.failed.call)] if self.failed else []
        shape = listed(first.layout.shape) or "()"
        made = f"x = torch.empty({shape}, dtype=torch.{self.values['dtype']})"
        return "\n".join([made, *(f"x = x.{call}" for call in called)])


def shown_for(typed: Mapping[str, str]) -> Shown:
    """What these values show. What is missing keeps its default; a shape alone has no calls."""
    values = {name: typed.get(name, default) for name, default in DEFAULTS.items()}
    if "shape" in typed and "calls" not in typed:
        values["calls"] = ""
    errors: dict[str, str] = {}
    for name, kinds in (("dtype", DTYPES), ("numbered", NUMBERED)):
        if values[name] not in kinds:
            errors[name] = f"there is no {values[name][:40]!r} here; choose one of the list"
    shape = judged("shape", values, errors, shape_of)
    calls = judged("calls", values, errors, parse)
    if errors or shape is None or calls is None:
        return Shown(values, errors)
    dtype: torch.dtype = getattr(torch, values["dtype"])
    try:
        # a call that changes nothing, for the layout that there is without any
        first = explain(shape, parse("contiguous()"), dtype)[0].before
        steps = explain(shape, calls, dtype)
    except Refused as refusal:
        return Shown(values, {"shape": str(refusal)})
    failed = steps[-1] if steps and steps[-1].after is None else None
    seen = tuple(each_seen(first, steps, by_first=values["numbered"] == "start"))
    return Shown(values, {}, seen, failed)


def judged(
    name: str, values: Mapping[str, str], errors: dict[str, str], read: Callable[[str], T]
) -> T | None:
    """A field as it is read, or None: then what is wrong with it stands among the errors."""
    text = values[name]
    try:
        if len(text) > LONGEST:
            raise Refused(f"{len(text):,} letters are more than the {LONGEST:,} that are read")
        return read(text)
    except Refused as refusal:
        errors[name] = str(refusal)
        return None


def shape_of(text: str) -> tuple[int, ...]:
    """Sizes as one writes them: 2, 3, 4 or (2, 3, 4) or 2 x 3 x 4. Raises Refused."""
    inside = re.sub(r"^(torch\.)?(Size|Tensor|empty)?\s*[(\[]+|[)\]]+$", "", text.strip())
    sizes = [size for size in re.split(r"[\s,x×*]+", inside) if size]
    if not sizes and not text.strip().startswith(("(", "[")):
        raise Refused("write the sizes, for example 2, 3, 4; () is a single number without axes")
    if len(sizes) > MOST_AXES:
        raise Refused(f"{len(sizes)} axes; at most {MOST_AXES}")
    if wrong := [size for size in sizes if not re.fullmatch(r"-?[0-9]{1,13}", size)]:
        raise Refused(f"{wrong[0][:40]!r} is no size; write whole numbers, for example 2, 3, 4")
    if any(size.startswith("-") for size in sizes):
        raise Refused("a tensor has no negative size; -1 is for view and reshape, among the calls")
    return whole_numbers(",".join(sizes), "shape")


def each_seen(first: Layout, steps: Sequence[Step], *, by_first: bool) -> Iterator[Seen]:
    memory, room = begun(first), MOST_CELLS
    for step in (None, *steps):
        layout = first if step is None else step.after
        if layout is None:
            return
        memory = memory if step is None else memory.after(step)
        has_room = layout.elements <= room
        drawn = picture(layout, memory, by_first=by_first) if has_room else None
        room -= layout.elements if drawn else 0
        told, warned = (remarks(step), trap(step)) if step else ((), "")
        yield Seen(layout, memory, drawn, "" if drawn else why_none(layout), step, told, warned)


def why_none(layout: Layout) -> str:
    """Why a tensor has no picture."""
    if not layout.elements:
        return "It has no elements: one of its sizes is 0."
    if layout.elements > MOST_DRAWN:
        return f"{layout.elements:,} elements are too many to draw; up to {MOST_DRAWN} are drawn."
    return (
        f"Not drawn: a page draws {MOST_CELLS:,} elements in all; leave out some calls, or take a "
        "smaller shape."
    )
