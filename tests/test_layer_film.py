"""Films of layers and differences between outputs, over the API; and videos, made by hand."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fastapi.testclient import TestClient
from lab import Lab, quick_config
from PIL import Image
from server import API, client_of, refusal, told

from app.api import shapes
from app.difference import difference
from app.film import MOST_PIXELS, Frame, animation, chosen_steps
from app.mosaic import mosaic, planes_of
from app.palette import PALETTE
from trainer.store.database import reading, writing
from trainer.store.reader import StoredOutput, read_layer_output
from trainer.store.writer import LayerOutput, Writer

LAYER = "block2.conv"
STEPS = [0, 1, 2, 4, 8, 16, 32, 46]
VIDEO = "video"
TIMES = 5


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Two trained runs; the first also has a video layer, called twice, of three steps."""
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    lab.train(quick_config(threads=1, recording={"layer_examples": 3}))
    lab.train(quick_config(threads=1, seed=7, recording={"layer_examples": 3}))
    outputs = [video(step, call) for step in (0, 8, 46) for call in (0, 1)]
    with writing(lab.engine) as connection:
        Writer(1).add_layer_outputs(connection, outputs)
    return lab


def video(step: int, call: int) -> LayerOutput:
    """Two examples of three channels, five times and 6 x 7 pixels."""
    shape = (2, 3, TIMES, 6, 7)
    levels = np.random.default_rng(step + call).integers(0, 256, shape).astype(np.uint8)
    return LayerOutput(VIDEO, call, step, shape, "float32", -1.0, 1.0 + step, levels)


@pytest.fixture(scope="module")
def client(lab: Lab) -> Iterator[TestClient]:
    with client_of(lab.settings) as client:
        yield client


def stored(lab: Lab, step: int, layer: str = LAYER, run: int = 1, call: int = 0) -> StoredOutput:
    with reading(lab.engine) as connection:
        output = read_layer_output(connection, run, layer, step, call)
    assert output is not None
    return output


def ask(client: TestClient, path: str, **params: Any) -> Any:
    return client.get(f"{API}/runs/1/layers/{path}", params=params)


def levels_of(answer: Any) -> npt.NDArray[np.uint8]:
    shape = [int(side) for side in answer.headers["x-shape"].split(",")]
    return np.frombuffer(answer.content, np.uint8).reshape(shape)


# -- films ----------------------------------------------------------------------------------


def test_a_film_is_one_channel_at_every_step(client: TestClient, lab: Lab) -> None:
    answer = ask(client, f"{LAYER}/film", channel=5, example=2)
    assert answer.headers["x-steps"] == ",".join(map(str, STEPS))
    outputs = [stored(lab, step) for step in STEPS]
    assert np.array_equal(levels_of(answer), [output.quantised[2, 5] for output in outputs])
    for header, expected in (
        ("x-lows", [output.low for output in outputs]),
        ("x-highs", [output.high for output in outputs]),
    ):
        assert [np.float32(text) for text in answer.headers[header].split(",")] == expected


def test_the_film_of_a_vector_is_all_of_it(client: TestClient, lab: Lab) -> None:
    film = levels_of(ask(client, "head/film", example=1))
    assert film.shape == (8, 1, 10)
    assert np.array_equal(film[3, 0], stored(lab, 4, "head").quantised[1])


def test_the_film_of_a_video_is_at_one_time_and_of_one_call(client: TestClient, lab: Lab) -> None:
    film = levels_of(ask(client, f"{VIDEO}/film", channel=2, example=1, time=4, call=1))
    expected = [stored(lab, step, VIDEO, call=1).quantised[1, 2, 4] for step in (0, 8, 46)]
    assert np.array_equal(film, expected)


@pytest.mark.parametrize(
    ("path", "params", "sentence"),
    [
        (LAYER, {"channel": 32}, f"layer {LAYER} keeps no channel 32; there are 0 to 31"),
        ("head", {"channel": 1}, "layer head keeps no channel 1; there is only 0"),
        (LAYER, {"time": 1}, f"layer {LAYER} has no time 1; it is no video"),
        (VIDEO, {"time": 5}, "layer video has no time 5; there are 0 to 4"),
        (LAYER, {"example": 3}, "there is no example 3; there are 0 to 2"),
    ],
)
def test_a_film_of_what_is_not_there_is_refused(
    client: TestClient, path: str, params: dict[str, int], sentence: str
) -> None:
    assert refusal(ask(client, f"{path}/film", **params), 404) == sentence


