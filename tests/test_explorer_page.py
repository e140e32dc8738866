"""The explorer of layers: its tree and costs against the networks themselves, and its page."""

import json
import re
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html import unescape
from typing import Any, ClassVar, Literal
from urllib.parse import urlencode

import pytest
import torch
from fastapi.testclient import TestClient
from lab import Lab
from playwright.sync_api import Browser, Page, expect
from server import API, client_of, listening
from test_browser import PATIENCE_MS, Window, barriers, browser
from test_catalogue import FITTING, name
from test_flops import CalledAgain
from torch import nn

from app import forms
from app.explorer import Explored, Row, explored, other_outputs
from app.explorer_form import explorer_form
from app.pages.explorer import PARTS, rendered
from app.pages.templates import amount, size
from trainer.anatomy import anatomy, examined
from trainer.check import facts
from trainer.config import Recording, RunConfig
from trainer.models import Mlp, Model, ResNet20, SmallCnn, UNet
from trainer.recipes import RECIPES
from trainer.tasks import Task

__all__ = ["browser"]

Typed = Mapping[str, Any]


def items(typed: Typed) -> list[tuple[str, str]]:
    return [
        (key, one)
        for key, value in typed.items()
        for one in (value if isinstance(value, list) else [value])
    ]


def seen(**typed: Any) -> Explored:
    """What the page shows; names with dots are given with two underscores."""
    return explored(explorer_form(items({k.replace("__", "."): v for k, v in typed.items()})))


def rows(found: Explored) -> dict[str, Row]:
    return {row.layer.path: row for row in found.rows}


# -- the tree -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "task"), FITTING, ids=[f"{name(m)}-{name(t)}" for m, t in FITTING]
)
def test_every_model_is_shown_as_its_tree(model: Model, task: Task) -> None:
    found = seen(model__name=name(type(model)), task__name=name(type(task)))
    assert found.errors == {}
    network = model.build(task.facts().input_shape, task.facts().outputs)
    modules = {path: module for path, module in network.named_modules() if path}
    assert list(rows(found)) == list(modules)
    for path, row in rows(found).items():
        assert row.parameters == sum(p.numel() for p in modules[path].parameters()), path
    assert found.totals is not None
    assert found.totals.parameters == sum(p.numel() for p in network.parameters())
    assert found.totals.trainable == found.totals.parameters
    top = [row for row in found.rows if not row.layer.depth]
    assert sum(row.flops or 0 for row in top) == found.totals.flops > 0


def test_all_outputs_of_a_batch_are_those_of_a_real_pass() -> None:
    found = seen(model__name="small_cnn", task__name="digits", batch="5")
    network = SmallCnn().build((1, 8, 8), 10)
    given: list[int] = []
    for module in network.modules():
        if not [*module.children()]:
            module.register_forward_hook(lambda m, i, output: given.append(output.nbytes))
    network(torch.randn(5, 1, 8, 8))
    assert found.totals is not None
    assert found.totals.batch_bytes == sum(given)


def test_outputs_that_differ_from_call_to_call_are_all_told() -> None:
    given = {
        layer.path: other_outputs(layer)
        for layer in anatomy(CalledAgain().to("meta"), (1, 8, 6, 6))
    }
    assert given == {
        "conv": "",
        "relu": "1x4x8x6x6, 1x4x4x6x6",
        "halve": "1x4x4x6x6, 1x4x2x6x6",
        # the frames of a clip lie in the batch
        "frame": "2x2x4x4",
    }
    assert not any(row.other_outputs for row in seen(model__name="resnet20").rows)


def test_what_the_trick_would_freeze_is_marked_with_its_containers() -> None:
    found = seen(model__name="resnet20", tricks__freeze__layers="stage1, stage2.*.conv1")
    marked = {path: row.frozen for path, row in rows(found).items() if row.frozen}
    assert marked["stage1"] == marked["stage1.2.norm1"] == "frozen"
    assert marked["stage2"] == marked["stage2.0"] == "partly frozen"
    assert marked["stage2.0.conv1"] == "frozen"
    assert not {"stage3", "head", "stage2.0.conv2", "stage1.0.relu1"} & set(marked)
    network = ResNet20().build((1, 8, 8), 10)
    frozen = re.compile(r"stage1\..*|stage2\.\d\.conv1\.weight")
    still = [p for path, p in network.named_parameters() if frozen.fullmatch(path)]
    assert found.totals is not None
    assert found.totals.parameters - found.totals.trainable == sum(p.numel() for p in still)


