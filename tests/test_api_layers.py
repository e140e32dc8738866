"""/api/v1/runs/…/layers: layer outputs as JSON, numbers, bytes and pictures."""

import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from lab import Lab, quick_config, tiny_config
from PIL import Image
from server import API, client_of, refusal, seconds_of, told

from app.api import shapes
from app.mosaic import mosaic
from trainer.store.database import reading, writing
from trainer.store.reader import StoredOutput, read_layer_output
from trainer.store.tables import layer_outputs

LAYER = "block2.conv"


@dataclass(frozen=True)
class World:
    """A lab with one trained run."""

    lab: Lab
    client: TestClient
    run_id: int

    def get(self, path: str = "", **params: Any) -> Any:
        return self.client.get(f"{API}/runs/{self.run_id}/layers{path}", params=params)

    def stored(self, step: int, layer: str = LAYER) -> StoredOutput:
        with reading(self.lab.engine) as connection:
            output = read_layer_output(connection, self.run_id, layer, step)
        assert output is not None
        return output


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    run_id = lab.train(quick_config(threads=1, recording={"layer_examples": 3}))
    with client_of(lab.settings) as client:
        yield World(lab, client, run_id)


def test_recorded_layers_are_listed_with_their_steps(world: World) -> None:
    answer = told(world.get(), shapes.RecordedLayers)
    layers = {layer["layer"]: layer for layer in answer["layers"]}
    assert layers[LAYER]["shape"] == [3, 32, 4, 4]
    assert layers["head"]["full_shape"] == [3, 10]
    assert layers[LAYER]["steps"] == answer["steps"] == [0, 1, 2, 4, 8, 16, 32, 46]
    assert answer["bytes"] > 1000


def test_one_example_is_sent_as_json_the_last_step_by_default(world: World) -> None:
    answer = told(world.get(f"/{LAYER}"), shapes.LayerOutput)
    stored = world.stored(46)
    assert (answer["step"], answer["example"], answer["examples"]) == (46, 0, 3)
    assert (answer["shape"], answer["full_shape"]) == ([32, 4, 4], [3, 32, 4, 4])
    assert (answer["low"], answer["high"]) == (stored.low, stored.high)
    assert np.array_equal(np.float32(answer["values"]), stored.values()[0])


def test_step_and_example_can_be_chosen(world: World) -> None:
    answer = told(world.get("/head", step=8, example=2), shapes.LayerOutput)
    assert np.array_equal(np.float32(answer["values"]), world.stored(8, "head").values()[2])
    other = told(world.get("/head", step=16, example=2), shapes.LayerOutput)
    assert other["values"] != answer["values"]


def test_an_npz_holds_every_example_and_loads_without_pickle(world: World) -> None:
    answer = world.get(f"/{LAYER}", step=4, format="npz")
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as archive:
        assert archive["values"].shape == (3, 32, 4, 4)
        assert archive["values"].dtype == np.float32
        assert int(archive["step"]) == 4
        for example in range(3):
            as_json = told(world.get(f"/{LAYER}", step=4, example=example), shapes.LayerOutput)
            assert np.array_equal(archive["values"][example], np.float32(as_json["values"]))
        assert np.array_equal(archive["quantised"], world.stored(4).quantised)


def test_a_download_has_a_name_that_no_system_misreads(world: World) -> None:
    answer = world.get(f"/{LAYER}", step=0, format="npz")
    name = f"run-{world.run_id}-block2.conv-step-0.npz"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'


def test_a_strange_layer_name_cannot_break_out_of_a_header(world: World) -> None:
    strange = 'a"b\r\nX: y\\..;é'
    with writing(world.lab.engine) as connection:
        row = connection.execute(layer_outputs.select().filter_by(layer="head", step=0)).one()
        copy = {**row._mapping, "layer": strange}
        del copy["id"]
        connection.execute(layer_outputs.insert().values(copy))
    answer = world.client.get(
        f"{API}/runs/{world.run_id}/layers/a%22b%0D%0AX:%20y%5C..;%C3%A9?format=npz"
    )
    assert answer.status_code == 200, answer.text
    name = f"run-{world.run_id}-a-b--X--y-..---step-0.npz"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert "x" not in answer.headers


