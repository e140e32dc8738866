"""Losses for yes and no: of an example, or of each class by itself."""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from trainer.losses.base import Criterion, Loss
from trainer.losses.distance import must_not_broadcast
from trainer.losses.weighting import Weight
from trainer.targets import Kind, Targets, as_numbers


class BinaryLoss(Loss):
    """A loss over scores and targets of one shape, each target between 0 (no) and 1 (yes)."""

    suits: ClassVar[frozenset[Kind]] = frozenset({Kind.BINARY, Kind.CLASSES})
    weight_of_no: Weight = Field(1.0, description="Weight of each element whose target is 0.")
    weight_of_yes: Weight = Field(
        1.0,
        description="Weight of each element whose target is 1. The mean still divides by the "
        "number of elements, not by their weights.",
    )

    def element_weights(self, target: torch.Tensor) -> torch.Tensor | None:
        """class_weight[target], for targets between 0 and 1 as well; None where all are 1."""
        if self.weight_of_no == self.weight_of_yes == 1:
            return None
        return self.weight_of_no + (self.weight_of_yes - self.weight_of_no) * target

    def reduced(
        self, output: torch.Tensor, target: torch.Tensor, reduction: Any, criterion: Criterion
    ) -> torch.Tensor:
        wanted = as_numbers(output, target)
        must_not_broadcast(self.torch_name, output, wanted)
        return self.entropy(output, wanted, reduction, criterion)

    def entropy(
        self, output: torch.Tensor, target: torch.Tensor, reduction: Any, criterion: Criterion
    ) -> torch.Tensor:
        """PyTorch's loss of scores and targets of one shape."""
        raise NotImplementedError


class BinaryCrossEntropy(BinaryLoss):
    """Negative log-probability of the right answer, with the sigmoid as a step of its own.

    PyTorch's BCELoss takes probabilities, so a sigmoid comes before it here. Far out the sigmoid
    rounds to 0 or 1 and the loss stops at 100 with no gradient; prefer the form with logits.
    """

    title: ClassVar[str] = "Binary cross-entropy"
    torch_name: ClassVar[str] = "BCELoss"
    name: Literal["bce"] = "bce"

    def entropy(
        self, output: torch.Tensor, target: torch.Tensor, reduction: Any, criterion: Criterion
    ) -> torch.Tensor:
        return F.binary_cross_entropy(
            output.sigmoid(), target, weight=self.element_weights(target), reduction=reduction
        )


class BinaryCrossEntropyWithLogits(BinaryLoss):
    """Negative log-probability of the right answer, straight from raw scores.

    Sigmoid and logarithm in one step (log-sum-exp), exact however large the score. The weight of
    positives balances recall against precision where yes is rare.
    """

    title: ClassVar[str] = "Binary cross-entropy with logits"
    torch_name: ClassVar[str] = "BCEWithLogitsLoss"
    name: Literal["bce_with_logits"] = "bce_with_logits"
    pos_weight: Weight = Field(
        1.0,
        description="What a yes counts against a no, as PyTorch's pos_weight; above 1 for recall.",
    )
    balance: bool = Field(
        False,
        description="Takes pos_weight from the training examples instead: those that are no "
        "divided by those that are yes.",
    )

    def weights_for(self, targets: Targets, counts: torch.Tensor | None) -> torch.Tensor | None:
        if self.balance:
            assert counts is not None, "pos_weight follows from the training examples"
            return noes_per_yes(targets.kind, counts)
        return None if self.pos_weight == 1 else torch.tensor([self.pos_weight])

    def entropy(
        self, output: torch.Tensor, target: torch.Tensor, reduction: Any, criterion: Criterion
    ) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(
            output,
            target,
            weight=self.element_weights(target),
            reduction=reduction,
            pos_weight=criterion.weights_like(output),
        )


def noes_per_yes(kind: Kind, counts: torch.Tensor) -> torch.Tensor:
    """How many targets are no for each that is yes: (1,) of one question, (C,) of each class.

    `counts` are those of no and yes, or those of the classes. 1 where nothing is yes.
    """
    yes = counts[1:] if kind is Kind.BINARY else counts
    return torch.where(yes > 0, (counts.sum() - yes) / yes, torch.ones_like(yes))
