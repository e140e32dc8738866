"""small_cnn: three convolution blocks and a linear head, for pictures from 8x8 to 64x64."""

from collections import OrderedDict
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from trainer.models.base import Model
from trainer.part import Refused


class SmallCnn(Model):
    """Three blocks of convolution, batch norm and ReLU, two poolings, and a linear head."""

    title: ClassVar[str] = "Small CNN"
    name: Literal["small_cnn"] = "small_cnn"
    width: int = Field(
        16, ge=1, le=512, description="Channels of the first block; the others have twice as many."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of features set to zero before the head in training."
    )

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        if len(input_shape) != 3 or min(input_shape[1:]) < 4:
            raise Refused(
                f"small_cnn needs pictures (C, H, W) of at least 4x4 pixels, not {input_shape}; "
                "choose mlp"
            )
        channels, wide = input_shape[0], 2 * self.width
        return nn.Sequential(
            OrderedDict(
                block1=ConvBlock(channels, self.width),
                pool1=nn.MaxPool2d(2),
                block2=ConvBlock(self.width, wide),
                pool2=nn.MaxPool2d(2),
                block3=ConvBlock(wide, wide),
                flatten=nn.Flatten(),
                dropout=nn.Dropout(self.dropout),
                head=nn.Linear(wide * (input_shape[1] // 4) * (input_shape[2] // 4), outputs),
            )
        )


class ConvBlock(nn.Module):
    """3x3 convolution, batch norm, ReLU: (N, before, H, W) -> (N, after, H, W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        # no bias: the batch norm that follows would take it away again
        self.conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.relu = nn.ReLU()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        activated: torch.Tensor = self.relu(self.norm(self.conv(inputs)))
        return activated