def test_freezing_without_names_leaves_the_last_layer() -> None:
    found = seen(model__name="small_cnn", tricks__freeze__on="on")
    assert found.totals is not None
    assert found.totals.trainable == rows(found)["head"].parameters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stage3.*.conv2", {f"stage3.{n}.conv2" for n in range(3)}),
        ("Linear", {"head"}),
        ("stage2 conv1", {f"stage2.{n}.conv1" for n in range(3)}),
        ("stage?.0.conv? conv2d", {f"stage{s}.0.conv{c}" for s in (1, 2, 3) for c in (1, 2)}),
        ("head, nothing", set()),
        ("conv[12]", set()),
    ],
)
def test_a_search_takes_words_and_patterns(text: str, expected: set[str]) -> None:
    found = seen(model__name="resnet20", find=text)
    hits = {path for path, row in rows(found).items() if row.is_found}
    assert hits == expected
    assert found.found == len(expected)
    around = {path.rpartition(".")[0] for path in hits} | {path.split(".")[0] for path in hits}
    assert set(rows(found)) == hits | around - {""}
    assert not any(row.is_folded for row in found.rows)


def test_what_was_searched_for_can_be_recorded_once() -> None:
    found = seen(model__name="resnet20", find="stage?.0.conv* conv2d head")
    assert found.searched == ("stage?.0.conv*",)
    again = seen(find="stage?.0.conv*", recording__layers="head, stage?.0.conv*")
    assert again.searched == ()


def test_a_large_tree_begins_closed_but_for_what_is_ticked() -> None:
    found = seen(model__name="resnet20", pick="stage2.1.conv1")
    shown = [path for path, row in rows(found).items() if not row.is_folded]
    inside = [f"stage2.1.{one}{n}" for n in (1, 2) for one in ("conv", "norm", "relu")]
    blocks = ["stage2", "stage2.0", "stage2.1", *inside, "stage2.2"]
    assert shown == ["conv", "norm", "relu", "stage1", *blocks, "stage3", "head"]
    assert not any(row.is_folded for row in seen(model__name="small_cnn").rows)


# -- recording ------------------------------------------------------------------------------


def test_the_cost_is_that_of_the_run_which_the_link_fills_in() -> None:
    found = seen(
        model__name="resnet20",
        model__resnet20__width="8",
        task__name="fashion_mnist",
        recording__layers="stage?.0.conv*",
        recording__layer_examples="5",
        recording__layer_steps="every",
        recording__layers_every="7",
        recording__layer_megabytes="1",
        pick=["head", "stage1"],
        steps="100",
        batch="32",
    )
    config = RunConfig.model_validate(
        {
            "task": {"name": "fashion_mnist"},
            "model": {"name": "resnet20", "width": 8},
            "loader": {"batch_size": 32},
            "budget": {"steps": 100},
            "recording": {
                "layers": ["stage?.0.conv*", "head", "stage1"],
                "layer_examples": 5,
                "layer_steps": "every",
                "layers_every": 7,
                "layer_megabytes": 1,
            },
        }
    )
    told = facts(config)
    assert found.cost == told.recording
    assert found.early in told.warnings
    assert found.early
    assert sum(one.kept for one in found.chosen) == told.recording.look_bytes
    assert sum(one.whole for one in found.chosen) == told.recording.batch_bytes
    assert json.loads(found.snippet)["recording"]["layers"] == list(config.recording.layers)
    ticked = {path for path, row in rows(found).items() if row.is_ticked}
    assert ticked == {"head", "stage1"}
    by_pattern = {path for path, row in rows(found).items() if row.by_pattern}
    assert by_pattern == {f"stage{s}.0.conv{c}" for s in (1, 2, 3) for c in (1, 2)}


def test_layers_that_another_model_has_not_are_told_and_no_longer_ticked() -> None:
    found = seen(model__name="mlp", pick=["head", "1"])
    assert (found.lost, found.form.picks) == (["head"], ("1",))
    assert found.errors == {}
    assert [one.layer.path for one in found.chosen] == ["1"]


# -- without a weight, and fast -------------------------------------------------------------


def test_a_network_of_billions_of_weights_takes_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = seen(
        model__name="unet",
        model__unet__width="256",
        model__unet__levels="6",
        task__name="shape",
        shape="3, 512, 512",
    )
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert found.totals is not None
    assert found.totals.weight_bytes > 4 * 10**9
    assert grown < 200 * 10**6
    network = examined(UNet(width=256, levels=6), (3, 512, 512), 10).network
    assert all(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))


