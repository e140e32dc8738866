"""Task: a data set with a question, and the examples it gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from trainer.batch import Batch
from trainer.data_folders import DataFolders
from trainer.part import Part


@dataclass(frozen=True)
class TaskFacts:
    """What a model and a loss must know of a task before any data is read."""

    input_shape: tuple[int, ...]
    """Shape of one input as the model sees it, without the batch: (C, H, W) for images."""
    outputs: int
    """How many numbers the model gives per example: classes of a classification."""
    classes: tuple[str, ...]
    train_examples: int
    test_examples: int


@dataclass(frozen=True)
class Examples:
    """Inputs as stored (uint8, (N, C, H, W)) and integer targets (N,), in host memory."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """All examples of one batch at once: what a DataLoader's fetcher asks for."""
        chosen = torch.as_tensor(indices)
        return Batch(self.inputs[chosen], self.targets[chosen])

    def __getitem__(self, index: int) -> Batch:
        return Batch(self.inputs[index], self.targets[index])


@dataclass(frozen=True)
class TaskData:
    """The examples to train on and to test on, and how stored inputs become model inputs."""

    train: Examples
    test: Examples
    mean: float
    spread: float

    def normalise(self, batch: Batch) -> Batch:
        """Stored uint8 inputs to float32 with mean 0 and spread 1; runs on the batch's device."""
        inputs = (batch.inputs.float() - self.mean) / self.spread
        return Batch(inputs, batch.targets, batch.examples, batch.epoch)


class Task(Part):
    """What to learn. Subclasses say how to get the examples."""

    source: ClassVar[str]
    """Where the data comes from and under which terms."""
    same_mirrored: ClassVar[bool] = True
    """Whether an example mirrored left to right means the same: letters and digits do not."""

    def facts(self) -> TaskFacts:
        """Shapes and sizes; reads no data."""
        raise NotImplementedError

    def load(self, folders: DataFolders) -> TaskData:
        """Read the examples. Raises Refused when they cannot be had, naming the ways out."""
        raise NotImplementedError
