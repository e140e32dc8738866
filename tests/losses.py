"""Every loss in every form worth telling apart, and outputs and targets to hold against it."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from trainer.batch import Batch
from trainer.losses import (
    LOSSES,
    BinaryCrossEntropy,
    BinaryCrossEntropyWithLogits,
    CrossEntropy,
    Huber,
    KullbackLeibler,
    Loss,
    NegativeLogLikelihood,
    SmoothL1,
)
from trainer.losses.base import Criterion
from trainer.setup import Setup
from trainer.targets import Kind, Targets

CLASSES = 5
UNKNOWN = 255
WEIGHTS = (0.1, 1.0, 0.0, 4.0, 2.5)

VARIANTS: dict[str, Loss] = {
    **{str(loss.model_fields["name"].default): loss() for loss in LOSSES},
    "cross_entropy, weights": CrossEntropy(weighting="given", weights=WEIGHTS),
    "cross_entropy, balanced": CrossEntropy(weighting="balanced"),
    "cross_entropy, ignored": CrossEntropy(ignore_index=3),
    "cross_entropy, weights, ignored": CrossEntropy(
        weighting="given", weights=WEIGHTS, ignore_index=3
    ),
    "cross_entropy, smoothed, weights": CrossEntropy(
        weighting="given", weights=WEIGHTS, label_smoothing=0.2
    ),
    "nll, weights, ignored": NegativeLogLikelihood(
        weighting="given", weights=WEIGHTS, ignore_index=0
    ),
    "bce, weights": BinaryCrossEntropy(weight_of_no=0.5, weight_of_yes=3.0),
    "bce_with_logits, weights, pos_weight": BinaryCrossEntropyWithLogits(
        weight_of_yes=2.0, pos_weight=7.0
    ),
    "bce_with_logits, balanced": BinaryCrossEntropyWithLogits(balance=True),
    "smooth_l1, beta": SmoothL1(beta=0.3),
    "huber, delta": Huber(delta=0.3),
    "kl_div, batchmean": KullbackLeibler(),
    "cross_entropy, weights, none": CrossEntropy(
        weighting="given", weights=WEIGHTS, reduction="none"
    ),
    "kl_div, temperature": KullbackLeibler(temperature=3.0),
}
PLAIN = {str(loss.model_fields["name"].default) for loss in LOSSES}
REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True)
class Case:
    """A loss, reduced in some way, on targets of some kind."""

    name: str
    loss: Loss
    targets: Targets

    def __str__(self) -> str:
        return f"{self.name}, {self.loss.reduced_by}, {self.targets.kind}"

    def criterion(self, examples: torch.Tensor) -> Criterion:
        return self.loss.criterion(self.targets, examples)


def targets_of(kind: Kind) -> Targets:
    """What the tasks of this kind say of their targets, with five classes where there are any."""
    names = {Kind.NUMBERS: (), Kind.BINARY: ("no", "yes")}
    classes = names.get(kind, tuple("abcde"))
    return Targets(kind, classes, UNKNOWN if kind is Kind.PIXELS else None)


def cases() -> Iterator[Case]:
    for name, loss in VARIANTS.items():
        for kind in Kind:
            targets = targets_of(kind)
            for reduction in REDUCTIONS if name in PLAIN else (loss.reduction,):
                chosen = loss.model_copy(update={"reduction": reduction})
                if chosen.unfit(targets) is None:
                    yield Case(name, chosen, targets)


CASES = sorted(cases(), key=str)


def drawn_targets(kind: Kind, number: int, chance: torch.Generator) -> torch.Tensor:
    """Targets (N, …) of this kind in double precision; of pixels one in five is unknown."""
    if kind is Kind.CLASSES:
        # sorted, so that batches differ in their classes as much as they can
        return torch.randint(CLASSES, (number,), generator=chance).sort().values
    if kind is Kind.PIXELS:
        labels = torch.randint(CLASSES, (number, 2, 2), generator=chance)
        unknown = torch.rand(labels.shape, generator=chance) < 0.2
        return labels.masked_fill(unknown, UNKNOWN)
    if kind is Kind.BINARY:
        return torch.randint(2, (number, 1), generator=chance).double()
    drawn = torch.randn(number, CLASSES, generator=chance, dtype=torch.float64)
    return drawn.softmax(1) if kind is Kind.DISTRIBUTION else drawn


class Network(nn.Module):
    """Inputs (N, 6) to outputs as the kind of target needs them; no batch norm."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        outputs = {Kind.BINARY: 1, Kind.PIXELS: CLASSES * 4}.get(kind, CLASSES)
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, outputs)).double()
        self.shape = (CLASSES, 2, 2) if kind is Kind.PIXELS else (outputs,)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layers(inputs).unflatten(1, self.shape)


def setup_for(case: Case, criterion: Criterion) -> Setup:
    """A setup in double precision, as far as a backward pass needs one."""
    torch.manual_seed(0)
    return Setup(
        model=Network(case.targets.kind),
        criterion=criterion,
        targets=case.targets,
        device=torch.device("cpu"),
        seed=0,
        epochs=1,
        batch_size=8,
        batches_per_epoch=4,
        train_examples=32,
        drops_last=False,
        input_shape=(6,),
        evaluation_batch=512,
        batches=lambda setup, epoch, first: iter(()),
        make_optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
        lr_multiplier=lambda step, steps: 1.0,
        prepare=lambda batch: batch,
    )


def window_of(kind: Kind, sizes: tuple[int, ...], seed: int = 7) -> tuple[Batch, ...]:
    """Batches of these sizes."""
    chance = torch.Generator().manual_seed(seed)
    inputs = torch.randn(sum(sizes), 6, generator=chance, dtype=torch.float64)
    targets = drawn_targets(kind, sum(sizes), chance)
    return tuple(map(Batch, inputs.split(list(sizes)), targets.split(list(sizes))))


def joined(window: tuple[Batch, ...]) -> Batch:
    return Batch(
        torch.cat([batch.inputs for batch in window]),
        torch.cat([batch.targets for batch in window]),
    )