def test_the_deepest_network_for_clips_is_told_before_anybody_builds_it() -> None:
    found = seen(
        model__name="p3d",
        model__p3d__depth="199",
        model__p3d__width="64",
        task__name="shape",
        shape="3, 16, 160, 160",
        outputs="400",
        recording__layers="*",
    )
    assert found.errors == {}
    assert found.totals is not None
    assert (found.totals.layers, found.totals.output_shape) == (518, (400,))
    assert round(found.totals.batch_bytes / 2**30, 1) == 9.3
    relu = rows(found)["stage1.0.relu"]
    assert (relu.layer.calls, relu.other_outputs.count(",")) == (4, 3)
    assert found.cost is not None
    # a byte instead of four, of half as many clips, with smaller sides
    assert found.cost.look_bytes < found.totals.batch_bytes / 8
    assert "not even the first" in found.early


class Tall(Model):
    """As many modules as the deepest network for clips, and some more."""

    title: ClassVar[str] = "Tall"
    name: Literal["tall"] = "tall"

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        def block() -> nn.Module:
            return nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.ReLU())

        return nn.Sequential(*(nn.Sequential(*(block() for _ in range(50))) for _ in range(4)))


def test_hundreds_of_layers_are_shown_in_a_moment() -> None:
    form = replace(explorer_form([("recording.layers", "*")]), model=Tall())
    found = explored(form)
    assert len(found.rows) > 700
    assert {one.layer.path for one in found.chosen} == {
        row.layer.path for row in found.rows if row.layer.is_leaf
    }

    def once() -> float:
        begun = time.perf_counter()
        again = explored(form)
        assert all(rendered(part, again) for part in PARTS)
        return time.perf_counter() - begun

    # 60 ms by itself; others compute meanwhile
    assert min(once() for _ in range(5)) < 0.25


# -- the page -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client_of(Lab.at(tmp_path_factory.mktemp("lab")).settings) as client:
        yield client


def got(client: TestClient, typed: Typed) -> str:
    answer = client.get(f"/lab/layers?{urlencode(items(typed))}")
    assert answer.status_code == 200
    return unescape(answer.text)


@pytest.mark.parametrize(
    ("typed", "field", "said"),
    [
        ({"model.name": "vgg"}, "model.name", "there is no 'vgg' here"),
        ({"task.name": "mnist"}, "task.name", "there is no 'mnist' here"),
        (
            {"model.name": "small_cnn", "task.name": "breast_cancer"},
            "model.name",
            "choose mlp",
        ),
        (
            {"model.name": "unet", "task.name": "shape", "shape": "3, 30, 30"},
            "model.name",
            "sides divide by 4",
        ),
        ({"task.name": "shape", "shape": "three"}, "shape", "is no size"),
        ({"task.name": "shape", "shape": "3, 0, 8"}, "shape", "no axis of size 0"),
        ({"task.name": "shape", "shape": "()"}, "shape", "one to 5 axes"),
        ({"task.name": "shape", "shape": "99999, 99999"}, "shape", "at most 2,147,483,648"),
        ({"task.name": "shape", "outputs": "0"}, "outputs", "greater than or equal to 1"),
        ({"model.resnet20.width": "3"}, "model.resnet20.width", "multiple of 2"),
        ({"tricks.freeze.layers": "stem"}, "tricks.freeze.layers", "no layer with weights"),
        ({"tricks.freeze.layers": "*"}, "tricks.freeze.layers", "nothing to train"),
        ({"tricks.freeze.layers": "<b>"}, "tricks.freeze.layers", "should match pattern"),
        ({"recording.layers": "stem.*"}, "recording.layers", "no layer of this model matches"),
        ({"recording.layers": "<b>"}, "recording.layers", "should match pattern"),
        ({"recording.layers": "a " * 65}, "recording.layers", "at most 64"),
        ({"recording.layer_examples": "65"}, "recording.layer_examples", "less than or equal"),
        ({"steps": "none"}, "steps", "valid integer"),
        ({"batch": "-1"}, "batch", "greater than or equal to 1"),
        ({"find": "x" * 201}, "find", "at most 200"),
    ],
    ids=lambda value: next(iter(value.values()))[:20] if isinstance(value, dict) else "",
)
def test_what_cannot_be_shown_is_told_beside_its_field_and_stays_typed(
    client: TestClient, typed: Typed, field: str, said: str
) -> None:
    page = got(client, typed)
    spot = re.search(rf'data-for="{re.escape(field)}" role="alert">([^<]*)<', page)
    assert spot is not None
    assert said in spot[1]
    if not field.endswith(".name"):
        value = re.search(rf'<input[^>]*name="{re.escape(field)}"[^>]*>', page)
        assert value is not None
        assert f'value="{typed[field]}"' in page
        assert 'aria-invalid="true"' in value[0]
    answer = client.get(f"/lab/layers/parts?{urlencode(items(typed))}").json()
    assert said in answer["errors"][field]


