"""Levels: what a chart of a long series is drawn from says the same as its points."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import Lab, points_of, tiny_config
from numpy.typing import NDArray
from sqlalchemy import delete, select

from trainer.store.buckets import Buckets, coarsened
from trainer.store.curve_reader import Curve, Steps, read_curves, read_newer, rows_of
from trainer.store.curves import smooth
from trainer.store.database import reading, writing
from trainer.store.growing import BUCKETS_PER_ROW, CHUNK, LEVELS, PART, GrowingSeries
from trainer.store.packing import Points
from trainer.store.reader import find_series
from trainer.store.tables import series_chunks
from trainer.store.writer import SeriesKey, Writer

LOSS = SeriesKey("train_loss")
LONG = 300_000


def noise(count: int, seed: int = 0) -> NDArray[np.float64]:
    """A loss that goes down, with one spike and one dip far from everything else, and a gap."""
    chance = np.random.default_rng(seed)
    values = np.exp(-np.arange(count) / count) + chance.normal(0, 0.1, count)
    values[count // 3], values[count // 2] = 9.0, -9.0
    values[count // 5 : count // 5 + 30] = math.nan
    return values


# -- buckets --------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf]), min_size=1),
    st.integers(1, 9),
)
@settings(max_examples=200, deadline=None)
def test_a_bucket_has_the_mean_the_extremes_and_the_gaps_of_its_points(
    values: list[float], size: int
) -> None:
    buckets = coarsened(points_of(values), size)
    at = 0
    for number, first in enumerate(range(0, len(values), size)):
        own = values[first : first + size]
        finite = [value for value in own if math.isfinite(value)]
        marks = buckets.marks[at : at + int(buckets.kept[number])]
        at += len(marks)
        assert set(marks.steps.tolist()) <= set(range(first + 1, first + len(own) + 1))
        if finite:
            assert min(finite) in marks.values
            assert max(finite) in marks.values
            assert min(finite) <= buckets.means[number] <= max(finite)
            assert buckets.means[number] == pytest.approx(np.mean(finite), abs=1e-6)
        else:
            assert math.isnan(buckets.means[number])
        bad = [first + 1 + i for i, value in enumerate(own) if not math.isfinite(value)]
        if bad:
            assert {bad[0], bad[-1]} <= set(marks.steps.tolist())
    assert at == len(buckets.marks)
    assert buckets.marks.steps[[0, -1]].tolist() == [1, len(values)]
    assert (np.diff(buckets.marks.steps) > 0).all()


def test_the_mean_of_values_whose_sum_is_too_large_stays_between_them() -> None:
    assert coarsened(points_of([1.7e308, 1.7e308, 1.6e308]), 3).means.tolist() == [1.7e308]


def test_buckets_come_back_as_they_were_packed() -> None:
    buckets = coarsened(points_of(noise(5000), stride=3), 64)
    again = Buckets.unpacked(buckets.packed())
    assert np.array_equal(again.means, buckets.means, equal_nan=True)
    assert again.kept.tolist() == buckets.kept.tolist()
    assert again.marks.steps.tolist() == buckets.marks.steps.tolist()
    assert np.array_equal(again.marks.values, buckets.marks.values, equal_nan=True)
    assert len(buckets.packed()) / 5000 < 1.5


# -- rows -----------------------------------------------------------------------------------


def rows_after(points: Points, cuts: Sequence[int]) -> dict[tuple[int, int], Any]:
    """The rows there are after points were appended in blocks; each change of a row is checked."""
    growing, there = GrowingSeries(1), {}
    edges = [0, *sorted(cuts), len(points)]
    for first, end in itertools.pairwise(edges):
        if end > first:
            changes = growing.append(points[first:end])
            for place in changes.gone:
                del there[place["level"], place["number"]]
            for row in changes.rows:
                assert (row["level"], row["number"]) not in there
                there[row["level"], row["number"]] = row
    return there


@given(st.lists(st.integers(0, 20_000), max_size=8))
@settings(max_examples=30, deadline=None)
def test_however_points_come_the_coarser_levels_are_the_same(cuts: list[int]) -> None:
    points = points_of(noise(20_000))
    at_once, in_blocks = rows_after(points, []), rows_after(points, cuts)
    levels = [{k: v for k, v in rows.items() if k[0]} for rows in (at_once, in_blocks)]
    assert levels[0].keys() == levels[1].keys()
    for place, row in levels[0].items():
        one, other = (Buckets.unpacked(level[place]["payload"]) for level in levels)
        # a block's own ends are marks too, at whole chunks at most
        assert set(one.marks.steps.tolist()) <= set(other.marks.steps.tolist())
        assert np.array_equal(one.means, other.means, equal_nan=True)
        assert row["points"] == levels[1][place]["points"]


def test_newest_points_lie_in_parts_until_they_fill_a_chunk() -> None:
    points = points_of(np.arange(2.0 * CHUNK))
    growing, most, written = GrowingSeries(1), 0, 0
    for first in range(0, 2 * CHUNK, 2):
        changes = growing.append(points[first : first + 2])
        if first + 2 < CHUNK:
            size = sum(len(row["payload"]) for row in changes.rows)
            most, written = max(most, size), written + size
    assert most <= 8 * PART + 64
    assert written < 100 * 8 * CHUNK, "what is stored already is written over and over"


@pytest.mark.parametrize("level", LEVELS)
def test_a_row_of_a_coarser_level_takes_so_many_buckets(level: int) -> None:
    size = LEVELS[level]
    count = (BUCKETS_PER_ROW + 64) * size
    rows = rows_after(points_of(np.zeros(count)), [CHUNK, CHUNK + 7])
    held = {place: len(Buckets.unpacked(row["payload"])) for place, row in rows.items() if place[0]}
    assert held[level, 0] == BUCKETS_PER_ROW
    assert held[level, BUCKETS_PER_ROW * size] == 64


# -- curves ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab with one long series, written in uneven blocks."""
    lab = Lab.at(tmp_path_factory.mktemp("levels"))
    write(lab, lab.add(tiny_config()), points_of(noise(LONG)), 70_001)
    return lab


