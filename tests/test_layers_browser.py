"""The layers of a run in a real browser: what the page draws is what is stored, to the pixel."""

import io
import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from lab import Lab, quick_config
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from server import Served, serving, wait_for
from test_browser import Window, barriers, browser, opened

from app.palette import PALETTE
from trainer.store.database import reading, writing
from trainer.store.reader import StoredOutput, read_layer_output
from trainer.store.writer import LayerOutput, Writer

pytestmark = pytest.mark.browser

__all__ = ["browser"]
STEPS = (0, 1, 2, 4, 8, 16, 32, 46)
CONV, RELU, HEAD = "block1.conv", "block1.relu", "head"
VIDEO = "video"
VIDEO_STEPS = (0, 8, 46)
RATIO = 2.2
"""About how many times a mosaic on the page is as wide as high."""

Levels = npt.NDArray[np.uint8]
Colours = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Two trained runs; the first also has a video, made by hand, of a layer called twice."""
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    lab.train(quick_config(threads=1), name="first")
    lab.train(quick_config(threads=1, seed=7), name="second")
    with writing(lab.engine) as connection:
        outputs = [video(step, call) for step in VIDEO_STEPS for call in (0, 1)]
        Writer(1).add_layer_outputs(connection, outputs)
    return lab


def video(step: int, call: int) -> LayerOutput:
    """Two examples of three channels, five times and 6 x 7 pixels."""
    shape = (2, 3, 5, 6, 7)
    levels = np.random.default_rng(10 * step + call).integers(0, 256, shape).astype(np.uint8)
    return LayerOutput(VIDEO, call, step, shape, "float32", -1.0, 1.0, levels)


@pytest.fixture(scope="module")
def served(lab: Lab) -> Iterator[Served]:
    with serving(lab.settings, "--no-worker") as served:
        yield served


@pytest.fixture
def window(browser: Browser, served: Served) -> Iterator[Window]:
    yield from opened(browser, served)


def stored(lab: Lab, layer: str, step: int, run: int = 1, call: int = 0) -> StoredOutput:
    with reading(lab.engine) as connection:
        output = read_layer_output(connection, run, layer, step, call)
    assert output is not None
    return output


def pixels(page: Page, canvas: str) -> Colours:
    """What a canvas shows, (height, width, 4), before it is scaled up."""
    width, height, flat = page.evaluate(
        """(id) => {
            const shown = document.getElementById(id);
            const { width, height } = shown;
            // of a copy: the browser complains of a canvas that is read again and again
            const copy = Object.assign(document.createElement("canvas"), { width, height });
            const context = copy.getContext("2d", { willReadFrequently: true });
            context.drawImage(shown, 0, 0);
            return [width, height, Array.from(context.getImageData(0, 0, width, height).data)];
        }""",
        canvas,
    )
    return np.array(flat, np.uint8).reshape(height, width, 4)


def planes_shown(page: Page, canvas: str, shape: tuple[int, ...], columns: int = 0) -> Colours:
    """The colours of every plane of a mosaic: (count, height, width, 3)."""
    count, height, width = shape
    cells = math.sqrt(count * (height + 1) * RATIO / (width + 1))
    across = columns or max(1, min(count, math.floor(cells + 0.5)))
    picture = pixels(page, canvas)
    tops = [number // across * (height + 1) for number in range(count)]
    lefts = [number % across * (width + 1) for number in range(count)]
    found = [
        picture[top : top + height, left : left + width, :3]
        for top, left in zip(tops, lefts, strict=True)
    ]
    return np.stack(found) if all(one.shape[:2] == (height, width) for one in found) else picture


def shows(page: Page, levels: Any, canvas: str = "mosaic", columns: int = 0) -> bool:
    """Whether a mosaic has these levels of the palette, but for the last digit of rounding."""
    levels = np.asarray(levels)
    shown = planes_shown(page, canvas, levels.shape, columns)
    choices = [PALETTE[np.clip(levels.astype(int) + by, 0, 255)] for by in (-1, 0, 1)]
    return bool(
        shown.shape == choices[0].shape
        and np.any([(shown == one).all(-1) for one in choices], axis=0).all()
    )


def facts(page: Page) -> str:
    return page.locator("#mosaic-facts").inner_text()


# -- the step -------------------------------------------------------------------------------


def test_another_layer_is_shown_at_the_same_step(window: Window, lab: Lab) -> None:
    page = window.open("/runs/1/layers")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 46")
    page.locator("#step").fill("3")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 4")
    page.click(f".tree a[data-layer='{RELU}']")
    expect(page.locator("#layer-title")).to_have_text(RELU)
    wait_for(lambda: shows(page, stored(lab, RELU, 4).quantised[0]))
    assert "step=4" in page.url
    page.reload()
    wait_for(lambda: shows(page, stored(lab, RELU, 4).quantised[0]))
    assert page.locator("#step-number").input_value() == "4"


def test_a_typed_step_goes_to_the_nearest_that_was_captured(window: Window, lab: Lab) -> None:
    page = window.open("/runs/1/layers")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 46")
    number = page.locator("#step-number")
    number.fill("13")
    number.press("Enter")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 16")
    expect(number).to_have_value("16")
    number.press("ArrowUp")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 32")
    page.locator("#step").press("ArrowLeft")
    page.locator("#step").press("ArrowLeft")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 8")
    wait_for(lambda: shows(page, stored(lab, CONV, 8).quantised[0]))
    assert page.locator("#step").get_attribute("aria-valuetext") == "step 8"


def test_every_captured_step_has_a_tick(window: Window) -> None:
    page = window.open("/runs/1/layers")
    expect(page.locator("#ticks span")).to_have_text([str(step) for step in STEPS])
    slider, first, last = (
        page.locator(one).bounding_box()
        for one in ("#step", "#ticks span:first-child", "#ticks span:last-child")
    )
    assert slider
    assert first
    assert last
    # where the middle of the knob is at either end
    assert first["x"] - slider["x"] == pytest.approx(8, abs=2)
    assert slider["x"] + slider["width"] - last["x"] == pytest.approx(8, abs=2)


def test_the_film_plays_from_the_chosen_step_to_the_last(window: Window) -> None:
    page = window.open("/runs/1/layers?step=8")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 8")
    page.evaluate(
        """() => {
            window.seen = [];
            const facts = document.getElementById("mosaic-facts");
            const note = () => window.seen.push(Number(facts.textContent.split(" ").at(-1)));
            new MutationObserver(note).observe(facts, { childList: true });
        }"""
    )
    page.click("#play")
    expect(page.locator("#play")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#play")).to_have_attribute("aria-pressed", "false")
    assert page.evaluate("[...new Set(window.seen)]") == [8, 16, 32, 46]
    assert "step=46" in page.url


def test_a_layer_that_was_not_looked_at_then_is_shown_at_the_nearest_step(window: Window) -> None:
    page = window.open(f"/runs/1/layers?layer={VIDEO}&step=32")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 46")
    assert page.locator("#step-number").input_value() == "32"


# -- normalisation --------------------------------------------------------------------------


def test_colours_are_of_the_step_of_all_steps_or_of_each_channel(window: Window, lab: Lab) -> None:
    page = window.open(f"/runs/1/layers?layer={RELU}&step=2&example=1")
    output = stored(lab, RELU, 2)
    wait_for(lambda: shows(page, output.quantised[1]))
    assert float(page.locator("#high").inner_text()) == pytest.approx(output.high, rel=1e-2)

    page.select_option("#scale", "fixed")
    highest = max(stored(lab, RELU, step).high for step in STEPS)
    assert highest > output.high * 1.2, "nothing to see"
    wait_for(lambda: shows(page, np.round(output.values()[1] / highest * 255)))
    assert float(page.locator("#high").inner_text()) == pytest.approx(highest, rel=1e-2)
    assert "scale=fixed" in page.url

    page.select_option("#scale", "channel")
    planes = output.quantised[1].astype(float)
    low, high = planes.min((1, 2), keepdims=True), planes.max((1, 2), keepdims=True)
    span = np.where(high > low, high - low, 1)
    wait_for(lambda: shows(page, np.round((planes - low) / span * 255)))
    expect(page.locator("#high")).to_have_text("highest of each channel")


# -- the film strip -------------------------------------------------------------------------


def test_the_film_strip_has_the_channel_at_every_step(window: Window, lab: Lab) -> None:
    page = window.open(f"/runs/1/layers?layer={CONV}&channel=5&example=2")
    frames = [stored(lab, CONV, step).quantised[2, 5] for step in STEPS]
    wait_for(lambda: shows(page, frames, "film", len(STEPS)))
    expect(page.locator("#film-steps span")).to_have_text([str(step) for step in STEPS])
    page.locator("#channel").fill("7")
    other = [stored(lab, CONV, step).quantised[2, 7] for step in STEPS]
    wait_for(lambda: shows(page, other, "film", len(STEPS)))
    expect(page.locator("#film-title")).to_have_text("Channel 7 over training")


def test_a_click_on_a_frame_goes_to_its_step(window: Window) -> None:
    page = window.open(f"/runs/1/layers?layer={CONV}")
    expect(page.locator("#film-steps span")).to_have_count(len(STEPS))
    film = page.locator("#film")
    box = film.bounding_box()
    assert box
    film.click(position={"x": box["width"] / len(STEPS) * 4.5, "y": box["height"] / 2})
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 8")
    assert page.locator("#step-number").input_value() == "8"
    film.press("ArrowRight")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 16")


def test_the_film_of_a_vector_has_a_row_for_each_step(window: Window, lab: Lab) -> None:
    page = window.open(f"/runs/1/layers?layer={HEAD}&scale=fixed")
    outputs = [stored(lab, HEAD, step) for step in STEPS]
    low, high = min(one.low for one in outputs), max(one.high for one in outputs)
    levels = [np.round((one.values()[0] - low) / (high - low) * 255)[np.newaxis] for one in outputs]
    wait_for(lambda: shows(page, levels, "film", 1))


def test_the_histogram_has_the_channel_beside_all(window: Window, lab: Lab) -> None:
    page = window.open(f"/runs/1/layers?layer={CONV}&channel=3&step=46")
    levels = stored(lab, CONV, 46).quantised[0]

    def drawn() -> Any:
        return page.evaluate(
            """() => (document.getElementById("histogram").data ?? []).map(
                ({ name, y }) => [name, Array.from(y)])"""
        )

    found = dict(wait_for(drawn))
    assert list(found) == ["all channels", "channel 3"]
    for name, some in (("all channels", levels), ("channel 3", levels[3])):
        shares = np.bincount(some.ravel() // 4, minlength=64) / some.size
        assert found[name] == pytest.approx(shares, abs=1e-6)


# -- calls and videos -----------------------------------------------------------------------


def test_every_call_and_every_time_of_a_video_is_shown(window: Window, lab: Lab) -> None:
    page = window.open(f"/runs/1/layers?layer={VIDEO}&step=8&example=1")
    levels = stored(lab, VIDEO, 8).quantised[1]
    wait_for(lambda: shows(page, levels[:, 0]))
    expect(page.locator("#mosaic-facts")).to_have_text("3 channels of 5 times 6 × 7 at step 8")
    page.locator("#time").fill("3")
    wait_for(lambda: shows(page, levels[:, 3]))
    expect(page.locator("#time-value")).to_have_text("4 of 5")
    page.select_option("#call", label="2 of 2")
    second = stored(lab, VIDEO, 8, call=1).quantised[1]
    wait_for(lambda: shows(page, second[:, 3]))
    assert {"call=1", "time=3"} <= set(page.url.split("?")[1].split("&"))
    page.reload()
    wait_for(lambda: shows(page, second[:, 3]))
    film = [stored(lab, VIDEO, step, call=1).quantised[1, 0, 3] for step in VIDEO_STEPS]
    wait_for(lambda: shows(page, film, "film", len(VIDEO_STEPS)))


def test_other_layers_have_neither_calls_nor_times(window: Window) -> None:
    page = window.open(f"/runs/1/layers?layer={CONV}&call=1")
    expect(page.locator("#mosaic-facts")).to_contain_text("16 channels")
    expect(page.locator("#call-choice")).to_be_hidden()
    expect(page.locator("#time-choice")).to_be_hidden()


# -- side by side ---------------------------------------------------------------------------


def difference_shown(page: Page, apart: npt.NDArray[np.float32]) -> bool:
    """Red where there is more, blue where there is less, grey in between; most at the ends."""
    shown = planes_shown(page, "difference", apart.shape).astype(int)
    share = apart / np.abs(apart).max()
    redness = shown[..., 0] - shown[..., 2]
    sure = np.abs(share) > 0.05
    return bool(
        shown.shape == (*apart.shape, 3)
        and (np.sign(redness[sure]) == np.sign(share[sure])).all()
        and np.corrcoef(redness.ravel(), share.ravel())[0, 1] > 0.95
    )


def test_another_step_stands_beside_with_the_difference(window: Window, lab: Lab) -> None:
    page = window.open(f"/runs/1/layers?layer={CONV}&step=46")
    expect(page.locator("#other-card")).to_be_hidden()
    page.select_option("#against-kind", "step")
    page.locator("#against-step").fill("3")
    page.locator("#against-step").press("Tab")
    # the nearest that was captured
    expect(page.locator("#other-title")).to_have_text("Step 2")
    one, other = (stored(lab, CONV, step) for step in (46, 2))
    low, high = min(one.low, other.low), max(one.high, other.high)
    for canvas, output in (("mosaic", one), ("other", other)):
        levels = np.round((output.values()[0] - low) / (high - low) * 255)
        wait_for(lambda canvas=canvas, levels=levels: shows(page, levels, canvas))
    apart = one.values()[0] - other.values()[0]
    wait_for(lambda: difference_shown(page, apart))
    most = float(np.abs(apart).max())
    assert float(page.locator("#difference-high").inner_text()) == pytest.approx(most, rel=1e-2)
    assert float(page.locator("#difference-low").inner_text()) == pytest.approx(-most, rel=1e-2)
    relative = float(np.linalg.norm(apart) / np.linalg.norm(other.values()[0]))
    told = page.locator("#difference-facts").inner_text()
    assert float(told.split()[1].rstrip(",")) == pytest.approx(relative, rel=1e-2)
    assert "against=step" in page.url


def test_another_run_stands_beside_at_the_same_step(window: Window, lab: Lab) -> None:
    page = window.open(f"/runs/1/layers?layer={CONV}&step=8&against=run:2&scale=channel")
    expect(page.locator("#other-title")).to_have_text("Run 2, step 8")
    expect(page.locator("#against-run")).to_have_value("2")
    one, other = (stored(lab, CONV, 8, run).values()[0] for run in (1, 2))
    wait_for(lambda: difference_shown(page, one - other))
    page.locator("#step").fill("0")
    expect(page.locator("#other-title")).to_have_text("Run 2, step 0")
    page.select_option("#against-kind", "")
    expect(page.locator("#difference-card")).to_be_hidden()
    assert "against" not in page.url


def test_what_cannot_be_compared_is_told(window: Window) -> None:
    page = window.open(f"/runs/1/layers?layer={VIDEO}&against=run:2")
    expect(page.locator("#other-problem")).to_contain_text("there is no recorded layer 'video'")
    expect(page.locator("#difference-card")).to_be_hidden()
    # the browser itself reports that there was none
    window.complaints.clear()


# -- the tree -------------------------------------------------------------------------------


def test_small_lines_say_the_first_and_the_last_value(window: Window, lab: Lab) -> None:
    page = window.open("/runs/1/layers")
    row = page.locator(f"tr[data-path='{RELU}']")
    spread, dead = (lab.points(1, name, RELU) for name in ("spread", "dead"))
    title = row.locator(".spark.spread title").text_content() or ""
    words = title.replace(",", "").split()
    assert words[0] == "Spread:"
    assert float(words[1]) == pytest.approx(spread.values[0], rel=1e-2)
    assert float(words[5]) == pytest.approx(spread.values[-1], rel=1e-2)
    assert words[-1] == str(spread.steps[-1])
    line = row.locator(".spark.spread polyline").get_attribute("points") or ""
    heights = [18 - float(point.split(",")[1]) - 2 for point in line.split()]
    assert heights == pytest.approx(spread.values / spread.values.max() * 14, abs=0.02)
    # a share: one dead channel in sixteen is no high line
    line = row.locator(".spark.dead-channels polyline").get_attribute("points") or ""
    heights = [18 - float(point.split(",")[1]) - 2 for point in line.split()]
    assert heights == pytest.approx(dead.values * 14, abs=0.02)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("conv", {"block1", "block2", "block3"}),
        ("*.conv", set()),
        ("conv2d", set()),
        ("BatchNorm*", set()),
        ("block1 parameters > 100", set()),
        ("dead > 0", set()),
        ("spread >= 0", set()),
    ],
)
def test_the_tree_keeps_what_is_typed(window: Window, lab: Lab, typed: str, kept: set[str]) -> None:
    page = window.open("/runs/1/layers")
    rows = page.evaluate(
        "[...document.querySelectorAll('#tree-rows tr')].map((row) => ({ ...row.dataset }))"
    )
    tests = {
        "conv": lambda row: "conv" in (row["path"] + row["kind"]).lower(),
        "*.conv": lambda row: row["path"].endswith(".conv"),
        "conv2d": lambda row: row["kind"] == "Conv2d",
        "BatchNorm*": lambda row: row["kind"].startswith("BatchNorm"),
        "block1 parameters > 100": lambda row: (
            "block1" in row["path"] and int(row["parameters"]) > 100
        ),
        "dead > 0": lambda row: "dead" in row and lab.points(1, "dead", row["path"]).values[-1] > 0,
        "spread >= 0": lambda row: "spread" in row,
    }
    expected = [row["path"] for row in rows if tests[typed](row)]
    assert kept <= set(expected) != {row["path"] for row in rows}
    page.locator("#tree-filter").fill(typed)
    shown = page.locator("#tree-rows tr:visible")
    expect(shown).to_have_count(len(expected))
    assert [one.get_attribute("data-path") for one in shown.all()] == expected
    expect(page.locator("#tree-count")).to_have_text(f"{len(expected)} of {len(rows)}")
    page.reload()
    expect(shown).to_have_count(len(expected))


# -- downloads, and everybody ---------------------------------------------------------------


def test_what_is_shown_can_be_saved(window: Window, served: Served) -> None:
    page = window.open(f"/runs/1/layers?layer={VIDEO}&call=1&example=1&step=8&time=2")
    expect(page.locator("#time-value")).to_have_text("3 of 5")
    answer = served.client.get(page.locator("#film-download").get_attribute("href") or "")
    moving: Any = Image.open(io.BytesIO(answer.content))
    assert moving.n_frames == len(VIDEO_STEPS)
    address = page.locator("#download").get_attribute("href") or ""
    with np.load(io.BytesIO(served.client.get(address).content)) as archive:
        assert archive["step"] == 8
        assert np.array_equal(archive["quantised"], video(8, 1).levels)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out_of_a_comparison(
    window: Window, scheme: Literal["light", "dark"]
) -> None:
    window.page.emulate_media(color_scheme=scheme)
    page = window.open(f"/runs/1/layers?layer={VIDEO}&call=1&against=step:0")
    expect(page.locator("#difference-card")).to_be_visible()
    expect(page.locator("#film-steps span")).to_have_count(len(VIDEO_STEPS))
    assert barriers(page) == []


def test_a_narrow_screen_is_wide_enough(window: Window) -> None:
    window.page.set_viewport_size({"width": 360, "height": 800})
    page = window.open(f"/runs/1/layers?layer={CONV}&against=run:2")
    expect(page.locator("#difference-card")).to_be_visible()
    expect(page.locator("#film-steps span")).to_have_count(len(STEPS))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_page_at_the_end_goes_on_to_what_is_new(window: Window, lab: Lab) -> None:
    page = window.open(f"/runs/2/layers?layer={CONV}")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 46")
    keep_again(lab, 64)
    page.evaluate("document.dispatchEvent(new CustomEvent('run', { detail: {} }))")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 64")
    expect(page.locator("#ticks span")).to_have_count(len(STEPS) + 1)
    page.locator("#step").fill("2")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 2")
    keep_again(lab, 128)
    page.evaluate("document.dispatchEvent(new CustomEvent('run', { detail: {} }))")
    expect(page.locator("#film-steps span")).to_have_count(len(STEPS) + 2)
    expect(page.locator("#step-number")).to_have_value("2")
    assert facts(page).endswith("at step 2")


def keep_again(lab: Lab, step: int) -> None:
    """The second run's last output once more, as if it had gone on."""
    output = stored(lab, CONV, 46, run=2)
    levels = output.quantised
    kept = LayerOutput(CONV, 0, step, levels.shape, "float32", output.low, output.high, levels)
    with writing(lab.engine) as connection:
        Writer(2).add_layer_outputs(connection, [kept])
