"""Batch: what one forward pass is given."""

from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """Inputs (N, …) and targets (N, …) of N examples, both on the same device."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`; asynchronous where the memory is pinned."""
        return Batch(
            self.inputs.to(device, non_blocking=True), self.targets.to(device, non_blocking=True)
        )
