"""The store: points come back as they were given, whatever they are and however they came."""

import itertools
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import Lab, points_of, tiny_config
from sqlalchemy import Engine, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import IntegrityError

from app.executors.training import ClaimOverseer
from app.models import Asked
from app.queue import Claim, ClaimLost, ask, requeue
from trainer.clock import Clock
from trainer.probe import Place, quantised
from trainer.recorder import Recorder
from trainer.store.database import Document, finite, reading, writing
from trainer.store.growing import CHUNK
from trainer.store.packing import NO_POINTS, Points, pack, unpack
from trainer.store.reader import (
    find_series,
    list_checkpoints,
    list_series,
    read_layer_output,
    read_points,
)
from trainer.store.tables import series_chunks
from trainer.store.writer import SeriesKey, Writer

LOSS = SeriesKey("train_loss")
STRANGE = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e300, -1e300, 5e-324, 0.1, 16777217.0]


def assert_same(one: Points, other: Points) -> None:
    """Steps and values to the last bit (the sign of zero too), times to a ten-millionth."""
    assert one.steps.tolist() == other.steps.tolist()
    assert np.array_equal(one.values, other.values, equal_nan=True)
    numbers = ~np.isnan(one.values)
    assert np.array_equal(np.signbit(one.values[numbers]), np.signbit(other.values[numbers]))
    if len(one):
        span = float(one.times[-1] - one.times[0])
        assert np.abs(one.times - other.times).max() <= 1e-6 + 1e-7 * span


# -- packing --------------------------------------------------------------------------------


@st.composite
def any_points(draw: st.DrawFn) -> Points:
    steps = sorted(draw(st.sets(st.integers(0, 2**63 - 1) | st.integers(0, 50), min_size=1)))
    floats = st.floats() | st.floats(width=32) | st.sampled_from(STRANGE)
    values = draw(st.lists(floats, min_size=len(steps), max_size=len(steps)))
    waits = draw(st.lists(st.floats(0, 1e5), min_size=len(steps), max_size=len(steps)))
    times = 1.7e9 + np.cumsum(waits)
    return Points(np.asarray(steps, np.int64), np.asarray(values, np.float64), times)


@given(any_points())
@settings(max_examples=150, deadline=None)
def test_packed_points_come_back_to_the_last_bit(points: Points) -> None:
    assert_same(unpack(pack(points)), points)


def test_what_a_float32_network_measured_at_even_steps_takes_eight_bytes_a_point() -> None:
    values = np.random.default_rng(0).random(CHUNK).astype(np.float32)
    assert len(pack(points_of(values, stride=7))) <= 8 * CHUNK + 64


def test_values_that_need_double_precision_keep_it() -> None:
    points = points_of([0.1, 1 / 3, 2.0**-1074])
    assert unpack(pack(points)).values.tolist() == points.values.tolist()


def test_a_chunk_from_a_newer_version_is_not_misread() -> None:
    newer = b"\x09" + pack(points_of([1.0]))[1:]
    with pytest.raises(AssertionError, match="from a newer Tricklab"):
        unpack(newer)


# -- writing and reading --------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab.at(tmp_path)
    lab.add(tiny_config())
    return lab


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """One lab with one run for every example of a property."""
    lab = Lab.at(tmp_path_factory.mktemp("shared"))
    lab.add(tiny_config())
    return lab


def write(lab: Lab, *blocks: Points, key: SeriesKey = LOSS, writer: Writer | None = None) -> Writer:
    """Append each block in a transaction of its own."""
    writer = writer or Writer(1)
    for block in blocks:
        with writing(lab.engine) as connection:
            writer.append(connection, {key: block})
    return writer


def stored(lab: Lab, key: SeriesKey = LOSS, after: int | None = None) -> Points:
    with reading(lab.engine) as connection:
        row = find_series(connection, 1, key.name, key.layer)
        assert row is not None
        return read_points(connection, row.id, after)


def summary(lab: Lab, key: SeriesKey = LOSS) -> dict[str, Any]:
    with reading(lab.engine) as connection:
        row = find_series(connection, 1, key.name, key.layer)
        assert row is not None
        return {name: value for name, value in row._mapping.items() if name not in ("id", "name")}


