"""Picture: the elements of a small tensor as cells, and the memory they lie in as a strip."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import NamedTuple

from trainer.layouts import Layout, Step, listed

MOST_DRAWN = 240
"""Elements of one tensor."""
MOST_CELLS = 1200
"""Of all tensors of a page together; each is a node twice, as an element and in the memory."""
SHADES = 32
"""Colours from the first place in memory to the last; see static/style.css."""


class Cell(NamedTuple):
    """An element, where it stands among the others or in memory."""

    number: int
    shade: int
    title: str


class Grid(NamedTuple):
    """The last two axes, for one place on the others."""

    title: str
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Picture:
    """A tensor as it is walked through, and the memory that the walk goes through."""

    grids: Sequence[Grid]
    memory: Sequence[Cell]
    """Place by place, each with its number in the walk."""
    jumps: int
    """How often the walk does not go on to the next place."""


@dataclass(frozen=True)
class Memory:
    """One piece of memory; what is copied goes to a new one."""

    number: int = 1
    first: Sequence[int] = ()
    """Of each place, where its element lay in the beginning. Empty where nothing is drawn."""

    def after(self, step: Step) -> "Memory":
        """Where the result of a call lies."""
        if step.after is None or step.is_shared:
            return self
        first = [0] * len(self.first)
        if first:
            # a copy keeps the order of the walk, whatever order it lies in
            for old, new in zip(walk(step.before), walk(step.after), strict=True):
                first[new] = self.first[old]
        return Memory(self.number + 1, first)


def begun(layout: Layout) -> Memory:
    return Memory(1, range(layout.elements) if layout.elements <= MOST_DRAWN else ())


def walk(layout: Layout) -> list[int]:
    """The places in memory, as the elements come when the last axis moves fastest."""
    return [place_of(number, layout) for number in range(layout.elements)]


def place_of(number: int, layout: Layout) -> int:
    """The place of one element of the walk."""
    place = 0
    for size, stride in zip(reversed(layout.shape), reversed(layout.strides), strict=True):
        number, at = divmod(number, size)
        place += at * stride
    return place


def picture(layout: Layout, memory: Memory, *, by_first: bool = False) -> Picture | None:
    """A tensor in some memory; None where it has too many elements, or none.

    Numbers and colours are places in this memory or, `by_first`, in that of the beginning.
    """
    if not memory.first:
        return None
    numbers = memory.first if by_first else range(len(memory.first))
    places = walk(layout)
    visits = {place: number for number, place in enumerate(places)}
    strip = [
        Cell(visits[place], shade(numbers[place], len(numbers)), f"place {place}, first {first}")
        for place, first in enumerate(memory.first)
    ]
    cells = [
        Cell(
            numbers[place],
            shade(numbers[place], len(numbers)),
            f"[{listed(index)}] at place {place}, first at {memory.first[place]}",
        )
        for place, index in zip(places, product(*map(range, layout.shape)), strict=True)
    ]
    jumps = sum(after != before + 1 for before, after in pairwise(places))
    return Picture(tuple(grids(layout.shape, cells)), strip, jumps)


def grids(shape: Sequence[int], cells: Sequence[Cell]) -> Iterator[Grid]:
    """The cells, in the order of the walk, cut into rows and the rows into grids."""
    outer, inner = shape[:-2], shape[-2:]
    rows, columns = (1,) * (2 - len(inner)) + tuple(inner)
    lines = [cells[first : first + columns] for first in range(0, len(cells), columns)]
    for number, at in enumerate(product(*map(range, outer))):
        title = f"[{listed((*at, *':' * len(inner)))}]" if inner else "the only element"
        yield Grid(title, lines[number * rows : (number + 1) * rows])


def shade(number: int, of: int) -> int:
    return number * (SHADES - 1) // (of - 1) if of > 1 else 0