def write(lab: Lab, run_id: int, points: Points, block: int) -> None:
    writer = Writer(run_id)
    for first in range(0, len(points), block):
        with writing(lab.engine) as connection:
            writer.append(connection, {LOSS: points[first : first + block]})


def curve(lab: Lab, most: int, smoothing: float = 0.0, steps: Steps | None = None) -> Curve:
    with reading(lab.engine) as connection:
        row = find_series(connection, 1, LOSS.name)
        assert row is not None
        return read_curves(connection, [row], most, smoothing, steps)[0]


@pytest.mark.parametrize("most", [20, 100, 1000, 4000, 20_000])
def test_a_curve_keeps_extremes_ends_and_gaps_at_every_level(lab: Lab, most: int) -> None:
    found, values = curve(lab, most), noise(LONG)
    points = found.points
    assert most * 0.6 <= len(points) <= most + 10
    assert points.steps[[0, -1]].tolist() == [1, LONG]
    assert (np.diff(points.steps) > 0).all()
    assert np.array_equal(points.values, values[points.steps - 1], equal_nan=True)
    assert {9.0, -9.0} <= set(points.values.tolist())
    gap = points.steps[np.isnan(points.values)].tolist()
    assert {LONG // 5 + 1, LONG // 5 + 30} <= set(gap)


@pytest.mark.parametrize("weight", [0.5, 0.9, 0.99, 0.999, 0.99999])
@pytest.mark.parametrize("most", [50, 1000])
def test_smoothing_of_buckets_is_that_of_the_points(lab: Lab, weight: float, most: int) -> None:
    values = noise(LONG)
    found, exact = curve(lab, most, weight), smooth(values, weight)
    size = max(size for size in LEVELS.values() if size * most <= LONG)
    # beside one bucket's width the average over a bucket counts as the average at its end
    ends = np.minimum((found.points.steps - 1) // size * size + size, LONG) - 1
    wanted = np.where(np.isnan(exact[ends]), exact[ends - 31], exact[ends])
    if weight**size > 0.5:
        error = np.nanmax(np.abs(found.smoothed - wanted))
        assert error < 0.02
    means = np.add.reduceat(np.nan_to_num(values, nan=0.55), np.arange(0, LONG, size)) / size
    if weight**size < 1e-9:
        finite = np.isfinite(found.smoothed)
        bucket = (found.points.steps - 1) // size
        whole = finite & (bucket < LONG // size)
        assert np.abs(found.smoothed - means[bucket])[whole].max() < 0.15
    assert np.nanstd(np.diff(found.smoothed)) < np.nanstd(np.diff(found.points.values)) / 3


def test_a_long_constant_series_stays_as_it_is_when_smoothed(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    write(lab, lab.add(tiny_config()), points_of(np.full(50_000, 0.1)), 50_000)
    for weight in (0.6, 0.99, 0.9999):
        assert set(curve(lab, 100, weight).smoothed.tolist()) == {0.1}


@pytest.mark.parametrize(("first", "last"), [(1000, 1100), (150_000, 150_500), (299_000, 10**9)])
def test_a_zoomed_curve_has_every_point_there_and_one_more_on_each_side(
    lab: Lab, first: int, last: int
) -> None:
    found = curve(lab, 2000, 0.9, Steps(first, last))
    expected = np.arange(first - 1, min(last, LONG - 1) + 2)
    assert found.points.steps.tolist() == expected.tolist()
    exact = smooth(noise(LONG), 0.9)[expected - 1]
    np.testing.assert_allclose(found.smoothed, exact, rtol=0, atol=1e-7)


def test_a_wide_zoom_is_drawn_from_buckets_too(lab: Lab) -> None:
    found = curve(lab, 500, 0.9, Steps(50_000, 250_000))
    assert 300 <= len(found.points) <= 510
    assert 49_000 <= found.points.steps[0] <= 50_000
    assert 250_000 <= found.points.steps[-1] <= 251_000
    assert {9.0, -9.0} <= set(found.points.values.tolist())


def test_a_zoom_beside_every_point_is_empty(lab: Lab) -> None:
    assert len(curve(lab, 100, 0.5, Steps(10**7, 10**8)).points) == 0


@pytest.mark.parametrize("place", [0, 1, CHUNK, LONG - 5, LONG])
def test_what_is_new_is_read_as_part_of_the_whole(lab: Lab, place: int) -> None:
    with reading(lab.engine) as connection:
        row = find_series(connection, 1, LOSS.name)
        assert row is not None
        found = read_newer(connection, row.id, place, 0.98)
    values = noise(LONG)
    assert found.points.steps.tolist() == list(range(place + 1, LONG + 1))
    assert np.array_equal(found.points.values, values[place:], equal_nan=True)
    np.testing.assert_allclose(found.smoothed, smooth(values, 0.98)[place:], rtol=0, atol=1e-7)


def test_a_lab_from_before_there_were_levels_is_read_all_the_same(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    write(lab, lab.add(tiny_config()), points_of(noise(50_000)), 50_000)
    before = curve(lab, 100, 0.9)
    with writing(lab.engine) as connection:
        connection.execute(delete(series_chunks).where(series_chunks.c.level > 0))
    after = curve(lab, 100, 0.9)
    assert {9.0, -9.0} <= set(after.points.values.tolist())
    np.testing.assert_allclose(after.smoothed[-1], before.smoothed[-1], atol=0.05)


def test_a_rewound_series_has_the_levels_of_one_that_was_never_longer(tmp_path: Path) -> None:
    lab, points = Lab.at(tmp_path), points_of(noise(30_000))
    write(lab, lab.add(tiny_config()), points, 7000)
    other = lab.add(tiny_config())
    write(lab, other, points[:20_001], 20_001)
    with writing(lab.engine) as connection:
        Writer(1).rewind(connection, 20_001)
    with reading(lab.engine) as connection:
        c = series_chunks.c
        ids = [find_series(connection, run, LOSS.name) for run in (1, other)]
        rows = [
            connection.execute(
                select(c.level, c.number, c.points, c.payload)
                .where(c.series_id == row.id)
                .order_by(c.level, c.number)
            ).all()
            for row in ids
            if row is not None
        ]
    assert rows[0] == rows[1]


def test_a_chart_of_a_run_ten_times_as_long_reads_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, read = Lab.at(tmp_path), [0, 0]

    def counting(*given: Any) -> Any:
        found = rows_of(*given)
        read[-1] += sum(len(row.payload) for rows in found.values() for row in rows)
        return found

    monkeypatch.setattr("trainer.store.curve_reader.rows_of", counting)
    for count in (400_000, 4_000_000):
        run_id = lab.add(tiny_config())
        write(lab, run_id, points_of(np.random.default_rng(0).random(count)), count)
        with reading(lab.engine) as connection:
            row = find_series(connection, run_id, LOSS.name)
            assert row is not None
            read.append(0)
            assert len(read_curves(connection, [row], 900)[0].points) <= 910
    assert 0 < read[-1] < read[-2] < 10**6
