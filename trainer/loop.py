"""The training loop: plain, names no trick, and never waits for the device."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from trainer.batch import Batch
from trainer.metrics import METRICS, Scored
from trainer.setup import Setup, StepOutcome
from trainer.tasks.base import Examples


@dataclass
class Progress:
    """How far a run has come: all the loop needs to go on from there."""

    epoch: int = 0
    batch: int = 0
    """Loader batches of this epoch that are done."""
    step: int = 0
    """Optimizer steps done since the run began."""


class Watch(Protocol):
    """What looks on while a run trains. Both calls answer whether training should end now."""

    def lap(self, activity: str) -> None:
        """The time since the last lap was spent on this activity."""

    def after_step(self, progress: Progress, outcome: StepOutcome) -> bool: ...

    def after_epoch(self, progress: Progress) -> bool: ...


def train(setup: Setup, progress: Progress, watch: Watch) -> None:
    """Train from `progress` to the last epoch, or until the watch says that it is enough."""
    multiplier, setup.lap = None, watch.lap
    while progress.epoch < setup.epochs:
        setup.model.train()
        batches = setup.batches(setup, progress.epoch, progress.batch)
        while window := tuple(itertools.islice(batches, setup.batches_per_step)):
            watch.lap("data")
            multiplier = set_learning_rate(setup, progress.step, multiplier)
            outcome = setup.backward(setup, window)
            for change in setup.change_gradients:
                change(setup)
            setup.optimizer.step()
            setup.optimizer.zero_grad(set_to_none=True)
            progress.step += 1
            progress.batch += len(window)
            for after in setup.after_step:
                after(setup, progress.step)
            watch.lap("optimizer")
            if watch.after_step(progress, outcome):
                return
        progress.epoch, progress.batch = progress.epoch + 1, 0
        for on_epoch in setup.on_epoch:
            on_epoch(setup, progress.epoch)
        if watch.after_epoch(progress):
            return


def set_learning_rate(setup: Setup, step: int, before: float | None) -> float:
    """Scale every group's peak rate for this step; writes only when the multiplier changed."""
    multiplier = setup.lr_multiplier(step, setup.total_steps)
    if multiplier != before:
        for group in setup.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * multiplier
        setup.learning_rate = setup.optimizer.defaults["lr"] * multiplier
    return multiplier


@dataclass(frozen=True)
class Score:
    """How a model did on a set of examples: the loss, reduced as in training, and the metrics."""

    loss: float
    metrics: Scored


@torch.no_grad()
def evaluate(
    setup: Setup, examples: Examples, after_batch: Callable[[], None] = lambda: None
) -> Score:
    """Loss and metrics over all examples, the model in eval mode. Read back at the end."""
    model = setup.evaluated_model(setup)
    was_training = model.training
    model.eval()
    metrics = METRICS[setup.targets.kind](setup.targets, setup.device)
    total = torch.zeros((), dtype=metrics.sums_in, device=setup.device)
    averaged_over = torch.zeros_like(total)
    for output, targets in predictions(setup, model, examples):
        total += setup.criterion.total(output, targets)
        averaged_over += setup.criterion.averaged_over(output, targets)
        metrics.add(output, targets)
        after_batch()
    model.train(was_training)
    return Score(float(total / setup.criterion.divisor(averaged_over)), metrics.scored())


def predictions(
    setup: Setup, model: nn.Module, examples: Examples
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What the model says of each batch, and its targets, on the device.

    The batches are half as large from the first one on that does not fit into its memory.
    """
    first = 0
    while first < len(examples):
        chosen = slice(first, first + setup.evaluation_batch)
        host_batch = Batch(examples.inputs[chosen], examples.targets[chosen])
        try:
            batch = setup.prepare(host_batch.to(setup.device))
            output = model(batch.inputs)
        except torch.OutOfMemoryError:
            if setup.evaluation_batch == 1:
                raise
            setup.evaluation_batch //= 2
            continue
        first = chosen.stop
        yield output, batch.targets
