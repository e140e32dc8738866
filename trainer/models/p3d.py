"""p3d: pseudo-3D residual networks for clips, of Qiu, Yao and Mei (2017)."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import nn

from trainer.models.base import Model, Published
from trainer.part import Refused, whole_number

EXPANSION = 4
"""Channels that a block gives for each one that it works with."""
BLOCKS: Mapping[int, tuple[int, int, int, int]] = {
    17: (1, 1, 1, 1),
    63: (3, 4, 6, 3),
    131: (3, 4, 23, 3),
    199: (3, 8, 36, 3),
}
"""Blocks of each stage by the depth that they add up to."""
LEAST_FRAMES, LEAST_SIDE = 2, 16
KINETICS = (3, 16, 160, 160)


class P3D(Model):
    """A residual network for clips, whose 3x3x3 convolutions are split into space and time.

    Each block convolves 1x3x3 over a frame and 3x1x1 over time: one after the other (A), side by
    side (B), or the second beside a shortcut (C), in turn. The last stage sees single frames. Clips
    are halved in time up to four times; what is left of longer ones is averaged: one score per
    class and clip, whatever its length. So are pixels, whatever their number; both are the paper's
    for 16 frames of 160x160.

    Source: Qiu, Yao and Mei, Learning Spatio-Temporal Representation with Pseudo-3D Residual
    Networks, ICCV 2017: P3D63, P3D131 and P3D199 with width 64, their blocks counted as in
    qijiezhao/pseudo-3d-pytorch. Depth 17 is the smallest with a block of each kind, and not in the
    paper.
    """

    title: ClassVar[str] = "P3D"
    published: ClassVar[tuple[Published, ...]] = tuple(
        Published(f"P3D{depth}", {"depth": depth, "width": 64}, KINETICS, 400)
        for depth in (63, 131, 199)
    )
    name: Literal["p3d"] = "p3d"
    depth: Annotated[Literal[17, 63, 131, 199], BeforeValidator(whole_number)] = Field(
        17, description="Layers with weights from the clip to its scores; 17 suits small clips."
    )
    width: int = Field(
        16,
        ge=1,
        le=256,
        description="Channels of the first layer, 64 in the paper; a stage gives 4, 8, 16 and 32 "
        "times as many.",
    )
    dropout: float = Field(
        0.5, ge=0, lt=1, description="Share of features set to zero before the head in training."
    )

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        if why := unfit(input_shape):
            raise Refused(why)
        blocks = BLOCKS[self.depth]
        return P3DNetwork(input_shape[0], self.width, blocks, outputs, self.dropout)


def unfit(input_shape: tuple[int, ...]) -> str:
    """Why inputs of this shape (without the batch) are no clips for a P3D; "" where they are."""
    if len(input_shape) != 4:
        others = "small_cnn, resnet20 or unet" if len(input_shape) == 3 else "mlp"
        return f"p3d needs clips (C, T, H, W), not {input_shape}; choose {others}"
    _, frames, *sides = input_shape
    if frames < LEAST_FRAMES or min(sides) < LEAST_SIDE:
        return (
            f"p3d needs clips (C, T, H, W) of at least {LEAST_FRAMES} frames of "
            f"{LEAST_SIDE}x{LEAST_SIDE} pixels, not {input_shape}; take more frames or larger "
            "ones, or choose mlp"
        )
    return ""


class P3DNetwork(nn.Module):
    """Clips (N, C, T, H, W) to scores (N, outputs)."""

    feature: torch.Tensor | None
    """What the head was given in the last forward pass in eval mode, (N, 32 * width), without a
    graph: `fc(feature)` is what that pass gave, to the bit. None after one in training mode: no
    batch outlives its step."""

    def __init__(
        self, channels: int, width: int, blocks: Sequence[int], outputs: int, dropout: float
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            channels, width, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False
        )
        self.norm = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool3d((2, 3, 3), stride=2, padding=(0, 1, 1))
        self.halve = nn.MaxPool3d((2, 1, 1))
        kinds = itertools.cycle("ABC")
        self.stage1 = clip_stage(width, width, itertools.islice(kinds, blocks[0]), 1)
        self.stage2 = clip_stage(4 * width, 2 * width, itertools.islice(kinds, blocks[1]), 2)
        self.stage3 = clip_stage(8 * width, 4 * width, itertools.islice(kinds, blocks[2]), 2)
        self.stage4 = frame_stage(16 * width, 8 * width, blocks[3])
        self.mean = MeanOfPixels()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(8 * width * EXPANSION, outputs)
        self.feature = None
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        features = self.pool(self.relu(self.norm(self.conv(clips))))
        for stage in (self.stage1, self.stage2, self.stage3):
            features = self.halved(stage(features))
        # without the transposition channels and frames of a longer clip would be mixed
        frames = features.transpose(1, 2).flatten(0, 1)
        of_frames = self.mean(self.stage4(frames))
        of_clips = of_frames.unflatten(0, (len(clips), -1)).mean(dim=1)
        self.feature = None if self.training else of_clips.detach()
        scores: torch.Tensor = self.fc(self.dropout(of_clips))
        return scores

    def halved(self, features: torch.Tensor) -> torch.Tensor:
        """Half as many frames, as long as there is more than one."""
        halved: torch.Tensor = self.halve(features) if features.shape[2] > 1 else features
        return halved


class MeanOfPixels(nn.Module):
    """(N, C, H, W) -> (N, C). For 5x5 pixels, of a frame of 160x160, the original's AvgPool2d(5).

    A mean also serves other sizes, and its CUDA backward is deterministic.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.mean(dim=(2, 3))