def test_a_wrong_pattern_leaves_the_tree(client: TestClient) -> None:
    answer = client.get("/lab/layers/parts?recording.layers=stem").json()
    assert list(answer["errors"]) == ["recording.layers"]
    assert "stage1" in answer["parts"]["tree"]
    assert "Use in a new run" not in answer["parts"]["chosen"]
    assert client.get("/lab/layers/parts?model.name=vgg").json()["parts"] == {}


def test_the_page_holds_the_numbers(client: TestClient) -> None:
    page = got(client, {"model.name": "mlp", "recording.layers": "1", "pick": "5"})
    weights = 64 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
    operations = 2 * (64 * 128 + 128 * 64 + 64 * 10) + 128 + 64
    assert f'data-fact="parameters" title="{weights:,}"'.replace(",", " ") in page
    assert f'data-fact="flops" title="{operations:,}"'.replace(",", " ") in page
    assert f">{amount(operations)}<" in page
    # 8 examples of 128 and of 10 values, 11 looks and the end in 1000 steps, 64 pixels of input
    assert f'title="{8 * 138:,} B"'.replace(",", " ") in page
    assert f">{size(12 * 8 * 138 + 8 * 64)}<" in page


def test_the_link_fills_in_a_new_run(client: TestClient) -> None:
    found = seen(
        model__name="small_cnn",
        model__small_cnn__width="4",
        task__name="fashion_mnist",
        recording__layers="block*.conv",
        recording__layer_examples="3",
        tricks__freeze__layers="block1",
        pick="head",
    )
    page = client.get(found.new_run)
    assert page.status_code == 200
    text = unescape(page.text)
    assert "Nothing was queued" not in text
    shown = re.search(r'<details class="program"><summary>JSON</summary><pre[^>]*>(.*?)</pre>',
                      text, re.DOTALL)  # fmt: skip
    assert shown is not None
    config = RunConfig.model_validate_json(shown[1])
    assert config.model == SmallCnn(width=4)
    assert config.task.name == "fashion_mnist"
    assert config.recording.layers == ("block*.conv", "head")
    assert config.recording.layer_examples == 3
    assert [(t.name, getattr(t, "layers", "")) for t in config.tricks] == [("freeze", "block1")]
    assert facts(config).recording.look_bytes == (found.cost and found.cost.look_bytes)


def test_layers_alone_can_be_given_to_a_new_run(client: TestClient) -> None:
    page = unescape(client.get("/runs/new?recipe=digits-cnn&layers=block2.conv&colour=red").text)
    assert 'name="recording.layers"' in page
    assert 'value="block2.conv"' in page
    wrong = unescape(client.get("/runs/new?recipe=digits-cnn&layers=stem").text)
    assert "no layer of this model matches 'stem'" in wrong
    assert 'value="stem"' in wrong


def test_the_form_of_a_new_run_tells_what_recording_costs(client: TestClient) -> None:
    config = RECIPES["digits-cnn"].config
    page = unescape(client.get("/runs/new?recipe=digits-cnn").text)
    told = facts(config).recording
    assert f'data-fact="look-bytes" title="{told.look_bytes:,} B">'.replace(",", " ") in page
    assert f">{size(told.run_bytes)}<" in page
    many = {**forms.values_of(config), "recording.layer_steps": "every"}
    many |= {"recording.layers_every": "1", "recording.layer_megabytes": "1"}
    answer = client.post("/runs/new/check", data=many).json()
    assert "raise layer_megabytes" in answer["panel"]


def test_the_form_leads_to_the_explorer_of_the_same_network(client: TestClient) -> None:
    page = unescape(client.get("/runs/new?recipe=digits-cnn").text)
    link = re.search(r'href="(/lab/layers\?[^"]*)"', page)
    assert link is not None
    found = explored(
        explorer_form([*client.build_request("GET", link[1]).url.params.multi_items()])
    )
    assert found.errors == {}
    assert found.cost == facts(RECIPES["digits-cnn"].config).recording


def test_programs_are_told_the_same(client: TestClient) -> None:
    answer = client.post(
        f"{API}/check", json={"config": {"recording": {"layers": ["head"]}}}
    ).json()
    told = facts(RunConfig(recording=Recording(layers=("head",)))).recording
    assert answer["facts"]["recording"] == vars(told)
    assert told.look_bytes == 80
    layers = client.get(f"{API}/models/mlp/layers").json()["layers"]
    expected = examined(Mlp(), (1, 8, 8), 10).layers
    assert [layer["flops"] for layer in layers] == [layer.flops for layer in expected]
    assert layers[1]["outputs"] == [[1, 128]]


