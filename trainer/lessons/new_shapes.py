"""new_shapes: what the first batch of a new shape costs, with cuDNN's search and without."""

import time
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import nn

from trainer.inquiry import Bench
from trainer.lessons.base import Lesson
from trainer.lessons.shown import Chart, Line, Shown, Table
from trainer.streams import process_stream
from trainer.tricks.cudnn_benchmark import searching

REPEATS = 5
LIMIT = 10


class Timed(NamedTuple):
    """Milliseconds of the batches of one shape."""

    first: float
    later: float
    """The median of those after it."""


class NewShapesLesson(Lesson):
    """Show batches of several shapes to a small convolutional network, and time each.

    With `cudnn.benchmark` the first batch of each shape is where cuDNN tries its algorithms; the
    later ones have the fastest. With few shapes the search is paid back, with a new shape in each
    batch never. The smaller last batch of an epoch and the batch of the evaluation are shapes of
    their own. On the CPU there is no cuDNN and the flag changes nothing: what the first batch
    costs there is what oneDNN and the allocator do when they meet a shape for the first time.
    """

    title: ClassVar[str] = "What a new shape costs"
    needs_device_alone: ClassVar[bool] = True
    note: ClassVar[int] = 1
    tricks: ClassVar[tuple[str, ...]] = ("cudnn_benchmark",)
    name: Literal["new_shapes"] = "new_shapes"
    shapes: int = Field(4, ge=1, le=8, description="How many different shapes come.")
    batch_size: int = Field(16, ge=1, le=64, description="Pictures in a batch.")
    side: int = Field(32, ge=8, le=96, description="Pixels a side of the first; others are larger.")

    def show(self, bench: Bench) -> Shown:
        sides = [self.side + 4 * number for number in range(self.shapes)]
        plain = self.timed(sides, bench, search=False)
        searched = self.timed(sides, bench, search=True)
        names = [f"{side} x {side}" for side in sides]
        return Shown(
            verdict=self.verdict(plain, searched, bench.device),
            figures=(
                chart("Without the search", names, plain),
                chart("With cudnn.benchmark", names, searched),
                self.table(names, plain, searched),
            ),
            remarks=(
                "The choice differs between processes: two algorithms that take the same time win "
                "in turn, and with them the last bits of the result.",
            ),
            numbers={
                "device": str(bench.device),
                "plain": [one._asdict() for one in plain],
                "searched": [one._asdict() for one in searched],
            },
        )

    def timed(self, sides: list[int], bench: Bench, *, search: bool) -> list[Timed]:
        with process_stream(0, "lesson"):
            network = network_on(bench.device)
        with searching(LIMIT) if search else torch.backends.cudnn.flags(enabled=True):
            # what is loaded once, whatever the shape
            step(network, self.batch(8, bench.device))
            found = []
            for number, side in enumerate(sides):
                bench.tell((number / len(sides) + search) / 2, f"{side} x {side}")
                times = [step(network, self.batch(side, bench.device)) for _ in range(1 + REPEATS)]
                found.append(Timed(times[0], sorted(times[1:])[REPEATS // 2]))
        return found

    def batch(self, side: int, device: torch.device) -> torch.Tensor:
        return torch.ones(self.batch_size, 3, side, side, device=device)

    def table(self, names: list[str], plain: list[Timed], searched: list[Timed]) -> Table:
        rows = [
            (name, one.first, one.later, two.first, two.later, pays_after(one, two))
            for name, one, two in zip(names, plain, searched, strict=True)
        ]
        columns = ("Shape", "First, ms", "Later, ms", "First, searched", "Later, searched", "Pays")
        return Table("Milliseconds of a step, and after how many it pays", columns, rows)

    def verdict(self, plain: list[Timed], searched: list[Timed], device: torch.device) -> str:
        extra = sum(two.first - one.first for one, two in zip(plain, searched, strict=True))
        saved = sum(one.later - two.later for one, two in zip(plain, searched, strict=True))
        if device.type != "cuda":
            new = sum(one.first - one.later for one in plain) / len(plain)
            return (
                "There is no CUDA device here, so cudnn.benchmark searches nothing: the charts "
                f"differ by noise. Even so the first batch of a shape takes {new:.1f} ms more than "
                "the later ones."
            )
        if saved <= 0:
            return (
                f"The search of {len(plain)} shapes costs {extra:.0f} ms, and the steps after it "
                "are no faster here: leave it off."
            )
        return (
            f"The search of {len(plain)} shapes costs {extra:.0f} ms and saves "
            f"{saved / len(plain):.2f} ms a step: it pays after {extra / (saved / len(plain)):.0f} "
            "steps."
        )

    def where(self, bench: Bench) -> str:
        if bench.device.type == "cuda":
            return f"{torch.cuda.get_device_name(bench.device)} by torch {torch.__version__}"
        return super().where(bench)


def network_on(device: torch.device) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 5, padding=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    ).to(device)


def step(network: nn.Module, batch: torch.Tensor) -> float:
    """Forward and backward of a batch, to their end on the device; milliseconds."""
    synchronise(batch.device)
    began = time.perf_counter()
    network(batch).sum().backward()
    synchronise(batch.device)
    return 1000 * (time.perf_counter() - began)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def pays_after(plain: Timed, searched: Timed) -> str:
    saved = plain.later - searched.later
    extra = searched.first - plain.first
    if saved <= 0:
        return "never"
    return "at once" if extra <= 0 else f"{extra / saved:,.0f} steps"


def chart(title: str, names: list[str], timed: list[Timed]) -> Chart:
    return Chart(
        title,
        "shape",
        "ms",
        (
            Line("first batch", names, [one.first for one in timed]),
            Line("later batches", names, [one.later for one in timed]),
        ),
        kind="bars",
    )
