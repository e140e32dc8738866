"""Loss: what training makes small, with the normaliser that accumulation needs."""

from typing import Literal

import torch
from pydantic import Field

from trainer.part import Part

Reduction = Literal["mean", "sum"]


class Loss(Part):
    """A loss over outputs (N, …) and targets (N, …).

    Invariant: `value == total / divisor(averaged_over)` up to rounding, and both `total` and
    `averaged_over` add up over batches. That is what lets gradient accumulation be right for
    every loss and every reduction.
    """

    reduction: Reduction = Field(
        "mean",
        description="mean divides by what the loss averages over; sum does not, so the gradient "
        "grows with the batch.",
    )

    def value(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of one batch, reduced as chosen: a scalar with a gradient."""
        raise NotImplementedError

    def total(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The same loss summed instead of averaged: a scalar with a gradient."""
        raise NotImplementedError

    def averaged_over(self, output: torch.Tensor, target: torch.Tensor) -> float:
        """What a mean divides by: examples, elements, valid targets or summed weights."""
        raise NotImplementedError

    def divisor(self, averaged_over: float) -> float:
        """What the chosen reduction divides a total over that much by; 1 for a sum."""
        return 1.0 if self.reduction == "sum" else averaged_over