# -- in a browser ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    lab = Lab.at(tmp_path_factory.mktemp("lab"), access="off")
    with listening(lab.settings) as client:
        yield str(client.base_url).rstrip("/")


@pytest.fixture
def window(browser: Browser, address: str) -> Iterator[Window]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(PATIENCE_MS)
    found = Window(context.new_page(), address)
    found.listen()
    yield found
    context.close()
    assert found.complaints == []


def visible(page: Page) -> list[str]:
    found = page.locator("#tree tbody tr:visible")
    return [path or "" for path in found.evaluate_all("all => all.map(one => one.dataset.path)")]


@pytest.mark.browser
def test_layers_are_found_ticked_and_taken_into_a_new_run(window: Window) -> None:
    page = window.open("/lab/layers")
    top = ["conv", "norm", "relu", "stage1", "stage2", "stage3", "head"]
    assert visible(page) == top
    page.get_by_role("button", name="Layers of stage2", exact=True).press("Enter")
    assert visible(page) == [*top[:5], "stage2.0", "stage2.1", "stage2.2", *top[5:]]
    page.select_option("[id='model.name']", "small_cnn")
    expect(page.locator("#tree tr[data-path='block1.conv']")).to_be_visible()
    page.fill("[id='model.small_cnn.width']", "8")
    expected = sum(p.numel() for p in SmallCnn(width=8).build((1, 8, 8), 10).parameters())
    expect(page.locator("[data-fact='parameters']")).to_have_text(amount(expected))
    page.fill("#find", "block2 conv2d")
    expect(page.locator("[data-fact='found']")).to_contain_text("1 of ")
    assert visible(page) == ["block2", "block2.conv"]
    box = page.get_by_label("Record block2.conv", exact=True)
    box.focus()
    page.keyboard.press("Space")
    expect(page.locator("[data-fact='look-bytes']")).to_have_text(size(8 * 16 * 4 * 4))
    expect(box).to_be_focused()
    page.fill("#find", "block?.norm")
    page.get_by_role("link", name="Record block?.norm").click()
    expect(page.locator("[data-fact='recorded']")).to_have_text("4")
    assert "pick=block2.conv" in page.url
    expect(page.get_by_label("Record block1.norm", exact=True)).to_be_disabled()
    page.get_by_role("link", name="Use in a new run").click()
    expect(page.locator("[id='recording.layers']")).to_have_value("block?.norm block2.conv")
    expect(page.locator("[id='model.small_cnn.width']")).to_have_value("8")


@pytest.mark.browser
def test_half_a_value_leaves_what_was_shown_and_says_what_is_wrong(window: Window) -> None:
    page = window.open("/lab/layers?model.name=unet&task.name=shape&shape=1,8,8")
    before = visible(page)
    page.fill("#shape", "1,8,")
    expect(page.locator("[id='error-model.name']")).to_contain_text("unet needs pictures")
    assert visible(page) == before
    page.fill("#shape", "1,8,16")
    expect(page.locator("[id='error-model.name']")).to_be_hidden()
    expect(page.locator("#totals")).to_contain_text("10×8×16")


@pytest.mark.browser
def test_it_works_without_scripts(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/lab/layers?model.name=resnet20")
    # nothing is closed that could not be opened
    assert len(visible(page)) == 70
    page.get_by_label("Record stage3.2.conv2", exact=True).check()
    page.fill("#find", "conv2")
    page.keyboard.press("Enter")
    expect(page.locator("[data-fact='found']")).to_contain_text("9 of 70")
    expect(page.locator("#chosen tbody th")).to_have_text("stage3.2.conv2")
    expect(page.get_by_label("Record stage3.2.conv2", exact=True)).to_be_checked()
    context.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_explorer_keeps_nobody_out(window: Window, scheme: Any) -> None:
    window.page.emulate_media(color_scheme=scheme)
    for typed in (
        {"recording.layers": "stage?.0.conv*", "recording.layer_megabytes": "1", "pick": "head"},
        {"find": "conv2", "tricks.freeze.layers": "stage1, stage2.0"},
        {"task.name": "shape", "shape": "2", "find": "nothing"},
    ):
        page = window.open(f"/lab/layers?{urlencode(typed)}")
        assert barriers(page) == []
        page.set_viewport_size({"width": 360, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.set_viewport_size({"width": 1280, "height": 900})
