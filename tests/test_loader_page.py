"""The bench of the loader: its form, its pipeline, what it asks, and what its page shows."""

import json
import re
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlencode

import pytest
import torch
from fastapi.testclient import TestClient
from lab import Lab, tiny_config
from playwright.sync_api import Browser, Page, expect, sync_playwright
from server import Served, client_of, end_workers, serving, wait_for
from test_browser import CHROMIUM, OFFLINE, PATIENCE_MS, Window, barriers

from app.batches_view import batch_remarks, picture_address
from app.inquiries import desk
from app.loader_form import STATIONS, Wanted, config_of, loader_form
from app.pages.inquiries import fragment
from app.pipeline import pipeline
from app.settings import Settings
from app.sweep_chart import sweep_chart
from trainer.batches import EpochOrder
from trainer.check import check
from trainer.loader import Loader
from trainer.part import name_of
from trainer.store.database import reading, writing
from trainer.tasks import TASKS, DataFolders, Digits

# -- the form -------------------------------------------------------------------------------


def test_every_task_can_be_chosen_and_has_a_training_that_fits() -> None:
    names = get_args(Wanted.model_fields["task"].annotation)
    assert set(names) == set(map(name_of, TASKS))
    for name in names:
        assert check(config_of(Wanted(task=name), Loader())) == ()


def test_every_option_has_its_place_in_the_form_once() -> None:
    placed = [name for names in STATIONS.values() for name in names]
    assert sorted(placed) == sorted([*Wanted.model_fields, *Loader.model_fields])


@pytest.mark.parametrize(
    ("typed", "field", "said"),
    [
        ({"batch_size": "0"}, "batch_size", "greater than or equal to 1"),
        ({"batch_size": "many"}, "batch_size", "valid integer"),
        ({"batch_size": "5000", "drop_last": "on"}, "batch_size", "leaves it out"),
        ({"sampler": "weighted"}, "class_weights", "write one per class"),
        ({"sampler": "class_balanced", "task": "diabetes"}, "sampler", "draws by class"),
        ({"timeout": "5"}, "timeout", "nobody watches"),
        ({"task": "sorcery"}, "task", "digits"),
        ({"shift": "8"}, "shift", "lower pixels below 8"),
        ({"shift": "1", "task": "diabetes"}, "shift", "switch it off"),
        ({"sweep_workers": ""}, "sweep_workers", "at least 1"),
        ({"epoch": "-1"}, "epoch", "greater than or equal to 0"),
    ],
)
def test_what_is_wrong_is_told_beside_its_field(
    typed: Mapping[str, str], field: str, said: str
) -> None:
    form = loader_form(typed)
    assert form.config is None
    assert said in form.error(field)


def test_what_is_asked_follows_from_what_was_typed() -> None:
    typed = {"seed": "4", "epoch": "2", "batches": "3", "batch_size": "50", "shift": "1"}
    form = loader_form({**typed, "sweep_workers": "0, 3", "sweep_batch_sizes": ""})
    assert (form.batches.epoch, form.batches.batches) == (2, 3)
    assert form.batches.config.seed == 4
    assert form.batches.config.loader.batch_size == 50
    assert [trick.name for trick in form.batches.config.tricks] == ["random_shift"]
    assert (form.sweep.workers, form.sweep.batch_sizes) == ((0, 3), ())


# -- the pipeline ---------------------------------------------------------------------------


def stations(**typed: str) -> dict[str, Any]:
    config = loader_form(typed).config
    assert config is not None
    return {one.title: one for one in pipeline(config, 7)}


def test_the_pipeline_tells_the_options_of_each_station() -> None:
    usual = stations()
    assert list(usual) == ["Dataset", "Sampler", "Batch", "Collate", "Pin", "Device"]
    assert usual["Dataset"].does == "1,437 examples"
    assert usual["Batch"].does == "23 batches of 64"
    assert "seed 0 and epoch 7" in usual["Sampler"].facts[1]
    assert usual["Collate"].options == ("workers=0",)
    other = stations(
        workers="3", prefetch="4", drop_last="on", pin_memory="off", sampler="sequential", shift="2"
    )
    assert other["Batch"].facts == ("29 examples left out",)
    assert "12 batches ready ahead" in other["Collate"].facts
    assert "sampler=sequential" in other["Sampler"].options
    assert other["Pin"].is_idle
    assert "random_shift.pixels=2" in other["Device"].options
    assert "seed 9" in stations(order_seed="9")["Sampler"].facts[1]


# -- what is answered -----------------------------------------------------------------------

