"""Losses that measure how far numbers are from one another, element by element."""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from trainer.losses.base import Criterion, Loss
from trainer.part import Refused
from trainer.targets import Kind, as_numbers


class DistanceLoss(Loss):
    """A loss over outputs and targets of the same shape; classes become rows with one 1.

    On classes: Hui and Belkin, Evaluation of Neural Architectures Trained with Square Loss vs
    Cross-Entropy in Classification Tasks, 2021.
    """

    suits: ClassVar[frozenset[Kind]] = frozenset({Kind.NUMBERS, Kind.CLASSES, Kind.BINARY})

    def reduced(
        self, output: torch.Tensor, target: torch.Tensor, reduction: Any, criterion: Criterion
    ) -> torch.Tensor:
        wanted = as_numbers(output, target)
        must_not_broadcast(self.torch_name, output, wanted)
        return self.distance(output, wanted, reduction)

    def distance(self, output: torch.Tensor, target: torch.Tensor, reduction: Any) -> torch.Tensor:
        """PyTorch's loss of two tensors of one shape."""
        raise NotImplementedError


class AbsoluteError(DistanceLoss):
    """The absolute difference: outliers pull no harder than anything else.

    Its gradient has the same size everywhere, so it does not fade near the target.
    """

    title: ClassVar[str] = "Absolute error (L1)"
    torch_name: ClassVar[str] = "L1Loss"
    name: Literal["l1"] = "l1"

    def distance(self, output: torch.Tensor, target: torch.Tensor, reduction: Any) -> torch.Tensor:
        return F.l1_loss(output, target, reduction=reduction)


class SmoothL1(DistanceLoss):
    """Squared where the difference is below beta, absolute beyond: smooth at the target.

    0.5 d^2 / beta inside, |d| - 0.5 beta outside (Girshick, Fast R-CNN, 2015). It is Huber's loss
    divided by beta.
    """

    title: ClassVar[str] = "Smooth L1"
    torch_name: ClassVar[str] = "SmoothL1Loss"
    name: Literal["smooth_l1"] = "smooth_l1"
    beta: float = Field(
        1.0, ge=0, le=1e6, description="Where it turns from squared to absolute; 0 is L1."
    )

    def distance(self, output: torch.Tensor, target: torch.Tensor, reduction: Any) -> torch.Tensor:
        return F.smooth_l1_loss(output, target, reduction=reduction, beta=self.beta)


class Huber(DistanceLoss):
    """Squared where the difference is below delta, beyond it a line of slope delta.

    0.5 d^2 inside, delta (|d| - 0.5 delta) outside (Huber, Robust Estimation of a Location
    Parameter, 1964). With delta 1 it is smooth L1 with beta 1.
    """

    title: ClassVar[str] = "Huber"
    torch_name: ClassVar[str] = "HuberLoss"
    name: Literal["huber"] = "huber"
    delta: float = Field(1.0, gt=0, le=1e6, description="Where it turns from squared to straight.")

    def distance(self, output: torch.Tensor, target: torch.Tensor, reduction: Any) -> torch.Tensor:
        return F.huber_loss(output, target, reduction=reduction, delta=self.delta)


class MeanSquaredError(DistanceLoss):
    """The squared difference: what is twice as wrong counts four times.

    The usual loss for numbers. On classes it is held against rows with one 1 and is competitive
    with cross-entropy.
    """

    title: ClassVar[str] = "Mean squared error"
    torch_name: ClassVar[str] = "MSELoss"
    name: Literal["mse"] = "mse"

    def distance(self, output: torch.Tensor, target: torch.Tensor, reduction: Any) -> torch.Tensor:
        return F.mse_loss(output, target, reduction=reduction)


def must_not_broadcast(loss: str, output: torch.Tensor, target: torch.Tensor) -> None:
    """Refuses shapes that PyTorch would stretch over one another with no more than a warning."""
    if output.shape != target.shape:
        raise Refused(
            f"{loss} is given outputs {tuple(output.shape)} and targets {tuple(target.shape)}: "
            f"PyTorch would compare every output with every target instead of each with its own; "
            "give both the same shape, for example with targets.view_as(outputs)"
        )
