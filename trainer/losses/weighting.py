"""Weighting: losses in which some classes count more than others."""

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from trainer.losses.base import Loss
from trainer.targets import Targets

Weight = Annotated[float, Field(ge=0, le=1e6)]


class WeightedLoss(Loss):
    """A loss with a weight for every class."""

    weighting: Literal["equal", "balanced", "given"] = Field(
        "equal",
        description="How much each class counts: balanced is the opposite of how often it occurs "
        "in the training examples (all examples / classes / examples of the class).",
    )
    weights: tuple[Weight, ...] = Field(
        (),
        max_length=10_000,
        description="The weight of each class in their order, where given is chosen.",
    )

    @model_validator(mode="after")
    def weights_are_there_where_given(self) -> "WeightedLoss":
        if self.weighting == "given" and not self.weights:
            raise ValueError("weighting is given, but there are no weights; write one per class")
        if self.weighting != "given" and self.weights:
            raise ValueError(
                f"there are weights, but weighting is {self.weighting}; choose given, or take the "
                "weights away"
            )
        if self.weights and not any(self.weights):
            raise ValueError("all weights are 0, so nothing would be learned; raise one")
        return self

    def unfit(self, targets: Targets) -> tuple[str, str] | None:
        if reason := super().unfit(targets):
            return reason
        if self.weights and len(self.weights) != len(targets.classes):
            return "weights", (
                f"{len(self.weights)} weights for {len(targets.classes)} classes; write one per "
                f"class: {', '.join(targets.classes)}"
            )
        return None

    def weights_for(self, targets: Targets, counts: torch.Tensor | None) -> torch.Tensor | None:
        if self.weighting == "given":
            return torch.tensor(self.weights, dtype=torch.float64)
        if self.weighting == "balanced":
            assert counts is not None, "balanced weights follow from the training examples"
            return balanced(counts)
        return None


def balanced(counts: torch.Tensor) -> torch.Tensor:
    """Weights (C,) that give classes of these counts (C,) the same total; 0 where there is none.

    As scikit-learn's class_weight="balanced" (King and Zeng, Logistic Regression in Rare Events
    Data, 2001).
    """
    weights = counts.sum() / (len(counts) * counts)
    return torch.where(counts > 0, weights, torch.zeros_like(weights))
