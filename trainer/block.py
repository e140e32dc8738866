"""Block: the values of many steps, waiting on the device to be read back all at once."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from trainer.store.packing import Points
from trainer.store.writer import SeriesKey


@dataclass
class Block:
    """One list of values per series, as they came."""

    steps: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    values: dict[str, list[torch.Tensor | float]] = field(default_factory=dict)

    def add(self, step: int, values: Mapping[str, torch.Tensor | float]) -> None:
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


def in_host_memory(values: list[torch.Tensor | float]) -> npt.NDArray[np.float64]:
    if isinstance(values[0], torch.Tensor):
        stacked = torch.stack([v for v in values if isinstance(v, torch.Tensor)])
        return stacked.cpu().double().numpy()
    return np.asarray(values, np.float64)
