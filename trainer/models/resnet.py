"""resnet20: the CIFAR-style residual network of He et al. (2016), section 4.2."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from trainer.models.base import Model, Published
from trainer.part import Refused

BLOCKS_PER_STAGE = 3


class ResNet20(Model):
    """Nineteen 3x3 convolutions in three residual stages, average pooling, a linear head.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2016, with
    their parameter-free shortcuts (option A).
    """

    title: ClassVar[str] = "ResNet-20"
    published: ClassVar[tuple[Published, ...]] = (
        Published("ResNet-20", {"width": 16}, (3, 32, 32), 10),
    )
    name: Literal["resnet20"] = "resnet20"
    width: int = Field(
        16, ge=2, le=256, multiple_of=2, description="Channels of the first stage; doubled twice."
    )

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        if len(input_shape) != 3 or min(input_shape[1:]) < 4:
            raise Refused(
                f"resnet20 needs pictures (C, H, W) of at least 4x4 pixels, not {input_shape}; "
                "choose mlp"
            )
        return ResNet(input_shape[0], self.width, outputs)


class ResNet(nn.Module):
    """Three stages at full, half and quarter resolution."""

    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.stage1 = stage(width, width, stride=1)
        self.stage2 = stage(width, 2 * width, stride=2)
        self.stage3 = stage(2 * width, 4 * width, stride=2)
        self.head = nn.Linear(4 * width, outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = self.relu(self.norm(self.conv(inputs)))
        features = self.stage3(self.stage2(self.stage1(features)))
        # a mean, not AdaptiveAvgPool2d: its CUDA backward has no deterministic form
        scores: torch.Tensor = self.head(features.mean(dim=(2, 3)))
        return scores


def stage(before: int, after: int, stride: int) -> nn.Sequential:
    first = ResidualBlock(before, after, stride)
    return nn.Sequential(
        first, *(ResidualBlock(after, after, 1) for _ in range(BLOCKS_PER_STAGE - 1))
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: (N, before, H, W) -> (N, after, H/s, W/s)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.padding = (after - before) // 2
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.relu2 = nn.ReLU()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = self.relu1(self.norm1(self.conv1(inputs)))
        summed: torch.Tensor = self.relu2(self.norm2(self.conv2(features)) + self.shortcut(inputs))
        return summed

    def shortcut(self, inputs: torch.Tensor) -> torch.Tensor:
        """Every stride-th pixel, with zero channels added on both sides where the width grows."""
        strided = inputs[:, :, :: self.stride, :: self.stride]
        return F.pad(strided, (0, 0, 0, 0, self.padding, self.padding)) if self.padding else strided
