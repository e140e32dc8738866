"""The lab in a real browser: every lesson is walked, and shows what it comes to here as well."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Page, expect
from server import Served, end_workers, serving
from test_browser import Window, barriers, browser, opened

from app.pages.templates import cell
from app.settings import Settings
from trainer.data_folders import DataFolders
from trainer.inquiry import Bench
from trainer.lessons import LESSONS, Lesson
from trainer.lessons.accumulation import AccumulationLesson
from trainer.lessons.loader_workers import LoaderWorkersLesson
from trainer.lessons.new_shapes import NewShapesLesson
from trainer.part import name_of

pytestmark = pytest.mark.browser

__all__ = ["browser"]
MEASURED = (LoaderWorkersLesson, NewShapesLesson)
"""What they come to is time, and never twice the same."""
BY_CHANCE = {"drift": {"seeded": True, "other": "one bit of one weight"}}
"""Values with which a lesson draws nothing anew."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = Settings(folder=tmp_path_factory.mktemp("lab"))
    with serving(settings) as served:
        yield served
    end_workers(settings)


@pytest.fixture
def window(browser: Browser, served: Served) -> Iterator[Window]:
    yield from opened(browser, served)


def here(lesson: Lesson, folder: Path) -> dict[str, Any]:
    bench = Bench(torch.device("cpu"), DataFolders(folder), lambda *told: None)
    return dict(lesson.answer(bench))


def answered(page: Page, before: str = "") -> str:
    """Wait for an answer that is not the one before; its number."""
    place = page.locator("[data-answer]")
    expect(place).not_to_have_attribute("data-answered", before)
    page.wait_for_function(
        "before => ![undefined, before].includes("
        "document.querySelector('[data-answer]').dataset.answered)",
        arg=before,
    )
    return place.get_attribute("data-answered") or ""


@pytest.mark.parametrize(
    "kind",
    [pytest.param(one, marks=[pytest.mark.slow] * (one in MEASURED)) for one in LESSONS],
    ids=[name_of(one) for one in LESSONS],
)
def test_a_lesson_shows_what_it_comes_to(
    window: Window, kind: type[Lesson], tmp_path: Path
) -> None:
    name = name_of(kind)
    values = BY_CHANCE.get(name, {})
    query = "&".join(f"{key}={'on' if value is True else value}" for key, value in values.items())
    page = window.open(f"/lab/lessons/{name}?{query}")
    answered(page)
    verdict = page.locator(".verdict")
    tables = page.locator(".figure-table tbody tr")
    if kind in MEASURED:
        assert tables.count() > 1
        expect(verdict).not_to_be_empty()
    else:
        wanted = here(kind(**values), tmp_path)
        expect(verdict).to_have_text(wanted["verdict"])
        rows = [row for one in wanted["figures"] if one["is"] == "table" for row in one["rows"]]
        shown = [row.split("\t") for row in tables.all_inner_texts()]
        assert [[word.strip() for word in row] for row in shown] == [
            [" ".join(cell(value).split()) for value in row] for row in rows
        ]
    assert page.locator(".plot .main-svg").count() == 3 * page.locator(".plot").count()
    assert barriers(page) == []


def test_a_slider_moved_by_keyboard_asks_anew_and_the_address_follows(
    window: Window, tmp_path: Path
) -> None:
    page = window.open("/lab/lessons/accumulation?class_weights=on&batches=4")
    first = answered(page)
    slider = page.get_by_role("slider", name="Batches")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("output[for=batches]")).to_have_text("5")
    answered(page, first)
    wanted = here(AccumulationLesson(class_weights=True, batches=5), tmp_path)
    expect(page.locator(".verdict")).to_have_text(wanted["verdict"])
    assert "batches=5" in page.url
    assert "class_weights=on" in page.url
    page.reload()
    answered(page)
    expect(page.locator(".verdict")).to_have_text(wanted["verdict"])


def test_the_chart_holds_the_numbers_of_its_table(window: Window) -> None:
    page = window.open("/lab/lessons/running_mean")
    answered(page)
    figure = page.locator(".figure-chart").first
    drawn = figure.locator(".plot").evaluate("plot => plot.data.map(one => Array.from(one.y))")
    figure.locator("summary").click()
    rows = figure.locator("tbody tr").all_inner_texts()
    assert len(rows) == len(drawn[0])
    last = [word.strip() for word in rows[-1].split("\t")][1:]
    assert last == [cell(line[-1]) for line in drawn]


def test_a_value_out_of_range_is_told_beside_its_field(window: Window) -> None:
    page = window.open("/lab/lessons/accumulation?ignored=90&batches=2&batch_size=2&last_batch=1")
    place = page.locator("[data-answer]")
    expect(place).to_contain_text("lower ignored or take more")
    # a slider goes no further than its end, whatever the address says
    page = window.open("/lab/lessons/accumulation?batches=1000000")
    answered(page)
    expect(page.locator("output[for=batches]")).to_have_text("16")
    expect(page.locator(".verdict")).to_contain_text("right to rounding")


def test_a_trick_is_learned_proved_and_tried_on_its_page(window: Window) -> None:
    page = window.open("/tricks")
    page.get_by_role("link", name="Gradient accumulation").click()
    answered(page)
    assert page.locator("math").count() >= 1
    assert barriers(page) == []
    page.get_by_role("button", name="Prove it").click()
    proof = page.locator("#proof")
    expect(proof).to_contain_text("holds but for BatchNorm2d")
    expect(proof.locator(".plot .main-svg").first).to_be_visible()
    page.get_by_role("link", name="Try it").click()
    expect(page.locator("[id='tricks.gradient_accumulation.on']")).to_be_checked()


@pytest.mark.parametrize("path", ["/tricks", "/tricks/seed", "/lab", "/lab/lessons/fold_time"])
def test_no_page_of_the_lab_is_wider_than_its_window(window: Window, path: str) -> None:
    page = window.open(path)
    if page.locator("[data-answer]").count():
        answered(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert barriers(page) == []
    for width in (2400, 400, 360):
        page.set_viewport_size({"width": width, "height": 800})
        # charts follow the window a moment later
        settled = "width => document.documentElement.scrollWidth <= width"
        page.wait_for_function(settled, arg=width, timeout=10_000)