def clip_stage(before: int, planes: int, kinds: Iterable[str], stride: int) -> nn.Sequential:
    """A block of each kind; the first with this stride over pixels, none over time."""
    wide = planes * EXPANSION
    return nn.Sequential(
        *(
            ClipBlock(wide if number else before, planes, kind, 1 if number else stride)
            for number, kind in enumerate(kinds)
        )
    )


def frame_stage(before: int, planes: int, blocks: int) -> nn.Sequential:
    """Blocks on single frames; the first halves their sides."""
    wide = planes * EXPANSION
    return nn.Sequential(
        FrameBlock(before, planes, 2), *(FrameBlock(wide, planes, 1) for _ in range(blocks - 1))
    )


class Bottleneck(nn.Module):
    """Narrower, convolved, wider again, and added: (N, before, …) -> (N, 4 * planes, …).

    The same ReLU is called every time, in place: who captures an output must clone it.
    """

    def __init__(
        self,
        before: int,
        planes: int,
        conv: type[nn.Conv2d] | type[nn.Conv3d],
        norm: type[nn.BatchNorm2d] | type[nn.BatchNorm3d],
        stride: Any,
    ) -> None:
        super().__init__()
        wide = planes * EXPANSION
        self.narrow = conv(before, planes, 1, stride=stride, bias=False)
        self.narrow_norm = norm(planes)
        self.widen = conv(planes, wide, 1, bias=False)
        self.widen_norm = norm(wide)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Sequential | None = None
        if before != wide:
            projection = conv(before, wide, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, norm(wide))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        narrow = self.relu(self.narrow_norm(self.narrow(inputs)))
        wide = self.widen_norm(self.widen(self.convolved(narrow)))
        wide += inputs if self.shortcut is None else self.shortcut(inputs)
        summed: torch.Tensor = self.relu(wide)
        return summed

    def convolved(self, narrow: torch.Tensor) -> torch.Tensor:
        """(N, planes, …) -> the same shape."""
        raise NotImplementedError


class ClipBlock(Bottleneck):
    """A bottleneck on clips (N, C, T, H, W), of one of the paper's three kinds."""

    def __init__(self, before: int, planes: int, kind: str, stride: int) -> None:
        super().__init__(before, planes, nn.Conv3d, nn.BatchNorm3d, (1, stride, stride))
        self.kind = kind
        self.space = nn.Conv3d(planes, planes, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.space_norm = nn.BatchNorm3d(planes)
        self.time = nn.Conv3d(planes, planes, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.time_norm = nn.BatchNorm3d(planes)

    def convolved(self, narrow: torch.Tensor) -> torch.Tensor:
        in_space = self.relu(self.space_norm(self.space(narrow)))
        in_time: torch.Tensor = self.relu(
            self.time_norm(self.time(narrow if self.kind == "B" else in_space))
        )
        return in_time if self.kind == "A" else in_space + in_time


class FrameBlock(Bottleneck):
    """The bottleneck of a ResNet, on frames (N, C, H, W)."""

    def __init__(self, before: int, planes: int, stride: int) -> None:
        super().__init__(before, planes, nn.Conv2d, nn.BatchNorm2d, stride)
        self.space = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.space_norm = nn.BatchNorm2d(planes)

    def convolved(self, narrow: torch.Tensor) -> torch.Tensor:
        convolved: torch.Tensor = self.relu(self.space_norm(self.space(narrow)))
        return convolved