ROW = {
    "batch_size": 32,
    "workers": 0,
    "is_resident": False,
    "loaded_per_second": 500.0,
    "first_batch_seconds": 0.1,
    "loader_memory_bytes": 0,
    "trained_per_second": 100.0,
    "waiting_share": 0.2,
    "problem": "",
}
SWEEP: dict[str, Any] = {
    "rows": [ROW, {**ROW, "workers": 2, "trained_per_second": 190.0}],
    "knees": [{"batch_size": 32, "workers": 2}],
    "verdict": "",
    "cores": 2,
    "threads": 2,
    "torch": "2",
    "device": "cpu",
}


def test_a_sweep_is_drawn_as_lines_with_the_knee_marked() -> None:
    stays = {**ROW, "is_resident": True, "trained_per_second": 150.0}
    wrong = {**ROW, "workers": 9, "problem": "out of memory", "trained_per_second": None}
    chart = sweep_chart({**SWEEP, "rows": [*SWEEP["rows"], stays, wrong]})
    assert chart is not None
    assert chart["lines"][0]["x"] == [0, 2]
    assert chart["lines"][0]["y"] == [100.0, 190.0]
    assert chart["lines"][1] == {
        "name": "32, examples stay",
        "x": [0, 2],
        "y": [150.0, 150.0],
        "is_reference": True,
    }
    assert chart["rings"] == [{"x": 2, "y": 190.0, "text": "knee of batches of 32"}]
    first = sweep_chart(
        {**SWEEP, "rows": [stays, ROW], "knees": [{"batch_size": 32, "workers": 0}]}
    )
    assert first is not None
    assert [mark["y"] for mark in first["rings"]] == [ROW["trained_per_second"]]
    assert sweep_chart({**SWEEP, "rows": []}) is None


def test_what_a_sweep_knows_so_far_is_shown_while_it_runs(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    with writing(lab.engine) as connection:
        number = desk.add(connection, loader_form({}).sweep)
        errand = desk.claim(connection, lab.worker_id, alone=True)
        assert errand is not None
        desk.report(connection, errand, 0.5, "batches of 32", SWEEP)
    with reading(lab.engine) as connection:
        page = fragment(desk.find(connection, number))
    assert "<progress" in page
    assert "data-so-far" in page
    assert "data-chart" in page
    assert page.count("<tr>") == 3


def test_an_epoch_drawn_with_replacement_says_what_it_leaves_out() -> None:
    config = tiny_config(loader={"sampler": "class_balanced"})
    data = Digits().load(DataFolders(Path("nowhere"), download=False))
    order = EpochOrder(config.loader, data.train.targets, 0).order
    distinct = len(set(order.tolist()))
    told = {
        "stored_examples": 1437,
        "examples_of_epoch": 1437,
        "distinct_examples": distinct,
        "most_often": int(torch.bincount(order).max()),
        "batches": [{"seconds": 1.0}],
        "is_resident": True,
    }
    assert f"{1437 - distinct:,} do not come" in batch_remarks(told)[0]


def test_a_picture_becomes_an_image_of_the_same_bytes() -> None:
    import base64
    import io

    from PIL import Image

    raw = bytes(range(12))
    for shape, mode in (([1, 3, 4], "L"), ([3, 2, 2], "RGB")):
        address = picture_address({"shape": shape, "bytes": base64.b64encode(raw).decode()})
        image = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        values = torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(shape)
        assert image.mode == mode
        assert image.size == (shape[2], shape[1])
        pixel = image.getpixel((1, 0))
        wanted = values[:, 0, 1].tolist()
        assert (list(pixel) if isinstance(pixel, tuple) else [pixel]) == wanted


# -- the page -------------------------------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with client_of(Lab.at(tmp_path).settings) as client:
        yield client


def test_the_address_holds_the_options_and_errors_stand_beside_their_field(
    client: TestClient,
) -> None:
    page = client.get("/lab/loader?batch_size=48&sampler=sequential").text
    assert "30 batches of 48" in page
    assert "<option selected>sequential</option>" in page
    wrong = client.get("/lab/loader?batch_size=none&sampler=sequential").text
    spot = re.search(r'data-for="batch_size" role="alert">([^<]*)<', wrong)
    assert spot is not None
    assert "valid integer" in unescape(spot[1])
    assert 'value="none"' in wrong
    assert "cannot be drawn" in wrong
    told = client.get("/lab/loader/pipeline?batch_size=none").json()
    assert "valid integer" in told["errors"]["batch_size"]


@pytest.mark.parametrize(("way", "kind"), [("ask", "batches"), ("sweep", "loader_sweep")])
def test_a_question_is_asked_or_refused_by_field(client: TestClient, way: str, kind: str) -> None:
    refused = client.post(f"/lab/loader/{way}", data={"batch_size": "0"}).json()
    assert set(refused["errors"]) == {"batch_size"}
    number = client.post(f"/lab/loader/{way}", data={"batch_size": "10"}).json()["number"]
    found = client.get(f"/api/v1/inquiries/{number}").json()
    assert found["kind"] == kind
    assert found["request"]["config"]["loader"]["batch_size"] == 10


def test_too_many_questions_are_told_to_wait(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "MOST_WAITING", 0)
    assert "ask later" in client.post("/lab/loader/ask").json()["errors"][""]


# -- in a browser ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = Settings(folder=tmp_path_factory.mktemp("lab").absolute(), access="off")
    with serving(settings) as served:
        yield served
    end_workers(settings)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OFFLINE)
        yield browser
        browser.close()


