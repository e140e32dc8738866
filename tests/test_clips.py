"""Clips on the whole way: a run of them is configured, recorded, shown and read back."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from lab import Lab, changed
from PIL import Image
from server import API, client_of, told

from app.api import shapes
from app.forms import config_data, of_config, of_items, values_of
from app.models import Status
from app.mosaic import all_planes, mosaic
from trainer.check import check, facts
from trainer.config import RunConfig
from trainer.models import SmallCnn
from trainer.recipes import recipe
from trainer.tasks import MovingDigits
from trainer.tricks import TRICKS, RandomShift

TINY: dict[str, Any] = {
    "task": {"digits": (0, 1), "frames": 8, "clips_of_each": 4},
    "model": {"width": 2},
    "loader": {"batch_size": 16},
    "budget": {"epochs": 1},
    "recording": {"layer_examples": 2, "layer_steps": "end"},
    "threads": 1,
}


def tiny_clips(**changes: Any) -> RunConfig:
    """The P3D at its smallest on a few clips: two steps."""
    return changed(changed(recipe("moving-digits-p3d").config, **TINY), **changes)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    run_id = lab.train(tiny_clips(), name="clips")
    assert lab.run(run_id).status == Status.FINISHED
    return lab


@pytest.fixture(scope="module")
def client(lab: Lab) -> Iterator[TestClient]:
    with client_of(lab.settings) as client:
        yield client


# -- what is recorded -----------------------------------------------------------------------


def test_outputs_of_clips_are_kept_with_their_frames(client: TestClient) -> None:
    layers = told(client.get(f"{API}/runs/1/layers"), shapes.RecordedLayers)["layers"]
    found = {(layer["layer"], layer["call"]): layer["full_shape"] for layer in layers}
    assert found["conv", 0] == [2, 2, 8, 8, 8]
    assert found["stage1.0.space", 0] == [2, 2, 4, 4, 4]
    assert found["stage4.0.space", 0] == [2, 16, 1, 1]
    assert found["halve", 0] != found["halve", 1]
    # every call of a layer that is used repeatedly
    assert [call for layer, call in found if layer == "stage1.0.relu"] == [0, 1, 2, 3]


def test_an_output_of_clips_is_read_with_all_its_axes(client: TestClient) -> None:
    answer = told(client.get(f"{API}/runs/1/layers/conv"), shapes.LayerOutput)
    assert answer["shape"] == [2, 8, 8, 8]
    assert np.array(answer["values"]).shape == (2, 8, 8, 8)
    raw = client.get(f"{API}/runs/1/layers/conv/bytes")
    assert (raw.headers["x-shape"], len(raw.content)) == ("2,8,8,8", 2 * 8 * 8 * 8)
    packed = client.get(f"{API}/runs/1/layers/conv?format=npz").content
    with np.load(io.BytesIO(packed)) as archive:
        assert archive["values"].shape == (2, 2, 8, 8, 8)


def test_statistics_are_of_every_layer_and_call(lab: Lab) -> None:
    assert len(lab.points(1, "spread", "stage2.0.time")) == 1
    assert len(lab.points(1, "zeros", "stage2.0.relu#4")) == 1


# -- what is shown --------------------------------------------------------------------------


def test_every_tab_of_a_run_of_clips_is_shown(client: TestClient) -> None:
    for tab in ("", "/layers", "/results", "/evidence", "/timeline", "/log", "/config"):
        page = client.get(f"/runs/1{tab}")
        assert page.status_code == 200, tab
    page = client.get("/runs/1/layers?layer=stage1.0.time").text
    assert "2×4×4×4" in page
    assert 'id="time"' in page


def test_a_probe_example_shows_all_its_frames_side_by_side(client: TestClient) -> None:
    answer = client.get("/runs/1/probe/1.png")
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    clips = MovingDigits(**TINY["task"]).load(folders_of(client)).test.inputs[:2].numpy()
    assert clips.max() == 16
    levels = np.rint(clips[1] * (255 / 16)).astype(np.int64)
    # eight frames of 16x16, three in a row
    factor = picture.shape[0] // (3 * 17 - 1)
    assert picture.shape == ((3 * 17 - 1) * factor, (3 * 17 - 1) * factor)
    small = picture[::factor, ::factor].astype(np.int64)
    for frame in range(8):
        top, left = frame // 3 * 17, frame % 3 * 17
        shown = small[top : top + 16, left : left + 16]
        # normalised and back, a level may be rounded the other way
        assert np.abs(shown - levels[0, frame]).max() <= 1
    assert (levels[0, 0] != levels[0, 1]).any()


def folders_of(client: TestClient) -> Any:
    return client.app.state.settings.data_folders  # type: ignore[attr-defined]


def test_a_mosaic_of_a_clip_has_a_plane_for_every_channel_and_frame() -> None:
    clips = np.arange(1, 2 * 3 * 2 * 2 + 1, dtype=np.uint8).reshape(2, 3, 2, 2)
    picture = mosaic(all_planes(clips))
    assert sorted(picture[picture > 0].tolist()) == list(range(1, 25))
    # a frame stays together
    assert picture[:2, :2].tolist() == [[1, 2], [3, 4]]
    assert picture[:2, 3:5].tolist() == [[5, 6], [7, 8]]


# -- what is chosen -------------------------------------------------------------------------


def test_clips_go_through_the_form_with_their_choices_of_numbers() -> None:
    config = tiny_clips(model={"depth": 63})
    values = values_of(config)
    assert (values["model.p3d.depth"], values["task.moving_digits.frames"]) == ("63", "8")
    assert RunConfig.model_validate(config_data(values)) == config
    filled = of_config(config)
    depth = next(i for i in filled_inputs("p3d") if i.name == "model.p3d.depth")
    assert depth.options == ("17", "63", "131", "199")
    assert filled.value(depth) in depth.options
    wrong = of_items((values | {"model.p3d.depth": "64"}).items())
    assert "63" in wrong.errors["model.p3d.depth"]


def filled_inputs(model: str) -> Any:
    from app.forms import choice

    return next(one for one in choice("model").variants if one.name == model).inputs


def test_a_form_of_clips_has_a_panel(client: TestClient) -> None:
    page = client.get("/runs/new?recipe=moving-digits-p3d")
    assert page.status_code == 200
    assert "P3D" in page.text
    answer = client.post("/runs/new/check", data=values_of(tiny_clips()))
    assert answer.json()["errors"] == {}
    assert "2×8×8×8" in answer.json()["panel"]


def test_a_model_for_pictures_refuses_clips_and_names_another() -> None:
    config = tiny_clips().model_copy(update={"model": SmallCnn()})
    assert "small_cnn needs pictures (C, H, W)" in check(config)[0].message


@pytest.mark.parametrize(
    ("loader", "said"),
    [
        ({"batch_size": 1}, "a batch has one example"),
        ({"batch_size": 31}, "the last batch has one example"),
    ],
)
def test_a_batch_of_one_small_clip_is_refused_as_torch_would(
    loader: dict[str, Any], said: str
) -> None:
    config = tiny_clips(loader=loader)
    (problem,) = check(config)
    assert problem.field == "loader.batch_size"
    assert said in problem.message
    assert "stage3.0" in problem.message or "stage4.0" in problem.message
    task = config.task.facts()
    network = config.model.build(task.input_shape, task.outputs)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network.train()(torch.rand(1, *task.input_shape))
    assert check(tiny_clips(loader={"batch_size": 31, "drop_last": True})) == ()


def test_a_trick_that_moves_images_refuses_clips_with_words() -> None:
    config = tiny_clips().model_copy(update={"tricks": (RandomShift(),)})
    (problem,) = check(config)
    assert problem.field == "tricks.0.pixels"
    assert "and the inputs are 1x8x16x16; switch it off" in problem.message


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
def test_every_trick_trains_on_clips_or_is_refused_before(trick: Any, lab: Lab) -> None:
    settings = {"freeze": {"layers": "stage1"}, "starting_weights": {"source": "clips"}}
    chosen = trick(**settings.get(trick.model_fields["name"].default, {}))
    config = tiny_clips(recording={"layer_steps": "never"})
    config = config.model_copy(update={"tricks": (chosen,)})
    if check(config):
        return
    assert lab.run(lab.train(config)).status == Status.FINISHED


def test_the_largest_p3d_is_told_of_before_it_is_built() -> None:
    told = facts(tiny_clips(model={"depth": 199, "width": 64}))
    # that of the paper with 1 channel instead of 3 and 8 classes instead of 400
    assert told.parameters == 66_492_240 - 2 * 7 * 7 * 64 - 392 * 2049
    assert told.recorded_layers == 460
