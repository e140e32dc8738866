"""Workload: a small training for every tool alike, and the bare loop each is compared with."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

EXAMPLES, SIDE, CLASSES = 1437, 8, 10
"""As many as the digits that the product's own loop trains on."""


@dataclass
class Training:
    """A fresh network, its optimizer, and its batches: ready, in an order of their own each epoch.

    Plain tensors, so that no tool pays for how data is loaded.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    epochs: int
    batch_size: int

    @classmethod
    def of(cls, network: str, batch_size: int, epochs: int) -> "Training":
        torch.manual_seed(0)
        built = NETWORKS[network]()
        optimizer = torch.optim.SGD(built.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        return cls(built, optimizer, epochs, batch_size)

    def __post_init__(self) -> None:
        self.inputs = torch.randn(EXAMPLES, 1, SIDE, SIDE)
        self.targets = torch.randint(CLASSES, (EXAMPLES,))

    def __len__(self) -> int:
        return -(-EXAMPLES // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for chosen in torch.randperm(EXAMPLES).split(self.batch_size):
            yield self.inputs[chosen], self.targets[chosen]


def tiny_mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE * SIDE, 32), nn.ReLU(), nn.Linear(32, CLASSES)
    )


def small_cnn() -> nn.Module:
    def block(before: int, after: int) -> tuple[nn.Module, ...]:
        convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
        return convolution, nn.BatchNorm2d(after), nn.ReLU()

    return nn.Sequential(
        *block(1, 16),
        nn.MaxPool2d(2),
        *block(16, 32),
        nn.MaxPool2d(2),
        *block(32, 32),
        nn.Flatten(),
        nn.Linear(32 * (SIDE // 4) ** 2, CLASSES),
    )


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {"mlp": tiny_mlp, "small_cnn": small_cnn}

Way = Callable[[Training], float]
"""Trains to the end and gives the seconds that took, without what comes before and after."""


def bare(training: Training, after_step: Callable[[torch.Tensor], object] | None = None) -> float:
    """The loop that one would write; after each step its loss may be told."""
    training.network.train()
    began = time.perf_counter()
    for _ in range(training.epochs):
        for inputs, targets in training:
            loss = F.cross_entropy(training.network(inputs), targets)
            loss.backward()
            training.optimizer.step()
            training.optimizer.zero_grad(set_to_none=True)
            if after_step:
                after_step(loss)
    return time.perf_counter() - began


def speeds(ways: Mapping[str, Way], turns: int, **how: Any) -> dict[str, float]:
    """What each way has of the bare loop's speed: the median over turns, after one to warm up."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns + 1):
        for name, way in ways.items():
            before = bare(Training.of(**how))
            taken = way(Training.of(**how))
            after = bare(Training.of(**how))
            found[name].append((before + after) / 2 / taken)
    return {name: statistics.median(ratios[1:]) for name, ratios in found.items()}
