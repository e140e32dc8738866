"""drift: two trainings of the same config, and what sets them apart."""

from contextlib import ExitStack
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from trainer.config import RunConfig
from trainer.inquiry import Bench
from trainer.lessons.base import Lesson
from trainer.lessons.shown import Chart, Line, Shown, Table
from trainer.lessons.training import ENDLESS, prepared
from trainer.loader import Loader
from trainer.loop import Progress, train
from trainer.models import SmallCnn
from trainer.optimizers import Sgd
from trainer.proofs.reproducibility import Difference, first_difference
from trainer.proofs.trace import Trace
from trainer.schedules import Constant
from trainer.setup import Setup, StepOutcome
from trainer.tasks import Digits, TaskData
from trainer.tricks import Seed

FIRST_WEIGHT = "block1.conv.weight"


class DriftLesson(Lesson):
    """Train the same network twice, step by step, and find where the two come apart.

    Initial weights and data order follow the run's seed here, always. Dropout draws from a
    generator of the whole process, which starts somewhere new in every run unless the seed trick
    sets it. And training magnifies: a difference in the last bit of one weight grows from step to
    step, and never goes away. That is why runs are compared bit by bit and not by their losses,
    which look the same for a long while, and why one training says little about a trick.
    """

    title: ClassVar[str] = "Two trainings that drift apart"
    note: ClassVar[int] = 7
    tricks: ClassVar[tuple[str, ...]] = ("seed", "deterministic")
    name: Literal["drift"] = "drift"
    seeded: bool = Field(False, description="Both with the seed trick.")
    dropout: float = Field(
        0.2, ge=0, le=0.8, description="Share of features that is dropped by chance."
    )
    other: Literal["nothing", "one bit of one weight", "data order", "initial weights"] = Field(
        "nothing", description="What else differs in the second training."
    )
    steps: int = Field(40, ge=2, le=120, description="Optimizer steps of each.")

    def show(self, bench: Bench) -> Shown:
        data = Digits().load(bench.data)
        first = self.trained(data, "nothing")
        bench.tell(0.5, "the second training")
        second = self.trained(data, self.other)
        apart = [distance(one, two) for one, two in zip(first.weights, second.weights, strict=True)]
        found = first_difference(first.steps, second.steps)
        steps = list(range(len(apart)))
        return Shown(
            verdict=self.verdict(found, apart, first, second),
            figures=(
                Chart(
                    "How far apart the weights are",
                    "step",
                    "relative distance",
                    (Line("weights", steps, apart),),
                    is_log=True,
                ),
                Chart(
                    "Training loss",
                    "step",
                    "loss",
                    (
                        Line("first", steps[1:], first.losses),
                        Line("second", steps[1:], second.losses),
                    ),
                ),
                self.by_tensor(first, second),
            ),
            remarks=(
                "At the foot of the first chart the two agree to the bit.",
                "A seed holds for one machine, one version of torch and one number of threads. On "
                "a GPU some operations add up in whatever order they finish: that takes the "
                "deterministic trick as well.",
            ),
            numbers={
                "identical": found is None,
                "first_difference": found.sentence if found else "",
                "apart": apart,
            },
        )

    def trained(self, data: TaskData, other: str) -> "Drift":
        setup = prepared(self.config(0), data, [Seed()] if self.seeded else [])
        elsewhere = prepared(self.config(1), data)
        if other == "data order":
            setup.batches = elsewhere.batches
        elif other == "initial weights":
            setup.model = elsewhere.model
        elif other == "one bit of one weight":
            flip_last_bit(setup.model)
        if not self.seeded:
            # as in a process of its own, which nobody seeded
            torch.seed()
        return watched(setup, self.steps)

    def config(self, seed: int) -> RunConfig:
        return RunConfig(
            model=SmallCnn(width=4, dropout=self.dropout),
            loader=Loader(batch_size=32),
            optimizer=Sgd(learning_rate=0.05),
            schedule=Constant(),
            budget=ENDLESS,
            seed=seed,
        )

    def by_tensor(self, first: "Drift", second: "Drift") -> Table:
        """What differs in the step in which anything does, in the order it is computed."""
        found = first_difference(first.steps, second.steps)
        title = "The first tensors that differ" if found else "The tensors of the last step"
        number = found.place.step if found else len(first.steps) - 1
        start = found.place.number if found else 0
        pairs = list(zip(first.steps[number], second.steps[number], strict=True))
        rows = [
            (one.name, one.phase, "same bits" if one == two else "differs")
            for one, two in pairs[max(0, start - 3) : start + 8]
        ]
        return Table(f"{title}: step {number}", ("Tensor", "When", "Bits"), rows)

    def verdict(
        self, found: Difference | None, apart: list[float], first: "Drift", second: "Drift"
    ) -> str:
        if found is None:
            return f"The two are the same to the bit over all {self.steps} steps."
        sentence = found.sentence
        return (
            f"{sentence[0].upper()}{sentence[1:]}. After {self.steps} steps the weights are "
            f"{100 * apart[-1]:.2g} % of their size apart, and the losses are "
            f"{first.losses[-1]:.3f} and {second.losses[-1]:.3f}."
        )


class Drift(Trace):
    """A trace that keeps the weights of every step too."""

    def __init__(self, setup: Setup, steps: int) -> None:
        super().__init__(setup, steps, lambda step: None)
        self.weights = [self.now()]

    def now(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.setup.model.parameters()]).clone()

    def after_step(self, progress: Progress, outcome: StepOutcome) -> bool:
        self.weights.append(self.now())
        return super().after_step(progress, outcome)


def watched(setup: Setup, steps: int) -> Drift:
    """Train a setup for so many steps, inside its switches, with everything hashed."""
    with ExitStack() as switches:
        for switch in setup.switches:
            switches.enter_context(switch())
        setup.place()
        setup.start_fresh()
        drift = Drift(setup, steps)
        drift.attach()
        train(setup, Progress(), drift)
    return drift


def flip_last_bit(model: nn.Module) -> None:
    """Change one weight by the least that its type can hold."""
    state: dict[str, Any] = model.state_dict()
    state[FIRST_WEIGHT].view(torch.int32).flatten()[0] ^= 1


def distance(one: torch.Tensor, two: torch.Tensor) -> float:
    return float((one - two).norm() / one.norm())
