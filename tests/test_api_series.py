"""/api/v1/runs/…/series and /curves: exact points, and curves as charts want them."""

import base64
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from lab import Lab, quick_config, tiny_config
from server import API, client_of, refusal, seconds_of, told

from app import queue
from app.api import shapes
from trainer.store.curves import smooth
from trainer.store.database import writing
from trainer.store.packing import Points
from trainer.store.writer import SeriesKey, Writer

ODD = [0.1, 1 / 3, -0.0, 5e-324, 1.7976931348623157e308, np.nan, np.inf, -np.inf, 2**53 + 1.0, 1e-5]
"""Values that a careless answer would change."""
LONG = 20_000


@dataclass(frozen=True)
class World:
    """A lab with a trained run, and one whose series were written by hand."""

    lab: Lab
    client: TestClient
    trained: int
    written: int

    def get(self, path: str, shape: Any, **params: Any) -> Any:
        return told(self.client.get(f"{API}{path}", params=params), shape)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    trained = lab.train(quick_config(threads=1))
    written = lab.add(tiny_config())
    write(lab, written, {SeriesKey("odd"): ODD, SeriesKey("noise"): noise()})
    with client_of(lab.settings) as client:
        yield World(lab, client, trained, written)


def write(lab: Lab, run_id: int, series: dict[SeriesKey, Sequence[float]]) -> None:
    with writing(lab.engine) as connection:
        writer = Writer(run_id)
        for key, values in series.items():
            steps = 3 * np.arange(1, len(values) + 1)
            writer.append(connection, {key: Points(steps, np.array(values), steps / 7 + 1e9)})


def noise() -> list[float]:
    """A long series that goes down, with one spike up and a stretch of NaN."""
    values = np.exp(-np.arange(LONG) / 5000) + np.random.default_rng(0).normal(0, 0.1, LONG)
    values[12_345] = 9.0
    values[700:720] = np.nan
    listed: list[float] = values.tolist()
    return listed


def bits(values: Sequence[float | str]) -> list[bytes]:
    return [struct.pack("<d", float(value)) for value in values]


# -- series ---------------------------------------------------------------------------------


def test_a_run_lists_its_series_with_their_summaries(world: World) -> None:
    series = world.get(f"/runs/{world.trained}/series", shapes.SeriesList)["series"]
    names = ["learning_rate", "train_accuracy", "train_loss", "val_accuracy", "val_loss"]
    assert set(names) <= {one["name"] for one in series}
    assert {one["name"]: one["unit"] for one in series if one["unit"]} == {"data_seconds": "s"}
    loss = next(one for one in series if one["name"] == "train_loss")
    points = world.lab.points(world.trained, "train_loss")
    assert (loss["points"], loss["first_step"], loss["last_step"]) == (46, 1, 46)
    assert (loss["first"], loss["last"]) == (points.values[0], points.values[-1])
    assert (loss["lowest"], loss["highest"]) == (points.values.min(), points.values.max())


def test_the_statistics_of_layers_are_listed_apart(world: World) -> None:
    own = world.get(f"/runs/{world.trained}/series", shapes.SeriesList)["series"]
    layers = world.get(f"/runs/{world.trained}/series", shapes.SeriesList, layers=True)["series"]
    assert {one["layer"] for one in own} == {""}
    assert "block1.conv" in {one["layer"] for one in layers}
    assert {one["name"] for one in layers} >= {"mean", "spread", "dead"}


def test_points_are_those_of_the_database_to_the_last_bit(world: World) -> None:
    answer = world.get(f"/runs/{world.trained}/series/train_loss", shapes.Points)
    points = world.lab.points(world.trained, "train_loss")
    assert answer["run"] == world.trained
    assert answer["steps"] == points.steps.tolist()
    assert bits(answer["values"]) == bits(points.values.tolist())
    assert answer["times"] == points.times.tolist()
    assert answer["next"] is None


def test_odd_values_survive_and_those_that_are_no_numbers_are_spelled(world: World) -> None:
    answer = world.get(f"/runs/{world.written}/series/odd", shapes.Points)
    assert answer["values"][5:8] == ["NaN", "Infinity", "-Infinity"]
    assert bits(answer["values"]) == bits(ODD)
    assert (answer["nonfinite"], answer["last"], answer["first"]) == (3, 1e-5, 0.1)


def test_a_layers_statistic_is_read_by_its_name(world: World) -> None:
    answer = world.get(f"/runs/{world.trained}/series/spread", shapes.Points, layer="block1.conv")
    points = world.lab.points(world.trained, "spread", "block1.conv")
    assert answer["layer"] == "block1.conv"
    assert answer["steps"] == points.steps.tolist()
    assert answer["steps"][0] == 0


@pytest.mark.parametrize("limit", [1, 3, 4, 10])
def test_pages_of_points_join_to_the_whole(world: World, limit: int) -> None:
    address, values, after = f"/runs/{world.written}/series/odd", [], -1
    while after is not None:
        page = world.get(address, shapes.Points, after=after, limit=limit)
        assert len(page["values"]) <= limit
        values += page["values"]
        after = page["next"]
    assert bits(values) == bits(ODD)