def chunk_sizes(engine: Engine) -> list[int]:
    with reading(engine) as connection:
        query = select(series_chunks.c.points).filter_by(level=0).order_by(series_chunks.c.number)
        return list(connection.execute(query).scalars())


def cut(points: Points, at: Sequence[int]) -> list[Points]:
    edges = [0, *sorted(at), len(points)]
    return [points[first:end] for first, end in itertools.pairwise(edges)]


def test_strange_values_survive_the_database(lab: Lab) -> None:
    points = points_of(STRANGE)
    write(lab, *cut(points, [3, 5]))
    assert_same(stored(lab), points)


@pytest.mark.parametrize(
    ("sizes", "chunks"),
    [
        ((CHUNK - 1,), [CHUNK - 1]),
        ((CHUNK - 1, 1), [CHUNK]),
        ((CHUNK, 1), [CHUNK, 1]),
        ((1, 2 * CHUNK, 1), [CHUNK, CHUNK, 2]),
        ((0, 3, 0), [3]),
    ],
)
def test_a_chunk_ends_at_4096_points(lab: Lab, sizes: tuple[int, ...], chunks: list[int]) -> None:
    points = points_of(np.random.default_rng(0).random(sum(sizes)))
    write(lab, *cut(points, np.cumsum(sizes)[:-1].tolist()))
    assert chunk_sizes(lab.engine) == chunks
    assert_same(stored(lab), points)