def test_many_steps_are_shown_in_part_and_evenly() -> None:
    steps = chosen_steps(range(0, 10_000, 10))
    assert len(steps) == 64
    assert (steps[0], steps[-1]) == (0, 9990)
    gaps = np.diff(steps)
    assert gaps.max() - gaps.min() <= 10
    assert chosen_steps(STEPS) == STEPS


# -- animations -----------------------------------------------------------------------------


def test_a_webp_shows_every_step_on_one_scale(client: TestClient, lab: Lab) -> None:
    answer = ask(client, LAYER, format="webp", example=1)
    assert answer.headers["content-type"] == "image/webp"
    name = f"run-1-{LAYER}-example-1.webp"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    outputs = [stored(lab, step) for step in STEPS]
    low, high = min(one.low for one in outputs), max(one.high for one in outputs)
    moving: Any = Image.open(io.BytesIO(answer.content))
    assert moving.n_frames == len(STEPS)
    for number, output in enumerate(outputs):
        moving.seek(number)
        pixels = np.asarray(moving.convert("RGBA"))
        values = mosaic_of(output.values()[1])
        factor = pixels.shape[0] // values.shape[0]
        shown = pixels[::factor, ::factor]
        inside = ~np.isnan(values)
        levels = np.round((values[inside] - low) / (high - low) * 255).astype(int)
        # of two colours side by side either may come out where the value lies between them
        near = [PALETTE[np.clip(levels + by, 0, 255)] for by in (-1, 0, 1)]
        assert all_among(shown[inside][:, :3], near)
        assert (shown[..., 3] == np.where(inside, 255, 0)).all()


