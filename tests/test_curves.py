"""Curves: what smoothing does to values, and which points a chart is given."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import Lab, tiny_config
from numpy.typing import NDArray

from trainer.store.curve_reader import read_curves
from trainer.store.curves import gaps, smooth, thinned
from trainer.store.database import reading, writing
from trainer.store.packing import Points
from trainer.store.reader import find_series
from trainer.store.writer import SeriesKey, Writer

Floats = NDArray[np.float64]


def naive(values: list[float], weight: float) -> list[float]:
    """The debiased average as its definition says it, one value after another."""
    average, seen, result = 0.0, 0, []
    for value in values:
        if not math.isfinite(value):
            result.append(value)
            continue
        average, seen = weight * average + (1 - weight) * value, seen + 1
        result.append(average / (1 - weight**seen))
    return result


def series(values: Floats) -> Points:
    steps = np.arange(1, len(values) + 1)
    return Points(steps, values, steps.astype(np.float64))


WEIGHTS = st.sampled_from([0.01, 0.5, 0.6, 0.9, 0.99, 0.999, 1e-250]) | st.floats(0.001, 0.999)
VALUES = st.lists(
    st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=60
)


@given(VALUES, WEIGHTS)
@settings(max_examples=200, deadline=None)
def test_smoothing_is_the_debiased_average(values: list[float], weight: float) -> None:
    expected = naive(values, weight)
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    found = smooth(np.asarray(values, np.float64), weight)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * largest + 1e-300)


@pytest.mark.parametrize("weight", [1e-5, 0.1, 0.6, 0.97, 0.9999])
def test_a_long_series_is_smoothed_as_one(weight: float) -> None:
    values = np.random.default_rng(0).normal(size=20_000) + np.linspace(5, 0, 20_000)
    np.testing.assert_allclose(smooth(values, weight), naive(values.tolist(), weight), rtol=1e-7)


@given(st.floats(-1e30, 1e30), WEIGHTS, st.integers(1, 3000))
@settings(max_examples=50, deadline=None)
def test_a_constant_series_stays_as_it_is(value: float, weight: float, count: int) -> None:
    values = np.full(count, value)
    assert smooth(values, weight).tolist() == values.tolist()


def test_smoothing_passes_gaps_through_and_does_not_remember_them() -> None:
    values = np.array([1.0, math.nan, 3.0, math.inf, 2.0])
    smoothed = smooth(values, 0.5)
    assert np.isnan(smoothed[1])
    assert smoothed[3] == math.inf
    np.testing.assert_allclose(smoothed[[0, 2, 4]], smooth(values[[0, 2, 4]], 0.5))


def test_no_smoothing_and_nothing_to_smooth_change_nothing() -> None:
    values = np.array([3.0, -1.0, math.nan])
    assert smooth(values, 0.0) is values
    assert len(smooth(np.empty(0), 0.9)) == 0


# -- thinning -------------------------------------------------------------------------------


@st.composite
def long_series(draw: st.DrawFn) -> Points:
    """Noise of some length with up to five stretches of NaN or infinity in it."""
    count = draw(st.integers(1, 4000))
    values = np.random.default_rng(draw(st.integers(0, 99))).normal(size=count)
    for _ in range(draw(st.integers(0, 5))):
        first = draw(st.integers(0, count - 1))
        values[first : first + draw(st.integers(1, 300))] = draw(
            st.sampled_from([math.nan, math.inf, -math.inf])
        )
    return series(values)


@given(long_series(), st.integers(12, 600))
@settings(max_examples=100, deadline=None)
def test_thinning_keeps_ends_extremes_and_the_edges_of_gaps(points: Points, most: int) -> None:
    chosen = thinned(points, most)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    kept = set(chosen.tolist())
    assert {0, len(points) - 1} <= kept
    finite = np.flatnonzero(np.isfinite(points.values))
    if len(finite):
        assert points.values[chosen][np.isfinite(points.values[chosen])].min() == min(
            points.values[finite]
        )
        assert points.values[chosen][np.isfinite(points.values[chosen])].max() == max(
            points.values[finite]
        )
    bad = ~np.isfinite(points.values)
    for index in np.flatnonzero(bad):
        alone = index in (0, len(points) - 1) or not (bad[index - 1] and bad[index + 1])
        assert (index in kept) or not alone, "the edge of a gap was left out"
    assert len(chosen) <= most + 2 + 2 + 10


def test_about_as_many_points_are_kept_as_were_asked_for() -> None:
    points = series(np.random.default_rng(0).normal(size=100_000))
    for most in (2, 3, 10, 100, 1500, 20_000):
        assert 0.9 * most <= len(thinned(points, most)) <= most + 4


def test_a_series_that_is_short_enough_is_kept_whole() -> None:
    points = series(np.array([1.0, math.nan, 2.0]))
    assert thinned(points, 3).tolist() == [0, 1, 2]
    assert thinned(series(np.empty(0)), 10).tolist() == []


def test_a_series_full_of_holes_is_thinned_all_the_same() -> None:
    values = np.random.default_rng(0).normal(size=50_000)
    values[::2] = math.nan
    chosen = thinned(series(values), 1000)
    assert len(chosen) <= 3 * 1000
    assert np.isnan(values[chosen]).any()
    assert np.isfinite(values[chosen]).sum() >= 900


def test_nothing_but_nan_keeps_its_ends() -> None:
    assert thinned(series(np.full(5000, math.nan)), 100).tolist() == [0, 4999]


def test_gaps_are_first_and_last_of_each_stretch() -> None:
    nan = math.nan
    found = gaps(np.isfinite([nan, 1.0, nan, nan, nan, 2.0, math.inf]))
    assert sorted(found.tolist()) == [0, 0, 2, 4, 6, 6]


# -- both together --------------------------------------------------------------------------


def test_a_curve_is_smoothed_before_points_are_left_out(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    run_id = lab.add(tiny_config())
    points = series(np.random.default_rng(0).random(10_000))
    with writing(lab.engine) as connection:
        Writer(run_id).append(connection, {SeriesKey("train_loss"): points})
        row = find_series(connection, run_id, "train_loss")
        assert row is not None
    with reading(lab.engine) as connection:
        curve = read_curves(connection, [row], 200, 0.9)[0]
    whole = smooth(points.values, 0.9)
    assert len(curve.points) <= 204
    assert curve.smoothed.tolist() == whole[curve.points.steps - 1].tolist()
    assert curve.points.values.tolist() == points.values[curve.points.steps - 1].tolist()
    thinned_first = smooth(curve.points.values, 0.9)
    assert np.abs(thinned_first - curve.smoothed).max() > 0.05