@given(st.lists(st.integers(0, 9000), max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_points_in_blocks_are_stored_as_if_they_came_at_once(
    shared: Lab, cuts: list[int], chance: Any
) -> None:
    values = np.random.default_rng(chance.randrange(2**32)).normal(size=9000)
    values[chance.randrange(9000)] = chance.choice(STRANGE)
    with writing(shared.engine) as connection:
        Writer(1).rewind(connection, -1)
    points, whole = points_of(values), SeriesKey("whole")
    write(shared, *cut(points, cuts))
    write(shared, points, key=whole)
    assert_same(stored(shared), points)
    in_blocks, at_once = summary(shared), summary(shared, whole)
    total = in_blocks.pop("total")
    assert total == pytest.approx(at_once.pop("total"), rel=1e-12, nan_ok=True)
    assert finite(in_blocks) == finite(at_once)


def test_a_summary_counts_and_says_where_the_extremes_are(lab: Lab) -> None:
    values = [math.nan, 3.0, 1.0, math.inf, 1.0, 9.0, -math.inf, 9.0, 2.0]
    write(lab, *cut(points_of(values, first=10, stride=10), [1, 4]))
    found = finite(summary(lab))
    assert found == {
        "run_id": 1,
        "layer": "",
        "unit": "",
        "points": 9,
        "nonfinite": 3,
        "first_step": 10,
        "last_step": 90,
        "first": "NaN",
        "last": 2.0,
        "lowest": 1.0,
        "lowest_step": 30,
        "highest": 9.0,
        "highest_step": 60,
        "total": 25.0,
    }


def test_a_series_of_nothing_but_nan_has_no_extremes(lab: Lab) -> None:
    write(lab, points_of([math.nan, math.nan]))
    found = summary(lab)
    assert (found["points"], found["nonfinite"], found["total"]) == (2, 2, 0.0)
    assert math.isnan(found["lowest"])
    assert math.isnan(found["highest"])


@pytest.mark.parametrize("after", [-1, 0, 1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 9, 10**9])
def test_only_what_is_new_is_read(lab: Lab, after: int) -> None:
    points = points_of(np.arange(2 * CHUNK + 10.0))
    write(lab, points)
    assert_same(stored(lab, after=after), points[points.steps > after])


def test_series_of_runs_and_of_layers_are_told_apart(lab: Lab) -> None:
    other = lab.add(tiny_config())
    write(lab, points_of([1.0]))
    write(lab, points_of([2.0]), key=SeriesKey("mean", "block1"))
    write(lab, points_of([3.0]), writer=Writer(other))
    with reading(lab.engine) as connection:
        own = list_series(connection, [1, other])
        layers = list_series(connection, [1, other], layers=True)
        assert find_series(connection, 1, "nothing") is None
    assert [(row.run_id, row.name, row.last) for row in own] == [
        (1, "train_loss", 1.0),
        (other, "train_loss", 3.0),
    ]
    assert [(row.layer, row.name, row.last) for row in layers] == [("block1", "mean", 2.0)]


def test_a_point_that_was_written_already_is_refused_by_the_database(lab: Lab) -> None:
    write(lab, points_of([1.0]))
    with pytest.raises(IntegrityError):
        write(lab, points_of([2.0]))


# -- going back -----------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-1, 0, 1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 9000, 10**6])
def test_a_rewound_series_goes_on_as_if_it_had_never_been_longer(lab: Lab, step: int) -> None:
    values = np.random.default_rng(1).normal(size=9000)
    values[[3, 5000]] = math.nan
    points, straight = points_of(values), SeriesKey("straight")
    write(lab, points)
    again = Writer(1)
    with writing(lab.engine) as connection:
        again.rewind(connection, step)
    kept = points[points.steps <= step]
    with reading(lab.engine) as connection:
        assert (find_series(connection, 1, "train_loss") is None) == (len(kept) == 0)
    if len(kept):
        assert_same(stored(lab), kept)

    write(lab, *cut(points[points.steps > step], [17]), writer=again)
    assert_same(stored(lab), points)
    write(lab, points, key=straight)
    gone_back, never = summary(lab), summary(lab, straight)
    assert gone_back.pop("total") == pytest.approx(never.pop("total"), rel=1e-12)
    assert finite(gone_back) == finite(never)
    assert chunk_sizes(lab.engine) == sorted(2 * [CHUNK, CHUNK, 9000 - 2 * CHUNK], reverse=True)


def test_going_back_forgets_later_layer_outputs_and_checkpoints_of_this_run_alone(lab: Lab) -> None:
    other = lab.add(tiny_config())
    for run_id in (1, other):
        with writing(lab.engine) as connection:
            writer = Writer(run_id)
            for step in (1, 2, 4):
                output = quantised(Place("block1", 0), step, torch.rand(2, 3))
                writer.add_layer_outputs(connection, [output])
                writer.add_checkpoint(connection, step, f"step-{step}", 1, "00")
    with writing(lab.engine) as connection:
        Writer(1).rewind(connection, 2)
    with reading(lab.engine) as connection:
        for run_id, steps in ((1, [2, 1]), (other, [4, 2, 1])):
            assert [row.step for row in list_checkpoints(connection, run_id)] == steps
            there = [read_layer_output(connection, run_id, "block1", step) for step in (1, 2, 4)]
            assert [output is not None for output in there] == [True, True, run_id == other]


def test_only_the_newest_checkpoints_keep_their_rows(lab: Lab) -> None:
    writer = Writer(1)
    with writing(lab.engine) as connection:
        for step in (5, 10, 15, 15):
            writer.add_checkpoint(connection, step, f"step-{step}", 1, "00")
            writer.keep_checkpoints(connection, 2)
        assert [row.step for row in list_checkpoints(connection, 1)] == [15, 10]


# -- layer outputs --------------------------------------------------------------------------


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=6, max_size=6)
    | st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6)
)
@settings(max_examples=60, deadline=None)
def test_a_layer_output_comes_back_within_half_a_level(shared: Lab, values: list[float]) -> None:
    output = torch.tensor(values).reshape(2, 3)
    with writing(shared.engine) as connection:
        writer = Writer(1)
        writer.rewind(connection, -1)
        writer.add_layer_outputs(connection, [quantised(Place("head", 0), 3, output)])
        found = read_layer_output(connection, 1, "head", 3)
    assert found is not None
    assert found.full_shape == (2, 3)
    low, high = min(values), max(values)
    # float32's relative rounding, and where a level is below its smallest normal number the
    # rounding of a level itself, 255 times over
    rounding = 4e-7 * max(abs(low), abs(high)) + 256 * 1.4e-45
    error = np.abs(found.values().astype(np.float64) - output.numpy()).max()
    assert error <= (high - low) / 255 / 2 + rounding


