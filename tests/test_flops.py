"""FLOPs of layers, held against torch's own counter on real networks with real weights."""

import math

import pytest
import torch
from test_catalogue import FITTING, name
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainer.anatomy import LayerFacts, anatomy, examined
from trainer.flops import flops_of
from trainer.models import Model, ResNet20, UNet
from trainer.tasks import Task

COUNTED = ("Conv", "Linear")
"""What torch's counter sees: products of matrices and convolutions."""


def told(network: nn.Module, *input_shape: int) -> tuple[LayerFacts, ...]:
    """The layers of a network that was built with real weights."""
    return anatomy(network.to("meta"), input_shape)


def counted(network: nn.Module, *input_shape: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.randn(1, *input_shape))
    return counter.get_total_flops()


def of_products(layers: tuple[LayerFacts, ...]) -> int:
    return sum(layer.flops or 0 for layer in layers if any(c in layer.kind for c in COUNTED))


CONVOLUTIONS = {
    "one axis": (nn.Conv1d(4, 6, 5, stride=2, padding=1), (4, 33)),
    "two axes": (nn.Conv2d(3, 8, (3, 5), stride=(1, 2)), (3, 16, 17)),
    "three axes": (nn.Conv3d(2, 4, (1, 3, 3), padding=1), (2, 5, 8, 9)),
    "dilated": (nn.Conv2d(3, 4, 3, dilation=2), (3, 12, 12)),
    "groups": (nn.Conv2d(8, 12, 3, groups=4, bias=False), (8, 9, 9)),
    "depthwise": (nn.Conv2d(8, 16, 3, groups=8), (8, 9, 9)),
    "transposed": (nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1), (6, 7, 8)),
    "transposed groups": (nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2), (6, 5, 5)),
    "transposed over time": (nn.ConvTranspose1d(3, 5, 4, stride=3), (3, 10)),
    "transposed clip": (nn.ConvTranspose3d(2, 3, 2, stride=2), (2, 3, 4, 5)),
    "linear": (nn.Linear(12, 5), (12,)),
    "linear on a sequence": (nn.Linear(12, 5, bias=False), (7, 12)),
}


@pytest.mark.parametrize(("module", "shape"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_product_counts_as_torch_counts_it(module: nn.Module, shape: tuple[int, ...]) -> None:
    network = nn.Sequential(module)
    expected = counted(network, *shape)
    assert expected > 0
    [layer] = told(network, *shape)
    assert layer.flops == expected


@pytest.mark.parametrize(
    ("model", "task"), FITTING, ids=[f"{name(m)}-{name(t)}" for m, t in FITTING]
)
def test_a_network_of_the_catalogue_counts_as_torch_counts_it(model: Model, task: Task) -> None:
    facts = task.facts()
    network = model.build(facts.input_shape, facts.outputs)
    layers = examined(model, facts.input_shape, facts.outputs).layers
    assert of_products(layers) == counted(network, *facts.input_shape) > 0


@pytest.mark.parametrize("model", [ResNet20(), UNet()], ids=name)
def test_norms_and_activations_are_a_few_per_cent(model: Model) -> None:
    layers = examined(model, (3, 32, 32), 10).layers
    total = sum(layer.flops or 0 for layer in layers)
    assert 0.9 < of_products(layers) / total < 1


class CalledAgain(nn.Module):
    """A ReLU and a halving called repeatedly; time folded into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.halve = nn.MaxPool3d((2, 1, 1))
        self.frame = nn.Conv2d(4, 2, 3)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        features = self.halve(self.relu(self.conv(clips)))
        features = self.halve(self.relu(features))
        frames: torch.Tensor = self.frame(features.transpose(1, 2).flatten(0, 1))
        return frames


def test_a_module_called_repeatedly_counts_in_each_call_with_its_own_shape() -> None:
    network = CalledAgain()
    expected = counted(network, 1, 8, 6, 6)
    layers = told(network, 1, 8, 6, 6)
    conv, relu, halve, frame = layers
    assert [layer.calls for layer in layers] == [1, 2, 2, 1]
    assert relu.outputs == ((1, 4, 8, 6, 6), (1, 4, 4, 6, 6))
    assert relu.flops == 4 * (8 + 4) * 36
    assert halve.outputs == ((1, 4, 4, 6, 6), (1, 4, 2, 6, 6))
    assert halve.output_shape == (4, 4, 6, 6)
    # two frames of one clip lie in the batch
    assert frame.outputs == ((2, 2, 4, 4),)
    assert of_products(layers) == (conv.flops or 0) + (frame.flops or 0) == expected


def test_what_is_never_called_computes_nothing() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            given: torch.Tensor = self.used(input=inputs)
            return given

    used, unused = told(Idle(), 3)
    assert (used.calls, used.flops, used.output_shape) == (1, 12, (2,))
    assert (unused.calls, unused.flops, unused.output_shape) == (0, 0, None)


@pytest.mark.parametrize(
    ("module", "taken", "given", "flops"),
    [
        (nn.BatchNorm2d(4), (1, 4, 3, 3), (1, 4, 3, 3), 2 * 36),
        (nn.GroupNorm(2, 4), (1, 4, 3, 3), (1, 4, 3, 3), 7 * 36),
        (nn.MaxPool2d(2), (1, 4, 4, 4), (1, 4, 2, 2), 64),
        (nn.AvgPool3d((1, 2, 4)), (1, 1, 2, 4, 4), (1, 1, 2, 2, 1), 32),
        (nn.AdaptiveAvgPool2d(1), (1, 4, 5, 5), (1, 4, 1, 1), 100),
        (nn.ReLU(), (1, 10), (1, 10), 10),
        (nn.Dropout(0.5), (1, 10), (1, 10), 0),
        (nn.Sequential(nn.ReLU()), (1, 10), (1, 10), 0),
        (nn.LSTM(3, 4), (1, 3), None, None),
        (nn.MultiheadAttention(4, 2), (1, 3, 4), None, None),
        (nn.Conv2d(1, 1, 1), None, None, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_each_kind_counts_by_its_rule_and_an_unknown_one_not_at_all(
    module: nn.Module, taken: tuple[int, ...], given: tuple[int, ...], flops: int | None
) -> None:
    assert flops_of(module, taken, given) == flops


def test_the_hooks_of_counting_are_gone_afterwards() -> None:
    network = nn.Sequential(nn.Linear(3, 2)).to("meta")
    anatomy(network, (3,))
    assert not any(module._forward_hooks for module in network.modules())
    assert math.prod(network(torch.zeros(1, 3, device="meta")).shape) == 2
