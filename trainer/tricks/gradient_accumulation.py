"""gradient_accumulation: one optimizer step from the gradients of several small batches."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from trainer.batch import Batch
from trainer.part import Refused
from trainer.setup import Setup, StepOutcome
from trainer.tricks.base import Claim, Exactness, Stage, Trick

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class GradientAccumulation(Trick):
    """Add up the gradients of several small batches before each optimizer step.

    The step is that of one batch `steps` times as large, in the memory of the small one. The
    gradient is divided by what the loss really averages over in the whole window (examples,
    valid targets, summed weights), the shorter last window of an epoch included, so it equals
    the large batch's gradient up to rounding. Batch norm still sees only the small batches.
    """

    title: ClassVar[str] = "Gradient accumulation"
    stage: ClassVar[Stage] = Stage.GRADIENTS
    exactness: ClassVar[Exactness] = Exactness.EXACT
    claim: ClassVar[Claim] = Claim(
        "peak_memory_bytes", lower=True, source="PyTorch documentation, AMP examples"
    )
    owns: ClassVar[frozenset[str]] = frozenset({"backward", "batches_per_step"})
    helps: ClassVar[tuple[str, ...]] = (
        "The batch that the learning rate was tuned for does not fit into the memory.",
        "Only the small batch matters to speed: a GPU that is busy with it gains nothing from "
        "a larger one.",
    )
    cost: ClassVar[str] = (
        "A step takes as long as its batches together; there are fewer steps in an epoch."
    )
    traps: ClassVar[tuple[str, ...]] = (
        "Dividing each loss by the number of batches is wrong with class weights, ignored "
        "targets or a short last window; here the window's own divisor is used.",
        "Batch norm averages over the small batch: the gradient differs from the large batch's, "
        "and no scaling mends that. The running statistics can be mended; see below.",
        "Schedules and averages count optimizer steps, of which there are fewer.",
    )
    sources: ClassVar[tuple[str, ...]] = (
        "Goyal and others, Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour, 2017",
        "Ioffe and Szegedy, Batch Normalization, 2015, for what batch norm does to small batches",
    )
    name: Literal["gradient_accumulation"] = "gradient_accumulation"
    steps: int = Field(4, ge=2, le=1024, description="Small batches per optimizer step.")
    learning_rate_rule: Literal["none", "linear", "sqrt"] = Field(
        "none",
        description="none keeps the rate, right when small batches stand for the batch it was "
        "tuned for; linear (SGD) and sqrt (Adam) raise it with the larger batch.",
    )
    adjust_batch_norm: bool = Field(
        True,
        description="Lower batch norm's momentum m to 1-(1-m)^(1/steps), so that its running "
        "statistics remember as long as they would with the large batch.",
    )

    @property
    def rate_factor(self) -> float:
        powers = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}
        return math.pow(self.steps, powers[self.learning_rate_rule])

    def apply(self, setup: Setup) -> None:
        if self.steps > setup.batches_per_epoch:
            raise Refused(
                f"gradient_accumulation waits for {self.steps} batches, but an epoch has only "
                f"{setup.batches_per_epoch}; lower steps or the batch size"
            )
        setup.batches_per_step = self.steps
        setup.backward = accumulate
        if self.learning_rate_rule != "none":
            plain, factor = setup.lr_multiplier, self.rate_factor
            setup.lr_multiplier = lambda step, steps: factor * plain(step, steps)
        if self.adjust_batch_norm:
            for norm in batch_norms(setup.model):
                norm.momentum = remembered(norm.momentum, self.steps)

    def evidence(self, setup: Setup) -> Mapping[str, Any]:
        norms = batch_norms(setup.model)
        return {
            "batch_size": setup.batch_size,
            "effective_batch_size": setup.batch_size * self.steps,
            "steps_per_epoch": setup.steps_per_epoch,
            "batches_in_last_step": setup.batches_per_epoch % self.steps or self.steps,
            "learning_rate_factor": self.rate_factor,
            "batch_norm_layers": len(norms),
            "batch_norm_momentum": sorted({norm.momentum for norm in norms}),
        }


def batch_norms(model: nn.Module) -> list[Any]:
    """The batch norms that keep running statistics with a fixed momentum."""
    return [m for m in model.modules() if isinstance(m, BATCH_NORMS) and m.momentum is not None]


def remembered(momentum: float, steps: int) -> float:
    """The momentum that over `steps` small batches forgets as much as `momentum` over one."""
    return float(1 - (1 - momentum) ** (1 / steps))


def accumulate(setup: Setup, window: Sequence[Batch]) -> StepOutcome:
    """Forward and backward of every batch in the window, as if they were one batch.

    Sums add up, averages do not: the batches leave the gradients of their summed losses, and
    what the window's loss really averages over, known once all have passed, divides them.
    """
    loss = torch.zeros((), device=setup.device)
    averaged_over: float | torch.Tensor = 0.0
    seen = []
    for batch in map(setup.ready, window):
        setup.lap("copy")
        output = setup.forward(setup, batch)
        total = setup.criterion.total(output, batch.targets)
        seen.append((setup.kept(output), batch.targets))
        setup.lap("forward")
        total.backward()  # type: ignore[no-untyped-call]
        setup.lap("backward")
        loss = loss + total.detach()
        averaged_over = averaged_over + setup.criterion.averaged_over(output, batch.targets)
    divisor = setup.criterion.divisor(averaged_over)
    for parameter in setup.model.parameters():
        if parameter.grad is not None:
            parameter.grad.div_(divisor)
    outputs, targets = zip(*seen, strict=True)
    return setup.outcome(loss / divisor, outputs, targets)