def test_an_output_with_undefined_values_keeps_the_range_of_the_others(lab: Lab) -> None:
    output = torch.tensor([[math.nan, -1.0, 2.0, math.inf, -math.inf]])
    kept = quantised(Place("head", 0), 0, output)
    assert (kept.low, kept.high) == (-1.0, 2.0)
    with writing(lab.engine) as connection:
        Writer(1).add_layer_outputs(connection, [kept])
        found = read_layer_output(connection, 1, "head", 0)
    assert found is not None
    assert found.values().tolist() == [[-1.0, -1.0, 2.0, 2.0, -1.0]]


def test_an_output_that_is_the_same_everywhere_comes_back_exactly(lab: Lab) -> None:
    with writing(lab.engine) as connection:
        Writer(1).add_layer_outputs(
            connection, [quantised(Place("head", 1), 0, torch.full((2, 4), 0.3))]
        )
        found = read_layer_output(connection, 1, "head", 0, call=1)
    assert found is not None
    assert found.values().tolist() == torch.full((2, 4), 0.3).tolist()


# -- the recorder ---------------------------------------------------------------------------


def recorder_for(lab: Lab, claim: Claim) -> Recorder:
    return Recorder(lab.engine, Writer(claim.run_id), ClaimOverseer(claim), Clock())


def test_what_the_recorder_takes_is_there_when_it_has_closed(lab: Lab) -> None:
    claim = lab.claim(1)
    recorder = recorder_for(lab, claim)
    values = [math.nan, 0.5, math.inf, -0.0]
    for step, value in enumerate(values, 1):
        recorder.add(step, {"train_loss": torch.tensor(value), "learning_rate": 0.1 * step})
        recorder.turn(step)
    recorder.clock.seconds["forward"] = 2.5
    recorder.add_scores(4, {SeriesKey("val_loss"): 0.25})
    recorder.hand_over(4)
    recorder.close()
    assert np.array_equal(lab.points(1, "train_loss").values, values, equal_nan=True)
    assert lab.points(1, "learning_rate").values.tolist() == [0.1 * step for step in (1, 2, 3, 4)]
    assert lab.points(1, "val_loss").steps.tolist() == [4]
    assert (lab.run(1).step, lab.run(1).train_seconds) == (4, 2.5)


def test_the_recorder_of_a_run_that_another_took_writes_nothing_and_says_so(lab: Lab) -> None:
    old = lab.claim(1)
    recorder = recorder_for(lab, old)
    with writing(lab.engine) as connection:
        requeue(connection, 1, old.fence, "frozen", 3)
    new = lab.claim(1)
    recorder.add(1, {"train_loss": 0.5})
    recorder.hand_over(1)
    with pytest.raises(ClaimLost):
        recorder.close()
    with reading(lab.engine) as connection:
        assert list_series(connection, [1]) == []
    assert (lab.run(1).step, lab.run(1).fence) == (0, new.fence)


def test_the_recorder_hears_what_is_asked_while_it_has_nothing_to_write(lab: Lab) -> None:
    recorder = recorder_for(lab, lab.claim(1))
    with writing(lab.engine) as connection:
        ask(connection, 1, Asked.STOP)
    heard = threading.Event()
    for _ in range(100):
        if recorder.asked == Asked.STOP or heard.wait(0.05):
            break
    recorder.close()
    assert recorder.asked == Asked.STOP


def test_a_document_spells_out_what_json_has_no_number_for() -> None:
    given = {"a": [math.nan, math.inf, (-math.inf, 1.5)], 2: {"b": None}}
    assert finite(given) == {"a": ["NaN", "Infinity", ["-Infinity", 1.5]], "2": {"b": None}}


def test_nothing_joined_is_no_points() -> None:
    assert len(Points.joined([])) == len(NO_POINTS) == 0


def test_a_document_with_half_a_character_is_read_as_it_was_written() -> None:
    document = Document()
    dialect = sqlite.dialect()  # type: ignore[no-untyped-call]
    for value in ({"said": "a\ud800b", "n": [1, 2.5, None]}, {"plain": "ü"}, None):
        written = document.process_bind_param(value, dialect)
        assert document.process_result_value(written, dialect) == value