def mosaic_of(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The mosaic with values, and NaN where there is none."""
    numbers = np.arange(1, values.size + 1).reshape(values.shape)
    # the mosaic takes bytes: where each value goes is asked by way of its number, byte by byte
    parts = [mosaic((numbers >> shift & 255).astype(np.uint8)).astype(int) for shift in (0, 8)]
    places = parts[0] + (parts[1] << 8)
    return np.concatenate([[np.float32(np.nan)], values.ravel()])[places]


def all_among(colours: Any, choices: list[Any]) -> bool:
    return bool(np.any([(colours == choice).all(axis=1) for choice in choices], axis=0).all())


def test_an_animation_is_never_larger_than_it_may_be() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (256, 128, 128)).astype(np.uint8)
    film = [Frame(step, 0.0, 1.0, levels) for step in range(40)]
    moving: Any = Image.open(io.BytesIO(animation(film)))
    assert MOST_PIXELS * 0.9 < 40 * moving.width * moving.height <= MOST_PIXELS


def test_a_webp_of_one_step_is_refused(client: TestClient) -> None:
    told_why = refusal(ask(client, LAYER, format="webp", step=8), 422)
    assert "a webp shows every step" in told_why


# -- videos ---------------------------------------------------------------------------------


def test_of_a_video_the_planes_of_one_time_are_taken() -> None:
    video = np.arange(3 * 4 * 2 * 2, dtype=np.uint8).reshape(3, 4, 2, 2)
    assert np.array_equal(planes_of(video, 2), video[:, 2])
    assert planes_of(video[0, 0]).shape == (1, 2, 2)
    assert planes_of(video[0, 0, 0]).shape == (1, 1, 2)


def test_a_picture_of_a_video_shows_the_time_asked_for(client: TestClient, lab: Lab) -> None:
    answer = ask(client, VIDEO, format="png", time=3, example=1, step=8)
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    expected = mosaic(stored(lab, 8, VIDEO).quantised[1], 3)
    factor = picture.shape[1] // expected.shape[1]
    assert np.array_equal(picture[::factor, ::factor], expected)
    refused = refusal(ask(client, VIDEO, format="png", time=TIMES), 404)
    assert refused == "layer video has no time 5; there are 0 to 4"


# -- differences ----------------------------------------------------------------------------


def test_two_steps_are_subtracted(client: TestClient, lab: Lab) -> None:
    answer = ask(client, f"{LAYER}/difference", step=46, against="step:8", example=2)
    found = told(answer, shapes.LayerDifference)
    one, other = (stored(lab, step).values()[2] for step in (46, 8))
    assert np.array_equal(np.float32(found["values"]), one - other)
    assert found["most"] == np.abs(one - other).max()
    flat, flat_other = one.ravel().astype(float), other.ravel().astype(float)
    relative = np.sqrt(np.square(flat - flat_other).sum() / np.square(flat_other).sum())
    assert found["relative"] == pytest.approx(relative, rel=1e-5)
    angle = (flat * flat_other).sum() / np.sqrt((flat**2).sum() * (flat_other**2).sum())
    assert found["cosine"] == pytest.approx(angle, rel=1e-5)
    assert (found["against_run"], found["against_step"], found["shape"]) == (1, 8, [32, 4, 4])


def test_another_run_is_taken_at_the_nearest_step(client: TestClient, lab: Lab) -> None:
    outputs = [video(step, 0) for step in (10, 20)]
    with writing(lab.engine) as connection:
        Writer(2).add_layer_outputs(connection, outputs)
    path = f"{VIDEO}/difference"
    found = told(ask(client, path, step=46, against="run:2"), shapes.LayerDifference)
    assert (found["against_run"], found["against_step"]) == (2, 20)
    one, other = stored(lab, 46, VIDEO), stored(lab, 20, VIDEO, run=2)
    assert np.array_equal(np.float32(found["values"]), one.values()[0] - other.values()[0])


def test_a_difference_as_bytes_has_its_zero_in_the_middle(client: TestClient) -> None:
    params = {"step": 46, "against": "step:0", "example": 1}
    found = ask(client, f"{LAYER}/difference", **params).json()
    answer = ask(client, f"{LAYER}/difference", **params, format="bytes")
    most = float(answer.headers["x-most"])
    values = (levels_of(answer).astype(float) - 128) / 127 * most
    assert np.abs(values - np.array(found["values"])).max() <= most / 127 / 2 * 1.001
    assert np.abs(values).max() == pytest.approx(most)
    assert float(answer.headers["x-relative"]) == found["relative"]
    assert float(answer.headers["x-cosine"]) == found["cosine"]
    assert answer.headers["x-against-step"] == "0"


def test_nothing_differs_from_itself(client: TestClient) -> None:
    found = ask(client, f"{LAYER}/difference", step=8, against="step:8").json()
    assert (found["most"], found["relative"]) == (0, 0)
    assert found["cosine"] == pytest.approx(1)
    bytes_ = ask(client, f"{LAYER}/difference", step=8, against="step:8", format="bytes")
    assert set(bytes_.content) == {128}


def test_an_output_of_zeros_has_no_angle() -> None:
    found = difference(np.ones(3, np.float32), np.zeros(3, np.float32))
    assert (found.relative, found.cosine, found.most) == (None, None, 1.0)


@pytest.mark.parametrize(
    ("against", "status", "sentence"),
    [
        ("step:3", 404, f"layer {LAYER} was not recorded at step 3; it was at 0, 1, 2, 4"),
        ("run:77", 404, "there is no run 77"),
        ("epoch:1", 422, "against"),
        ("run:x", 422, "against"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    client: TestClient, against: str, status: int, sentence: str
) -> None:
    assert sentence in refusal(ask(client, f"{LAYER}/difference", against=against), status)


def test_outputs_of_different_shapes_are_not_subtracted(client: TestClient, lab: Lab) -> None:
    levels = np.zeros((3, 4), np.uint8)
    with writing(lab.engine) as connection:
        odd = LayerOutput("head", 0, 99, (3, 4), "float32", 0.0, 1.0, levels)
        Writer(1).add_layer_outputs(connection, [odd])
    answer = ask(client, "head/difference", step=99, against="step:46")
    assert "of different shapes, 4 and 10" in refusal(answer, 409)
    # and what has another shape than the last is not in a film
    assert ask(client, "head/film").headers["x-steps"] == "99"
