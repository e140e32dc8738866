"""Losses between probability distributions."""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from trainer.losses.base import Criterion, Loss
from trainer.losses.distance import must_not_broadcast
from trainer.targets import Kind, as_numbers


class KullbackLeibler(Loss):
    """How far the model's distribution is from the target's: Kullback-Leibler divergence.

    What distillation makes small (Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural
    Network, 2015). PyTorch's KLDivLoss takes log-probabilities, so a log-softmax comes before it
    here. Its mean divides by every element, examples times classes; batchmean by the examples
    alone, which is the divergence as it is defined.
    """

    title: ClassVar[str] = "Kullback-Leibler divergence"
    suits: ClassVar[frozenset[Kind]] = frozenset({Kind.DISTRIBUTION, Kind.CLASSES})
    torch_name: ClassVar[str] = "KLDivLoss"
    name: Literal["kl_div"] = "kl_div"
    # one reduction more than the others have
    reduction: Literal["batchmean", "mean", "sum", "none"] = Field(  # type: ignore[assignment]
        "batchmean",
        description="batchmean divides by the examples, mean by examples times classes, sum by "
        "nothing; none keeps a value per element, of which a step takes the plain mean.",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Both distributions are softened by it, so that small probabilities tell more; "
        "the loss is multiplied by its square, which keeps the gradient's size.",
    )

    def reduced(
        self, output: torch.Tensor, target: torch.Tensor, reduction: Any, criterion: Criterion
    ) -> torch.Tensor:
        wanted = as_numbers(output, target)
        must_not_broadcast(self.torch_name, output, wanted)
        if self.temperature != 1:
            # p^(1/T), normalised again: what a softmax at this temperature would have given
            wanted = F.softmax(wanted.log() / self.temperature, dim=1)
        found = F.log_softmax(output / self.temperature, dim=1)
        # the plain mean warns that it is no mathematical one, at every step
        by = "none" if reduction == "mean" else reduction
        divergence = F.kl_div(found, wanted, reduction=by) * self.temperature**2
        return divergence.mean() if reduction == "mean" else divergence

    def mean_divides_by(
        self, output: torch.Tensor, target: torch.Tensor, criterion: Criterion
    ) -> float | torch.Tensor:
        return float(len(output) if self.reduced_by == "batchmean" else output.numel())
