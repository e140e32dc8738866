"""Model: a network a person can choose, as data that can build it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from trainer.part import Part


@dataclass(frozen=True)
class Published:
    """A network as its paper has it: what it is called there, and what it is built for."""

    name: str
    settings: Mapping[str, Any]
    """Of its fields; the others at their defaults."""
    input_shape: tuple[int, ...]
    """Of one example, without the batch."""
    outputs: int


class Model(Part):
    """The shape of a network. `build` gives a fresh one with random weights."""

    published: ClassVar[tuple[Published, ...]] = ()
    """Networks of papers that it can be."""

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """A network from inputs (N, *input_shape) to scores (N, outputs).

        Draws its weights from torch's process-wide generator. Raises Refused when the input
        does not fit.
        """
        raise NotImplementedError
