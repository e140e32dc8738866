"""Training of lessons: a setup ready to train, and some steps of it by the loop itself."""

from collections.abc import Callable, Sequence

import torch

from trainer.build import build_setup
from trainer.config import Budget, RunConfig
from trainer.loop import Progress, train
from trainer.setup import Setup, StepOutcome
from trainer.tasks import TaskData
from trainer.tricks import Trick, in_order

CPU = torch.device("cpu")
ENDLESS = Budget(epochs=100_000)
Seen = Callable[[int, StepOutcome], None]


def prepared(config: RunConfig, data: TaskData, tricks: Sequence[Trick] = ()) -> Setup:
    """The plain setup of a config with these tricks applied; not placed yet."""
    setup = build_setup(config, data, CPU)
    for trick in in_order(tricks):
        trick.apply(setup)
    return setup


def steps_of(setup: Setup, steps: int, seen: Seen = lambda step, outcome: None) -> None:
    """Train a placed setup for so many optimizer steps, by the loop that trains runs."""
    train(setup, Progress(), FewSteps(steps, seen))


class FewSteps:
    """A watch that ends a training after some steps and shows each."""

    def __init__(self, steps: int, seen: Seen) -> None:
        self.steps, self.seen = steps, seen

    def lap(self, activity: str) -> None:
        """Time is of no interest here."""

    def after_step(self, progress: Progress, outcome: StepOutcome) -> bool:
        self.seen(progress.step, outcome)
        return progress.step >= self.steps

    def after_epoch(self, progress: Progress) -> bool:
        return False
