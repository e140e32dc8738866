"""Draws of single examples: uniform, unrelated, and the same whoever asks."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from trainer.streams import sample_draws, stream_seed

EXAMPLES = torch.arange(2**16)


def plain_draw(seed: int, epoch: int, example: int, purpose: str, column: int) -> int:
    """One draw, worked out in whole numbers without end."""
    stride, last = 0x9E3779B97F4A7C15, 2**64 - 1

    def scrambled(counter: int) -> int:
        mixed = (counter ^ counter >> 30) * 0xBF58476D1CE4E5B9 & last
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & last
        return mixed ^ mixed >> 31

    key = stream_seed(seed, "sample", purpose, epoch)
    of_example = scrambled(example * stride + key & last)
    return scrambled(of_example + (column + 1) * stride & last) >> 1


def test_draws_are_those_worked_out_one_by_one_in_unbounded_integers() -> None:
    examples = [0, 1, 2, 1436, 2**31, 2**62]
    draws = sample_draws(2**53 - 1, 7, torch.tensor(examples), "shift", 3)
    assert draws.dtype == torch.int64
    assert draws.tolist() == [
        [plain_draw(2**53 - 1, 7, example, "shift", column) for column in range(3)]
        for example in examples
    ]


def chi_square(values: torch.Tensor, bins: int) -> float:
    """How far counts are from even ones; has the mean bins - 1 where the values are uniform."""
    counts = torch.bincount(values, minlength=bins).double()
    expected = len(values) / bins
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("epoch", [0, 1, 99])
@pytest.mark.parametrize("low_bit", [0, 17, 31, 55])
def test_every_part_of_a_draw_is_uniform(epoch: int, low_bit: int) -> None:
    for column in sample_draws(0, epoch, EXAMPLES, "shift", 3).T:
        # 255 degrees of freedom: between these in all but one case in a million, either side
        assert 159 < chi_square(column >> low_bit & 255, 256) < 379


@pytest.mark.parametrize("moves", [3, 5, 7, 9, 201])
def test_draws_modulo_the_number_of_moves_are_uniform(moves: int) -> None:
    values = sample_draws(0, 0, EXAMPLES, "shift", 1).flatten() % moves
    freedom = moves - 1
    assert chi_square(values, moves) < freedom + 5 * math.sqrt(2 * freedom) + 8


def draws_of(**changes: Any) -> torch.Tensor:
    chosen = {"seed": 3, "epoch": 4, "examples": EXAMPLES, "purpose": "shift", "count": 1}
    return sample_draws(**(chosen | changes)).flatten()


NEIGHBOURS: dict[str, Callable[[], torch.Tensor]] = {
    "example": lambda: draws_of(examples=EXAMPLES + 1),
    "example, far": lambda: draws_of(examples=EXAMPLES + 2**16),
    "epoch": lambda: draws_of(epoch=5),
    "seed": lambda: draws_of(seed=2),
    "purpose": lambda: draws_of(purpose="shifu"),
    "column": lambda: draws_of(count=2).view(-1, 2)[:, 1],
    "next example, column before": lambda: draws_of(examples=EXAMPLES - 1, count=2).view(-1, 2)[
        :, 1
    ],
}


@pytest.mark.parametrize("neighbours", [*NEIGHBOURS.values()], ids=[*NEIGHBOURS])
def test_draws_of_neighbours_have_nothing_in_common(
    neighbours: Callable[[], torch.Tensor],
) -> None:
    one, other = draws_of(), neighbours()
    correlation = np.corrcoef(one.double().numpy(), other.double().numpy())[0, 1]
    assert abs(correlation) < 5 / math.sqrt(len(one))
    # one bit in two differs, in each of the 63 places
    differing = torch.stack([(one ^ other) >> bit & 1 for bit in range(63)]).double().mean(dim=1)
    assert (differing - 0.5).abs().max() < 0.5 * 5 / math.sqrt(len(one))
    assert not (one == other).any()


def test_an_examples_draws_do_not_depend_on_the_others_or_their_order() -> None:
    together = sample_draws(1, 2, EXAMPLES, "shift", 4)
    order = torch.randperm(len(EXAMPLES), generator=torch.Generator().manual_seed(0))
    assert torch.equal(sample_draws(1, 2, order, "shift", 4), together[order])
    assert torch.equal(sample_draws(1, 2, order[:7], "shift", 4), together[order[:7]])
    assert torch.equal(sample_draws(1, 2, order[9:10], "shift", 4), together[order[9:10]])


def test_more_columns_leave_the_first_ones_as_they_are() -> None:
    wide = sample_draws(1, 2, EXAMPLES, "shift", 4)
    for count in (1, 2, 3):
        assert torch.equal(sample_draws(1, 2, EXAMPLES, "shift", count), wide[:, :count])


def test_drawing_moves_no_generator_of_the_process() -> None:
    before = torch.get_rng_state(), np.random.get_state(legacy=True)[1].tolist()
    sample_draws(1, 2, EXAMPLES, "shift", 4)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state(legacy=True)[1].tolist() == before[1]
