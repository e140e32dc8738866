"""frozen: a layer that was frozen, and moves on all the same."""

from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field

from trainer.config import RunConfig
from trainer.inquiry import Bench
from trainer.lessons.base import Lesson
from trainer.lessons.shown import Chart, Line, Shown, Table
from trainer.lessons.training import ENDLESS, prepared, steps_of
from trainer.loader import Loader
from trainer.models import SmallCnn
from trainer.optimizers import AdamW, Optimizer, Sgd
from trainer.schedules import Constant
from trainer.setup import Setup, StepOutcome
from trainer.tasks import Digits, TaskData
from trainer.tricks import Freeze

BEFORE, AFTER = 12, 30
LAYER = "block1"


class Frozen(NamedTuple):
    """How far the frozen layer is, after each step, from where it was frozen."""

    weights: list[float]
    """Of its convolution: norm of the difference over norm of what was frozen."""
    statistics: list[float]
    """Of its batch norm's running mean, likewise."""


class FrozenLesson(Lesson):
    """Freeze the first block of a small network after a few steps, in three ways, and train on.

    `requires_grad = False` only stops new gradients. An optimizer that still holds the weight moves
    it on by momentum and by weight decay as long as its gradient is zero and not None, which is
    what `zero_grad(set_to_none=False)` leaves. And a batch norm in training mode goes on gathering
    running statistics, whatever its weights do. The trick takes the weights out of the optimizer
    and puts frozen norms into evaluation mode.
    """

    title: ClassVar[str] = "The frozen layer that moves"
    note: ClassVar[int] = 8
    tricks: ClassVar[tuple[str, ...]] = ("freeze",)
    name: Literal["frozen"] = "frozen"
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="Which optimizer trains.")
    momentum: float = Field(0.9, ge=0, le=0.99, description="Of SGD. AdamW has moments of its own.")
    weight_decay: float = Field(
        0.01, ge=0, le=0.1, description="Pull towards zero at each step, gradient or not."
    )

    def show(self, bench: Bench) -> Shown:
        data = Digits().load(bench.data)
        found = {}
        for number, to_none in enumerate((False, True)):
            name = f"set_to_none={to_none}"
            bench.tell(number / 3, name)
            found[name] = self.frozen_by_hand(data, to_none)
        bench.tell(2 / 3, "the trick")
        found["the trick"] = self.frozen_by_trick(data)
        ends = {name: (far.weights[-1], far.statistics[-1]) for name, far in found.items()}
        return Shown(
            verdict=self.verdict(ends),
            figures=(
                chart("The frozen convolution", {name: far.weights for name, far in found.items()}),
                chart(
                    "The running mean of its batch norm",
                    {name: far.statistics for name, far in found.items()},
                ),
                Table(
                    f"After {AFTER} steps, relative to what was frozen",
                    ("Frozen by", "Weights moved by", "Running mean moved by"),
                    [(name, *moved) for name, moved in ends.items()],
                ),
            ),
            remarks=(
                "PyTorch's zero_grad sets gradients to None by default since 2.0; older code, and "
                "code that passes set_to_none=False, still leaves zeros.",
                "SGD with neither momentum nor weight decay does not move it: nothing is left to "
                "move it by.",
            ),
            numbers={name: {"weights": w, "statistics": s} for name, (w, s) in ends.items()},
        )

    def frozen_by_hand(self, data: TaskData, to_none: bool) -> Frozen:
        """Train, stop the block's gradients, and train on, clearing gradients in one of two ways.

        Step by step and not by the loop, which always clears them to None.
        """
        setup = prepared(self.config(), data)
        setup.place()
        setup.model.train()
        batches = [batch for epoch in (0, 1) for batch in setup.batches(setup, epoch, 0)]
        look = None
        for step, batch in enumerate(batches[: BEFORE + AFTER]):
            if step == BEFORE:
                setup.model.get_submodule(LAYER).requires_grad_(False)
                look = Look(setup)
            setup.backward(setup, [batch])
            setup.optimizer.step()
            setup.optimizer.zero_grad(set_to_none=to_none)
            if look is not None:
                look.see()
        assert look is not None, "an epoch has more batches than come before"
        return look.found

    def frozen_by_trick(self, data: TaskData) -> Frozen:
        """The same by the trick: it freezes at the start, so it starts with what was trained."""
        trained = prepared(self.config(), data)
        trained.place()
        steps_of(trained, BEFORE)
        setup = prepared(self.config(), data, [Freeze(layers=LAYER)])
        setup.model.load_state_dict(trained.model.state_dict())
        setup.place()
        look = Look(setup)
        steps_of(setup, AFTER, look.after_step)
        return look.found

    def config(self) -> RunConfig:
        return RunConfig(
            model=SmallCnn(width=4),
            loader=Loader(batch_size=32),
            optimizer=self.chosen_optimizer(),
            schedule=Constant(),
            budget=ENDLESS,
        )

    def chosen_optimizer(self) -> Optimizer:
        if self.optimizer == "adamw":
            return AdamW(learning_rate=0.01, weight_decay=self.weight_decay)
        return Sgd(
            learning_rate=0.02,
            momentum=self.momentum,
            nesterov=False,
            weight_decay=self.weight_decay,
        )

    def verdict(self, ends: dict[str, tuple[float, float]]) -> str:
        zero, none, trick = (moved[0] for moved in ends.values())
        norm = ends["set_to_none=True"][1]
        moved = (
            f"moves by {100 * zero:.2g} % of its size in {AFTER} steps" if zero else "stays, too"
        )
        return (
            f"With zero gradients the frozen convolution {moved}; with None it moves by "
            f"{100 * none:.2g} %, by the trick by {100 * trick:.2g} %. Its batch norm's running "
            f"mean moves by {100 * norm:.2g} % unless it is in evaluation mode."
        )


class Look:
    """Follows the frozen block from where it is now."""

    def __init__(self, setup: Setup) -> None:
        self.block = setup.model.get_submodule(LAYER)
        self.weights, self.mean = self.tensors()
        self.found = Frozen([0.0], [0.0])

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        state = self.block.state_dict()
        return state["conv.weight"].clone(), state["norm.running_mean"].clone()

    def see(self) -> None:
        weights, mean = self.tensors()
        self.found.weights.append(moved(weights, self.weights))
        self.found.statistics.append(moved(mean, self.mean))

    def after_step(self, step: int, outcome: StepOutcome) -> None:
        self.see()


def moved(now: torch.Tensor, before: torch.Tensor) -> float:
    return float((now - before).norm() / before.norm())


def chart(title: str, ways: dict[str, list[float]]) -> Chart:
    lines = [Line(name, list(range(len(far))), far) for name, far in ways.items()]
    return Chart(title, "steps since it was frozen", "moved, relative", lines)
