"""Flops: what one call of a module computes, told from shapes alone.

A multiplication and the addition that follows count as 2, as everywhere in the field and in
torch.utils.flop_counter; adding a bias counts nothing, as there. Norms, pooling and activations are
told roughly: they are a few per cent of a network.
"""

import math
from collections.abc import Mapping

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

Shape = tuple[int, ...]

PER_ELEMENT: Mapping[type[nn.Module], int] = {
    # in evaluation a factor and a summand for each channel; the running statistics are there
    _BatchNorm: 2,
    # mean, difference, square, their mean, quotient, factor and summand
    _InstanceNorm: 7,
    nn.LayerNorm: 7,
    nn.GroupNorm: 7,
    nn.RMSNorm: 4,
    nn.ReLU: 1,
    nn.ReLU6: 1,
    nn.LeakyReLU: 1,
    nn.PReLU: 1,
    nn.Hardtanh: 1,
    nn.Threshold: 1,
    # with an exponential function, a sum and a quotient
    nn.Sigmoid: 4,
    nn.Tanh: 4,
    nn.GELU: 4,
    nn.SiLU: 4,
    nn.ELU: 4,
    nn.SELU: 4,
    nn.Mish: 4,
    nn.Softplus: 4,
    nn.Softmax: 4,
    nn.LogSoftmax: 4,
    nn.Hardswish: 4,
    # nothing is computed, or nothing in evaluation
    nn.Identity: 0,
    nn.Flatten: 0,
    nn.Unflatten: 0,
    nn.Embedding: 0,
    _DropoutNd: 0,
}
"""Operations for each element of the output."""
POOLS: Mapping[int, tuple[type[nn.Module], ...]] = {
    1: (nn.MaxPool1d, nn.AvgPool1d),
    2: (nn.MaxPool2d, nn.AvgPool2d),
    3: (nn.MaxPool3d, nn.AvgPool3d),
}
"""Poolings by the axes that they go over."""
ADAPTIVE = (
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)


def flops_of(module: nn.Module, taken: Shape | None, given: Shape | None) -> int | None:
    """Operations of one call with these shapes, which include the batch.

    What modules inside do is theirs; None for a kind that nobody counted. What a network calls as
    a function, such as an addition or a mean, is not seen.
    """
    if taken is not None and given is not None:
        if isinstance(module, _ConvTransposeNd):
            return 2 * module.weight.numel() * (math.prod(taken) // module.in_channels)
        if isinstance(module, _ConvNd):
            return 2 * module.weight.numel() * (math.prod(given) // module.out_channels)
        if isinstance(module, nn.Linear):
            return 2 * module.in_features * math.prod(given)
        if isinstance(module, ADAPTIVE):
            return math.prod(taken)
        for axes, kinds in POOLS.items():
            if isinstance(module, kinds):
                return math.prod(given) * window(module.kernel_size, axes)
        for kind, operations in PER_ELEMENT.items():
            if isinstance(module, kind):
                return operations * math.prod(given)
    return 0 if is_container(module) else None


def window(kernel: object, axes: int) -> int:
    """Elements that a pooling looks at for each one that it gives."""
    if isinstance(kernel, int):
        kernel = (kernel,) * axes
    assert isinstance(kernel, tuple)
    return math.prod(map(int, kernel))


def is_container(module: nn.Module) -> bool:
    """Whether a module only calls others: it has some inside, and no weights of its own."""
    return any(True for _ in module.children()) and not any(True for _ in module.parameters(False))
