"""Weights and gradients of layers, kept on request: over the API and on the page."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from lab import Lab, tiny_config
from server import API, BROWSER, client_of, refusal

from app.sources import data_folders
from trainer.sources import trained_by

LAYERS = f"{API}/runs/1/layers"
CONV = "block2.conv"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    views = ("channels", "weight", "gradient")
    recording = {"layer_steps": "every", "layers_every": 2, "layer_views": views}
    lab.train(tiny_config(recording=recording), name="all")
    lab.train(tiny_config(recording={"layer_steps": "end"}), name="outputs")
    lab.train(tiny_config(recording={"layer_steps": "end", "layer_views": ["weight"]}), name="w")
    return lab


@pytest.fixture
def client(lab: Lab) -> Iterator[Any]:
    with client_of(lab.settings) as found:
        yield found


def test_weights_over_the_api_are_those_of_the_checkpoint(client: Any, lab: Lab) -> None:
    sources = data_folders(lab.settings).sources
    assert sources is not None
    weight = trained_by(sources, "1").model[f"{CONV}.weight"].numpy()
    told = client.get(f"{LAYERS}/{CONV}", params={"view": "weight"}).json()
    assert told["step"] == 4
    values = np.asarray(told["values"]).reshape(weight.shape)
    assert np.abs(values - weight).max() <= (told["high"] - told["low"]) / 500


def test_each_view_lists_its_own_layers(client: Any) -> None:
    def names(view: str) -> set[str]:
        answer = client.get(LAYERS, params={"view": view}).json()
        return {one["layer"] for one in answer["layers"]}

    assert names("channels") == {one["layer"] for one in client.get(LAYERS).json()["layers"]}
    assert "flatten" in names("channels") - names("weight")
    assert names("weight") == {
        *(f"block{k}.{name}" for k in (1, 2, 3) for name in ("conv", "norm")),
        "head",
    }
    assert {CONV, "flatten", "head"} <= names("gradient")


def test_a_film_and_a_difference_are_of_the_view_that_is_asked_for(client: Any) -> None:
    film = client.get(f"{LAYERS}/{CONV}/film", params={"view": "weight"})
    assert film.headers["x-shape"] == "3,3,3"
    assert film.headers["x-steps"] == "0,2,4"
    moved = client.get(
        f"{LAYERS}/{CONV}/difference", params={"view": "weight", "against": "step:0"}
    ).json()
    assert moved["relative"] > 0.01
    picture = client.get(f"{LAYERS}/{CONV}", params={"view": "gradient", "format": "webp"})
    assert picture.headers["content-type"] == "image/webp"


def test_what_was_not_kept_or_has_no_weights_is_told(client: Any) -> None:
    none = client.get(f"{API}/runs/2/layers/{CONV}", params={"view": "gradient"})
    assert "recorded gradient of a layer" in refusal(none, 404)
    without = client.get(f"{LAYERS}/flatten", params={"view": "weight"})
    assert "block1.conv" in refusal(without, 404)
    assert client.get(LAYERS, params={"view": "dreams"}).status_code == 422


def test_the_page_offers_the_views_that_a_run_kept(client: Any) -> None:
    client.headers.update(BROWSER)
    page = client.get("/runs/1/layers?view=weight").text
    assert 'data-view="weight"' in page
    assert page.count('aria-label="What of the layer"') == 1
    assert 'view=gradient">Gradients</a>' in page
    # one without weights: another layer is shown
    assert client.get("/runs/1/layers?view=weight&layer=flatten").status_code == 200
    assert "What of the layer" not in client.get("/runs/2/layers").text
    assert 'data-view="weight"' in client.get("/runs/3/layers").text
