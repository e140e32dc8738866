"""Inquiry: a question that is answered by computing on a device, without training a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from pydantic import Field

from trainer.config import RunConfig
from trainer.data_folders import DataFolders
from trainer.part import Part


class Tell(Protocol):
    """How far an answer is. Raises Cancelled when nobody wants it any more."""

    def __call__(self, share: float, doing: str, so_far: Mapping[str, Any] | None = None) -> None:
        """`share` is from 0 to 1; `so_far` is what is known of the answer already."""


class Cancelled(Exception):
    """Nobody wants the answer any more."""


@dataclass(frozen=True)
class Bench:
    """Where an inquiry is answered: a device, the data of its machine, and who is told."""

    device: torch.device
    data: DataFolders
    tell: Tell


class Inquiry(Part):
    """A question. Its fields are what is asked, its docstring what the answer means."""

    needs_device_alone: ClassVar[bool] = False
    """Whether it measures time: then it waits until nothing is trained on its device."""

    @property
    def device(self) -> str:
        """Where it is to be answered."""
        return "auto"

    def answer(self, bench: Bench) -> Mapping[str, Any]:
        """The answer as JSON. Raises Refused when it cannot be had, naming the way out."""
        raise NotImplementedError


class AboutConfig(Inquiry):
    """A question about one training."""

    config: RunConfig = Field(RunConfig(), description="The training that is asked about.")

    @property
    def device(self) -> str:
        return self.config.device
