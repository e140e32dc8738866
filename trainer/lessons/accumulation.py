"""accumulation: gradients of small batches added up, against the gradient of one large batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field

from trainer.batch import Batch
from trainer.build import build_setup
from trainer.config import RunConfig
from trainer.inquiry import Bench
from trainer.lessons.base import Lesson
from trainer.lessons.shown import Chart, Line, Shown, Table
from trainer.losses import CrossEntropy
from trainer.losses.base import IGNORED_BY_TORCH, Criterion
from trainer.models import Mlp, SmallCnn
from trainer.part import Refused
from trainer.proofs.comparison import error, joined
from trainer.setup import Setup
from trainer.streams import generator
from trainer.tasks import Digits, TaskData
from trainer.tricks.gradient_accumulation import accumulate

Gradients = Mapping[str, torch.Tensor]
Way = Callable[[Setup, Sequence[Batch]], None]
KS = (2, 4, 8, 16)


class Ways(NamedTuple):
    """The gradient of one window, three ways; tensors by the names of the parameters."""

    large: Gradients
    """Of all its examples in one batch."""
    divided: Gradients
    """Each small batch's mean loss divided by how many batches there are, as the note has it."""
    window: Gradients
    """As the trick does it: sums, divided once by what the whole window averages over."""


class AccumulationLesson(Lesson):
    """Add up the gradients of small batches in two ways, and hold both against one large batch.

    The usual recipe divides the loss of each small batch by their number. That is right only while
    every batch averages over equally much: class weights, targets that do not count and a shorter
    last batch all break it. Dividing the summed gradient once, by what the whole window averages
    over, is right for all of them. Batch norm breaks both: it looks at each small batch by itself.
    """

    title: ClassVar[str] = "Small batches for a large one"
    note: ClassVar[int] = 2
    tricks: ClassVar[tuple[str, ...]] = ("gradient_accumulation",)
    formula: ClassVar[str] = "accumulation"
    name: Literal["accumulation"] = "accumulation"
    batches: int = Field(4, ge=2, le=16, description="Small batches for one step, k.")
    batch_size: int = Field(8, ge=2, le=32, description="Examples in each of them.")
    last_batch: int = Field(8, ge=1, le=32, description="Examples in the last one, if fewer.")
    class_weights: bool = Field(False, description="Rarer digits count up to ten times as much.")
    ignored: int = Field(
        0, ge=0, le=90, description="Percent of the targets that nobody knows (ignore_index)."
    )
    batch_norm: bool = Field(False, description="A small CNN with batch norm; otherwise an MLP.")
    precision: Literal["double", "single"] = Field(
        "double", description="Rounding hides small mistakes in single precision."
    )

    def show(self, bench: Bench) -> Shown:
        sizes = [self.batch_size] * (self.batches - 1) + [min(self.last_batch, self.batch_size)]
        data = Digits().load(bench.data)
        ways = self.ways(data, sizes)
        wrong, right = of_all(ways.divided, ways.large), of_all(ways.window, ways.large)
        return Shown(
            verdict=self.verdict(wrong, right),
            figures=(by_layer(ways), self.by_number(data), compared(ways, self.batches)),
            remarks=self.remarks(sizes, right),
            numbers={"sizes": sizes, "divided_by_k": wrong, "by_the_window": right},
        )

    def ways(self, data: TaskData, sizes: Sequence[int]) -> Ways:
        """The gradients of one window in batches of these sizes."""
        return Ways(
            self.gradients(data, [sum(sizes)], plainly),
            self.gradients(data, sizes, divided),
            self.gradients(data, sizes, as_the_trick),
        )

    def gradients(self, data: TaskData, sizes: Sequence[int], how: Way) -> Gradients:
        setup = self.setup(data)
        how(setup, self.window(data, sizes))
        return {
            name: parameter.grad.detach()
            for name, parameter in setup.model.named_parameters()
            if parameter.grad is not None
        }

    def setup(self, data: TaskData) -> Setup:
        model = SmallCnn(width=8) if self.batch_norm else Mlp()
        setup = build_setup(RunConfig(model=model), data, torch.device("cpu"))
        weights = torch.linspace(1, 10, 10) if self.class_weights else None
        setup.criterion = Criterion(CrossEntropy(), weights, IGNORED_BY_TORCH)
        if self.precision == "double":
            setup.model.double()
            prepare = setup.prepare
            setup.prepare = lambda batch: as_double(prepare(batch))
        setup.place()
        setup.model.train()
        return setup

    def window(self, data: TaskData, sizes: Sequence[int]) -> list[Batch]:
        """The first examples, in batches of these sizes; of some targets it is not known."""
        count = sum(sizes)
        targets = data.train.targets[:count].clone()
        unknown = torch.rand(count, generator=generator(0, "lesson")) * 100 < self.ignored
        targets[unknown] = IGNORED_BY_TORCH
        if bool(unknown.all()):
            raise Refused(f"none of the {count} targets counts; lower ignored or take more")
        inputs = data.train.inputs[:count]
        members = torch.split(torch.arange(count), list(sizes))
        return [Batch(inputs[own], targets[own], own, 0) for own in members]

    def by_number(self, data: TaskData) -> Chart:
        """How wrong both ways are, by how many small batches the same examples come in."""
        found = {k: self.ways(data, split(64, k)) for k in KS}
        names = [str(k) for k in KS]
        return Chart(
            "The same 64 examples in more and smaller batches",
            "small batches",
            "relative error of the gradient",
            (
                Line("divided by k", names, [of_all(w.divided, w.large) for w in found.values()]),
                Line("by the window", names, [of_all(w.window, w.large) for w in found.values()]),
            ),
            is_log=True,
        )

    def verdict(self, wrong: float, right: float) -> str:
        if self.batch_norm:
            return (
                f"Neither is the large batch's gradient: {100 * wrong:.2g} % off divided by k, "
                f"{100 * right:.2g} % off by the window. Batch norm averages over each small "
                "batch, and no divisor mends that."
            )
        if wrong > 100 * max(right, 1e-16):
            return (
                f"Dividing each loss by {self.batches} misses the large batch's gradient by "
                f"{100 * wrong:.2g} %; dividing once by what the window averages over misses it "
                f"by {right:.1e}, which is rounding."
            )
        return (
            f"Here both are right to rounding ({wrong:.1e} and {right:.1e}): every small batch "
            "averages over equally much. Switch on class weights, or make the last batch shorter."
        )

    def remarks(self, sizes: Sequence[int], right: float) -> tuple[str, ...]:
        said = [f"The window is {' + '.join(map(str, sizes))} = {sum(sizes)} examples of digits."]
        if self.batch_norm:
            said.append(
                "In evaluation mode batch norm uses its running statistics, and the two agree "
                "again; what can be mended is how fast those statistics move: see the next lesson."
            )
        if self.class_weights or self.ignored:
            said.append(
                "CrossEntropyLoss divides by the summed weights of the targets that count, which "
                "differ from batch to batch: a mean of means is not the mean."
            )
        return tuple(said)


