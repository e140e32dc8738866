"""The probe's statistics of a layer output, against the plain formula of each."""

import gc
import math

import pytest
import torch
from torch import nn

from trainer.batch import Batch
from trainer.config import Recording
from trainer.probe import MOST_CHANNELS, MOST_SIDE, Place, Probe, measured, quantised, read_back

SHAPES = [(), (7,), (4, 5), (4, 3, 6), (4, 3, 6, 5), (2, 3, 4, 6, 5)]


def found(output: torch.Tensor) -> dict[str, float]:
    return read_back({Place("layer", 0): measured(output)})[Place("layer", 0)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_every_statistic_is_what_its_name_says(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    output = (10 * torch.randn(shape)).relu().to(dtype)
    if output.ndim > 1:
        output[:, 1] = 0
    exact = output.double()
    told = found(output)
    assert told["mean"] == pytest.approx(float(exact.mean()), rel=1e-5, abs=1e-6)
    assert told["spread"] == pytest.approx(float(exact.std(correction=0)), rel=1e-5, abs=1e-6)
    assert (told["lowest"], told["highest"]) == (float(exact.min()), float(exact.max()))
    assert told["zeros"] == pytest.approx(float((exact == 0).double().mean()), abs=1e-6)
    channels = exact.transpose(0, 1).flatten(1) if exact.ndim > 1 else exact.reshape(1, -1)
    silent = [bool((channel == 0).all()) for channel in channels]
    assert told["dead"] == pytest.approx(sum(silent) / len(silent), abs=1e-6)


def test_a_large_mean_does_not_swallow_the_spread() -> None:
    output = 10_000 + torch.randn(8, 16, 20, 20, generator=torch.Generator().manual_seed(0))
    assert found(output)["spread"] == pytest.approx(float(output.double().std(correction=0)), 1e-3)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_shows_and_is_no_zero(odd: float) -> None:
    output = torch.zeros(2, 3, 4, 4)
    output[1, 2, 0, 0] = odd
    told = found(output)
    assert not math.isfinite(told["mean"])
    assert not math.isfinite(told["lowest"] if odd != math.inf else told["highest"])
    assert told["zeros"] == pytest.approx(95 / 96)
    assert told["dead"] == pytest.approx(2 / 3)


# -- what is kept of an output --------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kept"),
    [
        ((2, 3, 16, 16, 16), (2, 3, 16, 16, 16)),
        ((1, 2, 16, 80, 80), (1, 2, 16, 32, 32)),
        ((1, 2, 64, 32, 40), (1, 2, 16, 32, 32)),
        ((1, 2, 4, 20, 100), (1, 2, 4, 20, 64)),
        ((1, 300, 1, 200, 8), (1, 256, 1, 128, 8)),
        ((1, 2, 8, 1, 1), (1, 2, 8, 1, 1)),
        ((1, 2, 200, 130), (1, 2, 128, 128)),
    ],
)
def test_a_channel_of_a_clip_is_kept_no_larger_than_one_of_a_picture(
    shape: tuple[int, ...], kept: tuple[int, ...]
) -> None:
    output = quantised(Place("layer", 0), 0, torch.rand(shape))
    assert (output.full_shape, output.levels.shape) == (shape, kept)
    assert kept[1] <= MOST_CHANNELS
    assert math.prod(kept[2:]) <= MOST_SIDE**2


def test_a_clip_made_small_is_averaged_over_time_and_space() -> None:
    clip = torch.arange(32.0)[:, None, None].expand(1, 1, 32, 64, 64).contiguous()
    output = quantised(Place("layer", 0), 0, clip)
    assert output.levels.shape == (1, 1, 16, 32, 32)
    # frames 0 and 1 become 0.5, frames 30 and 31 become 30.5
    assert (output.low, output.high) == (0.5, 30.5)


WIDE = 50_000


class Counting(nn.Module):
    """Notes how many tensors of a width there are while a network computes its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        alive = [
            thing
            for thing in gc.get_objects()
            if issubclass(type(thing), torch.Tensor) and thing.numel() == WIDE
        ]
        self.most = max(self.most, len(alive))
        return inputs


def look_at(network: nn.Module, layers: list[str], megabytes: int = 64) -> tuple[int, set[str]]:
    """The bytes of what a probe keeps of these layers, and the layers it has statistics of."""
    batch = Batch(torch.rand(5, WIDE // 5), torch.zeros(5))
    look = Probe(Recording(layer_megabytes=megabytes), layers, batch).look(network, 0)
    kept = sum(output.levels.nbytes for output in look.outputs if output.view != "input")
    return kept, {place.layer for place in look.statistics}


def test_a_look_holds_no_outputs_of_earlier_layers() -> None:
    counting = Counting()
    layers = [nn.Dropout(), nn.Tanh(), nn.Sigmoid(), nn.Tanh(), nn.Sigmoid(), nn.Tanh(), nn.Tanh()]
    names = [str(number) for number in range(len(layers))]
    kept, seen = look_at(nn.Sequential(*layers, counting), names)
    assert seen == set(names)
    assert kept > 0
    # the batch, and what the last layers are given and give
    assert counting.most <= 4


def test_a_look_stops_keeping_outputs_when_they_are_more_than_a_run_may_keep() -> None:
    class Loud(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            # noise, which cannot be compressed, 0.4 MB a layer
            return torch.rand(8, 50, 1000)

    network = nn.Sequential(*(Loud() for _ in range(12)))
    names = [str(number) for number in range(12)]
    kept, seen = look_at(network, names, megabytes=1)
    assert 10**6 < kept < 1.5 * 10**6, "over it, so that the run keeps none of them, but no more"
    assert seen == set(names)
    everything, _ = look_at(network, names, megabytes=64)
    assert everything > 4 * 10**6