def test_only_points_after_a_step_are_sent(world: World) -> None:
    address = f"/runs/{world.written}/series/noise"
    for after, first in ((-1, 3), (3, 6), (4, 6), (3 * 4096, 3 * 4097), (3 * LONG - 1, 3 * LONG)):
        assert world.get(address, shapes.Points, after=after)["steps"][0] == first
    for after in (3 * LONG, 2**63 - 1):
        nothing = world.get(address, shapes.Points, after=after)
        assert (nothing["steps"], nothing["values"], nothing["next"]) == ([], [], None)


def test_a_series_that_is_not_there_names_those_that_are(world: World) -> None:
    answer = world.client.get(f"{API}/runs/{world.written}/series/loss")
    assert refusal(answer, 404) == "there is no series 'loss'; there are: noise, odd"
    answer = world.client.get(f"{API}/runs/{world.trained}/series/x", params={"layer": "block1"})
    assert "there are: dead, highest, lowest" in refusal(answer, 404)


# -- curves ---------------------------------------------------------------------------------


def test_curves_of_several_runs_come_in_one_answer(world: World) -> None:
    runs = f"{world.trained},{world.written},{world.trained}"
    curves = world.get("/curves", shapes.Curves, runs=runs)["curves"]
    assert {(one["run"], one["name"]) for one in curves} >= {
        (world.trained, "train_loss"),
        (world.written, "odd"),
    }
    assert len({(one["run"], one["name"]) for one in curves}) == len(curves)
    some = world.get("/curves", shapes.Curves, runs=runs, names="odd,val_loss,nowhere")["curves"]
    assert [one["name"] for one in some] == ["odd", "val_loss"]


def test_a_short_curve_is_sent_whole(world: World) -> None:
    [curve] = world.get("/curves", shapes.Curves, runs=world.trained, names="train_loss")["curves"]
    assert bits(curve["values"]) == bits(
        world.lab.points(world.trained, "train_loss").values.tolist()
    )
    assert "smoothed" not in curve


