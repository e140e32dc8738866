"""Channels last: weights laid out with their channels last, in networks for pictures and clips."""

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format, convert_conv3d_weight_memory_format


def to_channels_last(model: nn.Module) -> nn.Module:
    """The same network with each convolution's weight in channels_last or channels_last_3d.

    `model.to(memory_format=…)` cannot do it where a network has convolutions of both kinds: it
    puts the one format on every weight of four axes or more, and refuses those of another rank.
    Give it inputs in the format of its first convolution; the others follow.
    """
    convert_conv3d_weight_memory_format(model, torch.channels_last_3d)
    convert_conv2d_weight_memory_format(model, torch.channels_last)
    return model
