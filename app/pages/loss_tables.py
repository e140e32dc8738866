"""Tables of the loss bench: cells to edit numbers in, and what each element came to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.loss_bench import BenchLoss, Found, Numbers, numbers
from trainer.loss_bench.number_text import place


@dataclass(frozen=True)
class Cell:
    """One number as typed. Its name says where it is to those who cannot see the table."""

    name: str
    word: str


@dataclass(frozen=True)
class NumberTable:
    """A tensor as rows over its last axis."""

    field: str
    shape: tuple[int, ...]
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, Sequence[Cell]]]


def number_tables(loss: type[BenchLoss], input: str, target: str) -> list[NumberTable]:
    """Those texts that can be read as tables; a text that cannot has its error beside it."""
    found = []
    for field, text in (("input", input), ("target", target)):
        try:
            typed = numbers(text)
        except ValueError:
            continue
        is_column = field == "target" and loss.family == "classes" and len(typed.shape) == 1
        found.append(number_table(field, typed, is_column))
    return found


def number_table(field: str, typed: Numbers, is_column: bool) -> NumberTable:
    """`is_column`: one number a row, so that class numbers stand beside their scores."""
    across = 1 if is_column else typed.shape[-1]
    leading = typed.shape if is_column else typed.shape[:-1]
    cells = [Cell(f"{field}{place(at, typed.shape)}", word) for at, word in enumerate(typed.words)]
    rows = [
        (place(row, leading) if leading else "", cells[row * across : (row + 1) * across])
        for row in range(math.prod(leading))
    ]
    columns = ("",) if is_column else tuple(map(str, range(across)))
    return NumberTable(field, typed.shape, columns, rows)


@dataclass(frozen=True)
class ElementRow:
    """One value of reduction="none", with the inputs it comes from."""

    place: str
    at: int
    """The input that choosing this row chooses."""
    input: float | None
    target: float | None
    loss: float
    gradient: Sequence[float]
    is_chosen: bool


def element_rows(found: Found) -> list[ElementRow]:
    """One row for each element of the loss; of classes the gradient of each class."""
    spot, label = found.spot
    losses = found.elements.flatten().tolist()
    gradients, targets, inputs = columns_of(found)
    inner = math.prod(found.input.shape[2:])
    rows = []
    for number, loss in enumerate(losses):
        at = number
        if found.is_over_classes:
            example, pixel = divmod(number, inner)
            at = (example * found.input.shape[1] + label) * inner + pixel
        rows.append(
            ElementRow(
                place=place(number, found.elements.shape),
                at=at,
                input=inputs[number],
                target=targets[number],
                loss=loss,
                gradient=gradients[number],
                is_chosen=number == spot,
            )
        )
    return rows


def columns_of(
    found: Found,
) -> tuple[list[list[float]], Sequence[float | None], Sequence[float | None]]:
    """Gradient, target and input of every element; None where there is more than one number."""
    nothing: list[float | None] = [None] * found.elements.numel()
    if not found.is_over_classes:
        gradients = [[one] for one in found.gradient.flatten().tolist()]
        return gradients, found.target.flatten().tolist(), found.input.flatten().tolist()
    targets = nothing if found.has_probabilities else found.target.flatten().tolist()
    return found.by_place(found.gradient).tolist(), targets, nothing