def test_a_long_curve_is_thinned_and_keeps_its_extremes_ends_and_gaps(world: World) -> None:
    [curve] = world.get("/curves", shapes.Curves, runs=world.written, names="noise", points=300)[
        "curves"
    ]
    values, steps = noise(), curve["steps"]
    assert 100 < len(steps) < 320
    assert curve["points"] == LONG
    assert (steps[0], steps[-1]) == (3, 3 * LONG)
    assert 9.0 in curve["values"]
    assert float(np.nanmin(values)) in curve["values"]
    assert curve["values"].count("NaN") == 2
    assert bits(curve["values"]) == bits([values[step // 3 - 1] for step in steps])


def test_smoothing_is_over_every_point_not_over_those_sent(world: World) -> None:
    [curve] = world.get(
        "/curves", shapes.Curves, runs=world.written, names="noise", points=400, smoothing=0.98
    )["curves"]
    whole = smooth(np.array(noise()), 0.98)
    assert bits(curve["smoothed"]) == bits([whole[step // 3 - 1] for step in curve["steps"]])
    assert "NaN" in curve["smoothed"]


def test_names_with_a_slash_are_found(world: World) -> None:
    run_id, key = world.lab.add(tiny_config()), SeriesKey("loss/of parts", "blocks.a/b")
    write(world.lab, run_id, {key: ODD})
    path = f"/runs/{run_id}/series/{quote(key.name, safe='')}"
    assert bits(world.get(path, shapes.Points, layer=key.layer)["values"]) == bits(ODD)
    asked = {"runs": run_id, "names": key.name, "layer": key.layer}
    (curve,) = world.get("/curves", shapes.Curves, **asked)["curves"]
    assert (curve["name"], curve["layer"]) == key


def test_a_layers_statistics_are_curves_too(world: World) -> None:
    curves = world.get("/curves", shapes.Curves, runs=world.trained, layer="block2.conv")["curves"]
    assert {one["layer"] for one in curves} == {"block2.conv"}
    assert {one["name"] for one in curves} >= {"mean", "spread", "dead"}


def test_many_curves_get_fewer_points_each(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.curves.MOST_POINTS", 400)
    curves = world.get("/curves", shapes.Curves, runs=world.written, points=20_000)["curves"]
    assert len(curves) == 2
    assert max(len(one["steps"]) for one in curves) < 220


def unpacked(column: Any) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(column["bdata"]), f"<{column['dtype']}")


def test_packed_columns_are_the_same_numbers_in_fewer_bytes(world: World) -> None:
    asked = {"runs": world.written, "names": "noise,odd", "points": 1000, "smoothing": 0.9}
    text, packed = (
        world.get("/curves", shapes.Curves, **asked, packed=flag)["curves"]
        for flag in (False, True)
    )
    for one, other in zip(text, packed, strict=True):
        assert unpacked(other["steps"]).tolist() == one["steps"]
        for name in ("values", "times"):
            assert bits(unpacked(other[name]).tolist()) == bits(one[name])
        smoothed = [float(value) for value in one["smoothed"]]
        with np.errstate(over="ignore"):
            assert np.array_equal(unpacked(other["smoothed"]), np.float32(smoothed), equal_nan=True)
    assert [one["steps"]["dtype"] for one in packed] == ["i4", "i4"]


def test_only_steps_of_a_zoom_are_sent_and_all_of_them(world: World) -> None:
    [curve] = world.get(
        "/curves", shapes.Curves, runs=world.written, names="noise", first=3000, last=6000
    )["curves"]
    assert curve["steps"] == list(range(2997, 6004, 3))
    assert curve["points"] == LONG


def test_a_cursor_brings_what_is_new_and_nothing_else(world: World) -> None:
    run_id = world.lab.add(tiny_config())
    writer, key, values = Writer(run_id), SeriesKey("loss"), np.linspace(1, 0, 500)
    asked: dict[str, Any] = {"runs": run_id, "smoothing": 0.9}

    def add(first: int, end: int) -> None:
        steps = np.arange(first + 1, end + 1)
        with writing(world.lab.engine) as connection:
            writer.append(connection, {key: Points(steps, values[first:end], steps / 7 + 1e9)})

    add(0, 300)
    before = world.get("/curves", shapes.Curves, **asked)
    assert [one["appended"] for one in before["curves"]] == [False]
    add(300, 450)
    asked["cursor"] = before["cursor"]
    after = world.get("/curves", shapes.Curves, **asked)
    [new] = after["curves"]
    assert (new["appended"], new["points"]) == (True, 450)
    assert new["steps"] == list(range(301, 451))
    joined = before["curves"][0]["smoothed"] + new["smoothed"]
    np.testing.assert_allclose(joined, smooth(values[:450], 0.9), atol=1e-7)
    asked["cursor"] = after["cursor"]
    [nothing] = world.get("/curves", shapes.Curves, **asked)["curves"]
    assert (nothing["appended"], nothing["steps"], nothing["smoothed"]) == (True, [], [])


def test_a_cursor_is_of_no_use_when_there_is_too_much_or_the_run_began_anew(world: World) -> None:
    run_id = world.lab.add(tiny_config())
    write(world.lab, run_id, {SeriesKey("loss"): [0.5] * 10})
    cursor = world.get("/curves", shapes.Curves, runs=run_id)["cursor"]
    series, attempt, points = cursor.split(".")
    for changed in (f"{series}.{int(attempt) + 1}.{points}", f"{series}.{attempt}.11", "1.1.1", ""):
        [curve] = world.get("/curves", shapes.Curves, runs=run_id, cursor=changed)["curves"]
        assert (curve["appended"], len(curve["steps"])) == (False, 10)
    [curve] = world.get(
        "/curves", shapes.Curves, runs=run_id, cursor=f"{series}.{attempt}.2", points=5
    )["curves"]
    assert curve["appended"] is False


@pytest.mark.parametrize("cursor", ["x", "1", "1.2", "1.2.3.4", "1.2.3_", "1.2.3;", "1.-2.3"])
def test_a_cursor_that_is_none_is_refused(world: World, cursor: str) -> None:
    answer = world.client.get(f"{API}/curves", params={"runs": world.trained, "cursor": cursor})
    assert "cursor" in refusal(answer, 422)


def test_a_run_that_is_not_there_is_no_silent_gap(world: World) -> None:
    answer = world.client.get(f"{API}/curves", params={"runs": f"{world.trained},4711"})
    assert refusal(answer, 404) == "there is no run 4711"


def test_two_hundred_runs_make_one_answer_and_one_more_is_refused(world: World) -> None:
    with writing(world.lab.engine) as connection:
        ids = [queue.add(connection, tiny_config()) for _ in range(199)] + [world.trained]
    named = {"runs": ",".join(map(str, ids)), "names": "val_loss"}
    assert len(world.get("/curves", shapes.Curves, **named)["curves"]) == 1
    answer = world.client.get(f"{API}/curves", params={"runs": named["runs"] + ",1"})
    assert "runs:" in refusal(answer, 422)


@pytest.mark.parametrize("runs", ["", ",", "1,", "a", "1;2", "-1", "1" * 19, "1 ,2", "٣"])
def test_a_list_of_runs_that_is_none_is_refused(world: World, runs: str) -> None:
    assert "runs" in refusal(world.client.get(f"{API}/curves", params={"runs": runs}), 422)


def test_a_hundred_thousand_points_are_quick(world: World) -> None:
    run_id = world.lab.add(tiny_config())
    write(world.lab, run_id, {SeriesKey("many"): np.linspace(0, 1, 100_000).tolist()})
    address = f"{API}/runs/{run_id}/series/many"
    assert min(seconds_of(lambda: world.client.get(address)) for _ in range(3)) < 0.5