@pytest.mark.parametrize("name", ["a/b", "/", "a//b.c", "head/bytes/x", "a?b#c/\n"])
def test_a_layer_whose_name_has_a_slash_is_found(world: World, name: str) -> None:
    """A network may have such: torch forbids only dots in the names of its parts."""
    with writing(world.lab.engine) as connection:
        row = connection.execute(layer_outputs.select().filter_by(layer="head", step=8)).one()
        copy = {**row._mapping, "layer": name}
        del copy["id"]
        connection.execute(layer_outputs.insert().values(copy))
    address = f"/{quote(name, safe='')}"
    assert told(world.get(address), shapes.LayerOutput)["layer"] == name
    assert world.get(f"{address}/bytes").content == world.get("/head/bytes", step=8).content
    assert world.get(address, format="npz").status_code == 200


def test_a_picture_shows_every_channel_pixel_for_pixel(world: World) -> None:
    answer = world.get(f"/{LAYER}", step=46, example=1, format="png")
    assert answer.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(answer.content))
    small = mosaic(world.stored(46).quantised[1])
    factor = picture.width // small.shape[1]
    assert picture.size == (small.shape[1] * factor, small.shape[0] * factor)
    assert max(picture.size) >= 240
    assert np.array_equal(np.asarray(picture)[::factor, ::factor], small)


def test_a_mosaic_sets_channels_side_by_side_with_gaps() -> None:
    channels = np.arange(1, 13, dtype=np.uint8).reshape(3, 2, 2)
    assert mosaic(channels).tolist() == [
        [1, 2, 0, 5, 6],
        [3, 4, 0, 7, 8],
        [0, 0, 0, 0, 0],
        [9, 10, 0, 0, 0],
        [11, 12, 0, 0, 0],
    ]


def test_a_vector_is_a_picture_of_one_row(world: World) -> None:
    picture = Image.open(io.BytesIO(world.get("/head", format="png").content))
    assert picture.width == 10 * picture.height


def test_bytes_say_how_to_read_them(world: World) -> None:
    answer = world.get(f"/{LAYER}/bytes", step=32, example=2)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-step"] == "32"
    assert answer.headers["x-examples"] == "3"
    low, high = float(answer.headers["x-low"]), float(answer.headers["x-high"])
    shape = [int(side) for side in answer.headers["x-shape"].split(",")]
    levels = np.frombuffer(answer.content, np.uint8).reshape(shape).astype(np.float32)
    values = np.float32(low) + levels * ((np.float32(high) - np.float32(low)) / np.float32(255))
    assert np.array_equal(values, world.stored(32).values()[2])


def test_only_bytes_of_a_named_step_are_kept_by_browsers(world: World) -> None:
    assert world.get(f"/{LAYER}/bytes", step=32).headers["cache-control"] == "private, max-age=60"
    newest = world.get(f"/{LAYER}/bytes")
    assert newest.headers["cache-control"] == "no-cache"
    assert newest.headers["x-step"] == "46"


def test_a_mosaic_and_bytes_are_quick(world: World) -> None:
    for path, params in ((f"/{LAYER}/bytes", {}), (f"/{LAYER}", {"format": "png"})):
        ask = functools.partial(world.get, path, step=46, **params)
        assert min(seconds_of(ask) for _ in range(5)) < 0.05


@pytest.mark.parametrize("suffix", ["", "/bytes"])
def test_what_is_not_there_is_refused_with_what_is(world: World, suffix: str) -> None:
    layer = refusal(world.get(f"/block9{suffix}"), 404)
    assert layer.startswith("there is no recorded layer 'block9'; there are: block1.conv, block1")
    assert f", {LAYER}, " in layer
    step = refusal(world.get(f"/{LAYER}{suffix}", step=3), 404)
    assert step == f"layer {LAYER} was not recorded at step 3; it was at 0, 1, 2, 4, 8, 16, 32, 46"
    example = refusal(world.get(f"/{LAYER}{suffix}", example=3), 404)
    assert example == "there is no example 3; there are 0 to 2"
    call = refusal(world.get(f"/{LAYER}{suffix}", call=1), 404)
    assert call == f"there is no call of layer {LAYER} numbered '1'; there are: 0"


@pytest.mark.parametrize(
    "params", [{"step": -1}, {"step": 2**63}, {"example": "x"}, {"format": "gif"}, {"call": -1}]
)
def test_a_question_that_makes_no_sense_is_refused(world: World, params: dict[str, Any]) -> None:
    assert next(iter(params)) in refusal(world.get(f"/{LAYER}", **params), 422)


def test_a_run_without_layers_says_so(world: World) -> None:
    run_id = world.lab.add(tiny_config())
    answer = told(world.client.get(f"{API}/runs/{run_id}/layers"), shapes.RecordedLayers)
    assert answer == {"layers": [], "steps": [], "bytes": 0}
    missing = world.client.get(f"{API}/runs/{run_id}/layers/head")
    assert refusal(missing, 404) == "there is no recorded layer 'head'; there are: none"
