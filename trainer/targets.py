"""Targets: what is asked of each example, and how what a model gives is held against it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F


class Kind(StrEnum):
    """What is asked of each example: shapes and types of targets follow from it."""

    CLASSES = "classes"
    """One of C classes. Scores (N, C), targets (N,) int64."""
    PIXELS = "pixels"
    """One of C classes for each pixel. Scores (N, C, H, W), targets (N, H, W) int64."""
    BINARY = "binary"
    """Yes or no. Scores (N, 1), targets (N, 1) float, 0 or 1."""
    NUMBERS = "numbers"
    """K numbers. Outputs (N, K), targets (N, K) float."""
    DISTRIBUTION = "distribution"
    """The probabilities of C classes. Scores (N, C), targets (N, C) float, summing to 1."""

    @property
    def meaning(self) -> str:
        return MEANINGS[self]

    @property
    def has_classes(self) -> bool:
        """Whether an answer is right or wrong."""
        return self is not Kind.NUMBERS

    @property
    def main_metric(self) -> str:
        """The one by which a model is called better or worse; higher is better for all."""
        return MAIN_METRICS.get(self, "val_accuracy")

    @property
    def targets_are_floats(self) -> bool:
        return self in (Kind.BINARY, Kind.NUMBERS, Kind.DISTRIBUTION)

    def output_shape(self, outputs: int, input_shape: Sequence[int]) -> tuple[int, ...]:
        """What a model is to give for one example."""
        return (outputs, *input_shape[-2:]) if self is Kind.PIXELS else (outputs,)

    def target_shape(self, outputs: int, input_shape: Sequence[int]) -> tuple[int, ...]:
        """The target of one example."""
        if self is Kind.PIXELS:
            return tuple(input_shape[-2:])
        return () if self is Kind.CLASSES else (outputs,)

    def predicted(self, scores: torch.Tensor) -> torch.Tensor:
        """The classes that scores (N, C, …) say, (N, …); of yes and no, (N, 1) booleans."""
        return scores > 0 if self is Kind.BINARY else scores.argmax(dim=1)

    def labels(self, targets: torch.Tensor) -> torch.Tensor:
        """The right classes, in the shape and type of what is predicted."""
        if self is Kind.BINARY:
            return targets > 0.5
        return targets.argmax(dim=1) if self is Kind.DISTRIBUTION else targets


MEANINGS = {
    Kind.CLASSES: "one of several classes",
    Kind.PIXELS: "a class for every pixel",
    Kind.BINARY: "yes or no",
    Kind.NUMBERS: "numbers",
    Kind.DISTRIBUTION: "the probability of each class, as a teacher gives it",
}
MAIN_METRICS = {Kind.PIXELS: "val_iou", Kind.NUMBERS: "val_r2"}


@dataclass(frozen=True)
class Targets:
    """What losses and metrics must know of the targets that outputs are held against."""

    kind: Kind
    classes: tuple[str, ...] = ()
    """Their names; empty where there are none to count."""
    ignored: int | None = None
    """The class number by which a task marks what nobody knows."""
    spread: float = 1.0
    """Of targets that are numbers: what one unit stands for in the units of the data."""


def class_counts(
    kind: Kind, targets: torch.Tensor, classes: int, ignored: int | None
) -> torch.Tensor:
    """How often each class is the right one among targets (N, …): (C,) float64.

    Of yes and no there are two; of a distribution it is the sum of each class's probabilities.
    """
    if kind is Kind.DISTRIBUTION:
        return targets.double().sum(0)
    labels = kind.labels(targets).flatten().long()
    if ignored is not None:
        labels = labels[labels != ignored]
    return torch.bincount(labels, minlength=2 if kind is Kind.BINARY else classes).double()


def as_numbers(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Class numbers (N,) as rows (N, C) of zeros and one 1; what is floats already as it is."""
    if target.is_floating_point():
        return target
    return F.one_hot(target, output.shape[1]).to(output.dtype)