@pytest.fixture
def window(browser: Browser, served: Served) -> Iterator[Window]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(PATIENCE_MS)
    found = Window(context.new_page(), str(served.client.base_url).rstrip("/"))
    found.listen()
    yield found
    context.close()
    assert found.complaints == []


def answered(page: Page, place: str = "#first-batches") -> None:
    expect(page.locator(f"{place}[data-answered]:not(.stale)")).to_be_visible()


def members(page: Page, batch: int) -> list[int]:
    found = page.locator(f"[data-batch='{batch}']").get_attribute("data-indices")
    assert found is not None
    indices: list[int] = json.loads(found)
    return indices


@pytest.mark.browser
def test_the_batches_shown_are_those_of_the_order_that_trains(window: Window) -> None:
    page = window.open(f"/lab/loader?{urlencode({'batch_size': 20, 'seed': 2, 'shift': 1})}")
    answered(page)
    data = Digits().load(DataFolders(Path("nowhere"), download=False))
    order = EpochOrder(Loader(batch_size=20), data.train.targets, 2)
    for epoch in (0, 1):
        order.start(epoch, 0)
        first, second, *_ = order.members()
        expect(page.locator("[data-batch='0']")).to_have_attribute(
            "data-indices", json.dumps(first.tolist(), separators=(",", ":"))
        )
        answered(page)
        assert members(page, 1) == second.tolist()
        labels = page.locator("[data-batch='0'] .pictures .label").all_inner_texts()
        targets = data.train.targets[first].tolist()
        assert list(map(int, labels)) == targets[: len(labels)]
        assert page.locator("[data-batch='0'] .pictures img").count() == 2 * len(labels)
        page.fill("#epoch", "1")
    assert "epoch=1" in page.url


@pytest.mark.browser
def test_the_pipeline_follows_and_an_error_stands_beside_its_field(window: Window) -> None:
    page = window.open("/lab/loader")
    answered(page)
    page.fill("#batch_size", "100")
    expect(page.locator("#pipeline")).to_contain_text("15 batches of 100")
    page.check("#drop_last")
    expect(page.locator("#pipeline")).to_contain_text("37 examples left out")
    page.fill("#batch_size", "9999")
    expect(page.locator("#error-batch_size")).to_contain_text("drop_last leaves it out")
    page.fill("#batch_size", "700")
    expect(page.locator("#error-batch_size")).to_be_hidden()
    expect(page.locator("[data-batch='1']")).to_contain_text("700 examples")
    answered(page)


@pytest.mark.browser
def test_a_sweep_grows_row_by_row_and_marks_its_knee(window: Window) -> None:
    page = window.open("/lab/loader?sweep_workers=0+1&sweep_batch_sizes=64+128")
    answered(page)
    page.click("#sweep")
    growing = page.locator("#sweep-answer:has(progress) [data-so-far] tbody tr")
    expect(growing.nth(1)).to_be_visible()
    expect(page.locator("#sweep-answer [data-so-far] .main-svg").first).to_be_visible()
    answered(page, "#sweep-answer")
    assert page.locator("#sweep-answer tbody tr").count() == 6
    names = page.evaluate(
        "Array.from(document.querySelector('#sweep-answer .plot').data, (one) => one.name)"
    )
    assert names[:2] == ["batches of 64", "batches of 128"]
    assert names[-1] == "knee"


@pytest.mark.browser
@pytest.mark.parametrize("task", ["digits", "breast_cancer"])
def test_the_answer_keeps_nobody_out_and_is_no_wider_than_the_window(
    window: Window, task: str
) -> None:
    page = window.open(f"/lab/loader?task={task}&workers=1")
    answered(page)
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        assert barriers(page) == []
    page.set_viewport_size({"width": 360, "height": 800})
    # charts follow the window a moment later
    wait_for(lambda: page.evaluate("document.documentElement.scrollWidth") <= 360, 10)
