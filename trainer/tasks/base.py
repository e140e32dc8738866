"""Task: a data set with a question, and the examples it gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from trainer.batch import Batch
from trainer.data_folders import DataFolders
from trainer.part import Part
from trainer.targets import Kind, Targets


@dataclass(frozen=True)
class TaskFacts:
    """What a model and a loss must know of a task before any data is read."""

    input_shape: tuple[int, ...]
    """Shape of one input as the model sees it, without the batch: (C, H, W) for images."""
    outputs: int
    """How many scores the model gives, per example or per pixel: classes, or 1 for yes and no."""
    classes: tuple[str, ...]
    """Their names; of yes and no first no, then yes. Empty where numbers are asked for."""
    train_examples: int
    test_examples: int
    kind: Kind = Kind.CLASSES
    ignored: int | None = None
    """The class number by which targets mark what nobody knows."""

    @property
    def targets(self) -> Targets:
        """The same for losses and metrics."""
        return Targets(self.kind, self.classes, self.ignored)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """What a model is to give for one example."""
        return self.kind.output_shape(self.outputs, self.input_shape)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """The target of one example."""
        return self.kind.target_shape(self.outputs, self.input_shape)


@dataclass(frozen=True)
class Examples:
    """Inputs as stored (N, …), images as uint8, and targets (N, …), in host memory."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """All examples of one batch at once: what a DataLoader's fetcher asks for."""
        chosen = torch.as_tensor(indices)
        return Batch(self.inputs[chosen], self.targets[chosen], chosen)

    def __getitem__(self, index: int) -> Batch:
        return Batch(self.inputs[index], self.targets[index])


@dataclass(frozen=True)
class TaskData:
    """The examples to train on and to test on, and how stored inputs become model inputs."""

    train: Examples
    test: Examples
    mean: float | torch.Tensor
    """Of the stored training inputs: one for all pixels, or one for each column of a table."""
    spread: float | torch.Tensor
    target_mean: float = 0.0
    target_spread: float = 1.0
    """Of targets that are numbers: models learn them with mean 0 and spread 1."""

    def normalise(self, batch: Batch) -> Batch:
        """Stored inputs to float32 with mean 0 and spread 1; runs on the batch's device."""
        device = batch.inputs.device
        inputs = (batch.inputs.float() - on(device, self.mean)) / on(device, self.spread)
        targets = batch.targets
        if (self.target_mean, self.target_spread) != (0.0, 1.0):
            targets = (targets - self.target_mean) / self.target_spread
        return Batch(inputs, targets, batch.examples, batch.epoch)


def on(device: torch.device, number: float | torch.Tensor) -> float | torch.Tensor:
    return number.to(device, non_blocking=True) if isinstance(number, torch.Tensor) else number


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
