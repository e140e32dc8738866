"""Batch: what one forward pass is given."""

from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """Inputs (N, …) and targets (N, …) of N examples, both on the same device."""

    inputs: torch.Tensor
    targets: torch.Tensor
    examples: torch.Tensor | None = None
    """Which training examples these are: (N,) int64. Stays on the host, where what happens to
    each of them is drawn: a copy per step would cost also those who never ask."""
    epoch: int = 0
    """The epoch of training that the batch belongs to, from 0."""
    is_prepared: bool = False
    """Whether the inputs are what the model takes already, and not as they are stored."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`; asynchronous where the memory is pinned."""
        return Batch(
            self.inputs.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
            self.examples,
            self.epoch,
            self.is_prepared,
        )