def plainly(setup: Setup, window: Sequence[Batch]) -> None:
    setup.backward(setup, window)


def divided(setup: Setup, window: Sequence[Batch]) -> None:
    """As the founding note has it: loss = loss / accumulation_steps, then backward()."""
    for batch in map(setup.ready, window):
        loss = setup.criterion.value(setup.forward(setup, batch), batch.targets)
        (loss / len(window)).backward()  # type: ignore[no-untyped-call]


def as_the_trick(setup: Setup, window: Sequence[Batch]) -> None:
    accumulate(setup, window)


def as_double(batch: Batch) -> Batch:
    return batch._replace(inputs=batch.inputs.double())


def split(examples: int, k: int) -> list[int]:
    return [examples // k] * k


def of_all(ours: Gradients, wanted: Gradients) -> float:
    """The relative error over all parameters."""
    names = list(wanted)
    return error(joined(ours, names), joined(wanted, names))


def by_layer(ways: Ways) -> Chart:
    names = list(ways.large)
    return Chart(
        "Parameter by parameter",
        "",
        "relative error of the gradient",
        (
            Line("divided by k", names, [error(ways.divided[n], ways.large[n]) for n in names]),
            Line("by the window", names, [error(ways.window[n], ways.large[n]) for n in names]),
        ),
        kind="bars",
        is_log=True,
    )


def compared(ways: Ways, k: int) -> Table:
    """Both ways beside the large batch, in figures."""
    names = list(ways.large)
    wanted = joined(ways.large, names)
    rows = []
    for name, gradients in (
        (f"loss.mean() / {k}", ways.divided),
        ("sum, divided by the window", ways.window),
    ):
        mine = joined(gradients, names)
        cosine = float(torch.cosine_similarity(mine, wanted, dim=0))
        length = float(mine.norm() / wanted.norm())
        rows.append((name, of_all(gradients, ways.large), length, cosine))
    columns = ("Way", "Relative error", "Length, of the large one's", "Cosine")
    return Table("Both ways beside one large batch", columns, rows)
