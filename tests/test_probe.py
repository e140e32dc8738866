"""The probe's statistics of a layer output, against the plain formula of each."""

import math

import pytest
import torch

from trainer.probe import STATISTICS, statistics

SHAPES = [(), (7,), (4, 5), (4, 3, 6), (4, 3, 6, 5), (2, 3, 4, 6, 5)]


def found(output: torch.Tensor) -> dict[str, float]:
    return dict(zip(STATISTICS, statistics(output).tolist(), strict=True))


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
