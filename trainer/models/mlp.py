"""mlp: fully connected layers on the flattened input."""

import itertools
import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from trainer.models.base import Model

Width = Annotated[int, Field(ge=1, le=65_536)]


class Mlp(Model):
    """Fully connected layers with ReLU between them; the plainest network there is."""

    title: ClassVar[str] = "MLP"
    name: Literal["mlp"] = "mlp"
    hidden: tuple[Width, ...] = Field(
        (128, 64), max_length=32, description="Width of each hidden layer, first to last."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of hidden activations set to zero while training."
    )

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        widths = (math.prod(input_shape), *self.hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
        return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
