"""Block: the values of many steps, waiting on the device to be read back all at once."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from trainer.setup import Hits
from trainer.store.packing import Points
from trainer.store.writer import SeriesKey

Value = torch.Tensor | Hits | float
"""A scalar tensor, a number, or predictions of which the share that is right is recorded."""


@dataclass
class Block:
    """One list of values per series, as they came."""

    steps: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    values: dict[str, list[Value]] = field(default_factory=dict)

    def add(self, step: int, values: Mapping[str, Value]) -> None:
        self.steps.append(step)
        self.times.append(time.time())
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def read_back(self) -> dict[SeriesKey, Points]:
        """The block as points in host memory: one wait for the device per series."""
        steps, times = np.asarray(self.steps), np.asarray(self.times)
        return {
            SeriesKey(name): Points(steps, in_host_memory(values), times)
            for name, values in self.values.items()
        }


def in_host_memory(values: Sequence[Value]) -> npt.NDArray[np.float64]:
    """Values of one kind as numbers."""
    if isinstance(values[0], Hits):
        return shares([value for value in values if isinstance(value, Hits)])
    if isinstance(values[0], torch.Tensor):
        stacked = torch.stack([value for value in values if isinstance(value, torch.Tensor)])
        return stacked.cpu().double().numpy()
    return np.asarray(values, np.float64)


def shares(hits: Sequence[Hits]) -> npt.NDArray[np.float64]:
    """The share of each step's predictions that is right, rounded to single precision."""
    predicted = torch.cat([tensor for one in hits for tensor in one.predicted])
    targets = torch.cat([tensor for one in hits for tensor in one.targets])
    right = (predicted == targets).flatten(1) if predicted.dim() > 1 else predicted == targets
    counted = (right.sum(1) if right.dim() > 1 else right).cpu().numpy()
    lengths = [sum(map(len, one.predicted)) for one in hits]
    starts = np.cumsum([0, *lengths[:-1]])
    correct = np.add.reduceat(counted, starts, dtype=np.int64).astype(np.float32)
    examples = np.asarray([one.examples for one in hits], np.float32)
    return (correct / examples).astype(np.float64)
