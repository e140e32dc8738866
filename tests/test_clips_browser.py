"""Layer outputs of clips in a real browser: all channels of one frame, and a slider over frames."""

from collections.abc import Iterator

import pytest
from lab import Lab
from playwright.sync_api import Browser, expect
from server import Served, end_workers, serving, wait_for
from test_browser import Window, browser, opened
from test_clips import tiny_clips

from app.settings import Settings

pytestmark = pytest.mark.browser

__all__ = ["browser"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    lab.train(tiny_clips(), name="clips")
    settings = Settings(folder=lab.settings.folder.absolute())
    with serving(settings) as served:
        yield served
    end_workers(settings)


@pytest.fixture
def window(browser: Browser, served: Served) -> Iterator[Window]:
    yield from opened(browser, served)


def test_a_slider_goes_through_the_frames_of_a_clip(window: Window, served: Served) -> None:
    page = window.open("/runs/1/layers?layer=conv")
    expect(page.locator("#mosaic-facts")).to_contain_text("2 channels of 8 times 8 × 8")
    expect(page.locator("#time-value")).to_have_text("1 of 8")
    values = served.client.get("/api/v1/runs/1/layers/conv").json()["values"]

    def shown() -> list[list[float]]:
        rows: list[list[float]] = page.evaluate(
            "() => document.getElementById('channel-map').data?.[0].z.map((row) => Array.from(row))"
        )
        return rows

    def is_shown(channel: int, frame: int) -> bool:
        expected = values[channel][frame]
        found = shown()
        return bool(found) and all(
            row == pytest.approx(other, abs=1e-4)
            for row, other in zip(found, expected, strict=True)
        )

    assert values[1][0] != values[1][5]
    wait_for(lambda: is_shown(0, 0))
    page.fill("#channel", "1")
    page.locator("#time").fill("5")
    expect(page.locator("#time-value")).to_have_text("6 of 8")
    wait_for(lambda: is_shown(1, 5))
    assert "time=5" in page.url
    page.reload()
    expect(page.locator("#time-value")).to_have_text("6 of 8")
    wait_for(lambda: is_shown(1, 5))


def test_a_layer_of_pictures_or_features_has_no_slider(window: Window) -> None:
    page = window.open("/runs/1/layers?layer=conv&time=7")
    expect(page.locator("#time-value")).to_have_text("8 of 8")
    page.click(".tree a[data-layer='stage4.0.space']")
    expect(page.locator("#mosaic-facts")).to_contain_text("16 channels of 1 × 1")
    expect(page.locator("#time")).to_be_hidden()
    page.click(".tree a[data-layer='fc']")
    expect(page.locator("#mosaic-facts")).to_contain_text("8 features")
    expect(page.locator("#time")).to_be_hidden()


def test_each_call_of_a_layer_that_is_used_repeatedly_is_shown(
    window: Window, served: Served
) -> None:
    page = window.open("/runs/1/layers?layer=stage1.0.relu")
    expect(page.locator("#mosaic-facts")).to_contain_text("2 channels of 4 times 4 × 4")
    expect(page.locator("#call option")).to_have_count(4)
    page.select_option("#call", "3")
    expect(page.locator("#mosaic-facts")).to_contain_text("8 channels of 4 times 4 × 4")
    assert "call=3" in page.url
    page.reload()
    expect(page.locator("#mosaic-facts")).to_contain_text("8 channels of 4 times 4 × 4")
    highest = served.client.get(
        "/api/v1/curves", params={"runs": 1, "layer": "stage1.0.relu#4"}
    ).json()
    (expected,) = [c["values"] for c in highest["curves"] if c["name"] == "highest"]
    wait_for(
        lambda: (
            page.evaluate(
                "() => Array.from(document.getElementById('range-chart').data?.find("
                "(one) => one.name === 'highest')?.y ?? [])"
            )
            == expected
        )
    )
    page.click(".tree a[data-layer='conv']")
    expect(page.locator("#call")).to_be_hidden()
    assert "call=" not in page.url


def test_a_call_that_is_not_there_is_the_first_one(window: Window) -> None:
    page = window.open("/runs/1/layers?layer=stage1.0.relu&call=9")
    expect(page.locator("#mosaic-facts")).to_contain_text("2 channels of 4 times 4 × 4")
    expect(page.locator("#call")).to_have_value("0")
