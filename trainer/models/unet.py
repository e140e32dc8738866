"""unet: a small U-Net, for a class of every pixel."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from trainer.models.base import Model
from trainer.models.cnn import ConvBlock
from trainer.part import Refused


class UNet(Model):
    """Down to a coarse picture and up again, with what each level saw handed across.

    Source: Ronneberger, Fischer and Brox, U-Net: Convolutional Networks for Biomedical Image
    Segmentation, 2015; here with batch norm, padded convolutions and pixels repeated.
    """

    title: ClassVar[str] = "U-Net"
    name: Literal["unet"] = "unet"
    width: int = Field(
        8, ge=1, le=256, description="Channels of the finest level; each coarser one has twice."
    )
    levels: int = Field(3, ge=2, le=6, description="Resolutions, each half of the one before.")

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        if len(input_shape) != 3:
            raise Refused(f"unet needs pictures (C, H, W), not {input_shape}; choose mlp")
        factor = 2 ** (self.levels - 1)
        if any(side % factor for side in input_shape[1:]):
            raise Refused(
                f"unet with {self.levels} levels needs pictures (C, H, W) whose sides divide by "
                f"{factor}, not {input_shape}; lower levels or choose another model"
            )
        widths = [self.width * 2**level for level in range(self.levels)]
        return UNetwork(input_shape[0], widths, outputs)


class UNetwork(nn.Module):
    """Pictures (N, C, H, W) to scores (N, outputs, H, W)."""

    def __init__(self, channels: int, widths: list[int], outputs: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            DoubleConv(before, after)
            for before, after in zip([channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            DoubleConv(coarse + fine, fine)
            for coarse, fine in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True)
        )
        self.head = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features, seen = inputs, []
        for number, block in enumerate(self.down):
            features = block(F.max_pool2d(features, 2) if number else features)
            seen.append(features)
        for block, across in zip(self.up, reversed(seen[:-1]), strict=True):
            features = block(torch.cat((doubled(features), across), dim=1))
        scores: torch.Tensor = self.head(features)
        return scores


class DoubleConv(nn.Module):
    """Two blocks of convolution: (N, before, H, W) -> (N, after, H, W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = ConvBlock(before, after)
        self.second = ConvBlock(after, after)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.second(self.first(inputs))
        return features


def doubled(features: torch.Tensor) -> torch.Tensor:
    """Every pixel four times, (N, C, H, W) -> (N, C, 2H, 2W).

    Not by interpolate: its CUDA backward has no deterministic form, that of expand has.
    """
    number, channels, height, width = features.shape
    spread = features[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
    return spread.reshape(number, channels, 2 * height, 2 * width)
