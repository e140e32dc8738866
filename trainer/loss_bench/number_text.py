"""Numbers: a small tensor as text that a person types, pastes or keeps in an address."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch

SEPARATORS = ",;|/"
"""Between numbers, rows, planes and stacks of planes. One at the end makes an axis of length 1."""
MOST_ELEMENTS = 400
MOST_CHARACTERS = 20_000
PRINTED = re.compile(
    r"^\s*(?:(?:torch\.)?tensor|(?:np\.)?array)?\s*\(?\s*(\[.*\])[^\]]*$", re.DOTALL
)
"""What PyTorch and NumPy print, or a list of Python."""


class Unfit(ValueError):
    """A field that cannot be used as it is; the text names the thing and the way out."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


@dataclass(frozen=True)
class Numbers:
    """What was typed, number by number, whether each is one or not, and its shape."""

    words: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def text(self) -> str:
        """The same as one line."""
        return joined(self.words, self.shape)

    def tensor(self) -> torch.Tensor:
        """As float32, as in training. Raises ValueError naming the word that is no number."""
        found = [number(word, place(at, self.shape)) for at, word in enumerate(self.words)]
        return torch.tensor(found, dtype=torch.float32).reshape(self.shape)

    def resized(self, axis: int, by: int) -> "Numbers":
        """One more along an axis, a copy of the last, or one less; never none."""
        table = numpy.array(self.words, dtype=object).reshape(self.shape)
        if by > 0:
            table = numpy.concatenate([table, table.take([-1], axis)], axis)
        elif self.shape[axis] > 1:
            table = numpy.delete(table, -1, axis)
        return Numbers(tuple(table.flatten().tolist()), table.shape)


def numbers(text: str) -> Numbers:
    """Read a text into words and a shape. Raises ValueError with the way out."""
    # before anything else looks at the text, so that a long one costs nothing
    must_be_few(sum(map(text.count, SEPARATORS)) + 1, 2 * MOST_ELEMENTS)
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"longer than {MOST_CHARACTERS} characters; round the numbers")
    text = unbracketed(text)
    levels = [level for level, sign in enumerate(SEPARATORS) if sign in text]
    words, shape = split(text, max(levels, default=0))
    must_be_few(len(words), MOST_ELEMENTS)
    return Numbers(words, shape)


def must_be_few(count: int, most: int) -> None:
    if count > most:
        raise ValueError(
            f"these are {count} numbers, and the bench takes at most {MOST_ELEMENTS}, as it shows "
            "every one; keep a few rows of them"
        )


def unbracketed(text: str) -> str:
    """A printed tensor written with separators; other text as it is, a new line as a new row."""
    printed = PRINTED.match(text)
    if printed is None:
        return re.sub(r"\s*;?\s*\n\s*", ";", text.strip())
    inner = re.sub(r",\s*\]", "]", printed.group(1))
    depth = inner[: len(inner) - len(inner.lstrip("[ \n"))].count("[")
    if depth > len(SEPARATORS):
        raise ValueError(f"{depth} axes; the bench takes at most {len(SEPARATORS)}")
    for level in range(depth - 1, 0, -1):
        between = rf"(?:\]\s*){{{level}}},\s*(?:\[\s*){{{level}}}"
        inner = re.sub(between, SEPARATORS[level], inner)
    closing = "".join(SEPARATORS[level] for level in range(1, depth))
    return re.sub(r"[\[\]\s]", "", inner) + closing


def split(text: str, level: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    parts = text.split(SEPARATORS[level])
    if level and not parts[-1].strip():
        # the separator at the end, for an axis of length 1
        parts = parts[:-1]
    if not level:
        return tuple(part.strip() for part in parts), (len(parts),)
    found = [split(part, level - 1) for part in parts]
    shape = found[0][1]
    for row, (_, other) in enumerate(found):
        if other != shape:
            raise ValueError(
                f"part {row + 1} between the signs {SEPARATORS[level]!r} has shape "
                f"{shape_of(other)} and the first has {shape_of(shape)}; give all the same"
            )
    return sum((words for words, _ in found), ()), (len(found), *shape)


def joined(words: Sequence[str], shape: Sequence[int]) -> str:
    level = len(shape) - 1
    if level <= 0:
        return ",".join(words)
    size = len(words) // shape[0]
    rows = [
        joined(words[at : at + size], tuple(shape[1:])) for at in range(0, len(words), max(size, 1))
    ]
    return SEPARATORS[level].join(rows) + (SEPARATORS[level] if len(rows) == 1 else "")


def number(word: str, where: str) -> float:
    if not word:
        raise ValueError(f"there is no number at {where}; write one between the separators")
    if len(word) > 40:
        raise ValueError(f"what stands at {where} is too long for a number")
    try:
        return float(word.replace("−", "-").replace("∞", "inf"))
    except ValueError:
        raise ValueError(
            f"{word!r} at {where} is no number; write one such as 0.5, -2e-3 or inf"
        ) from None


def place(at: int, shape: Sequence[int]) -> str:
    """Where an element is, as one would index it: [0, 2]."""
    found: list[int] = []
    for size in reversed(shape):
        at, rest = divmod(at, size)
        found.insert(0, rest)
    return f"[{', '.join(map(str, found))}]"


def shape_of(shape: Sequence[int]) -> str:
    """A shape as PyTorch writes it: (3,) or (3, 4)."""
    return str(tuple(shape))


def as_code(tensor: torch.Tensor) -> str:
    """A tensor as Python that makes it again, to the bit."""
    return f"torch.tensor({literal(tensor.tolist())})"


def as_rows(tensor: torch.Tensor) -> str:
    """The same with a line for each part of the first axis."""
    if tensor.dim() < 2:
        return as_code(tensor)
    rows = "".join(f"    {literal(row)},\n" for row in tensor.tolist())
    return f"torch.tensor([\n{rows}])"


def literal(values: object) -> str:
    if isinstance(values, list):
        return f"[{', '.join(map(literal, values))}]"
    return short(values) if isinstance(values, float) else repr(values)


def short(value: float) -> str:
    """The fewest digits that give the same float32."""
    if not math.isfinite(value):
        return f'float("{value}")'
    return repr(float(str(numpy.float32(value))))
