"""The whole way in a real browser: fill in the form, watch the curve grow, look at the layers."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from lab import Lab, quick_config
from playwright.sync_api import Browser, Page, expect, sync_playwright
from server import Served, end_workers, serving, wait_for

from app.settings import Settings

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
# without these the browser looks for hosts of its maker at every start
OFFLINE = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
    --disable-background-networking --disable-component-update""".split()
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Window:
    """A page of the lab, and everything it should not have done."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def listen(self) -> None:
        self.page.on("console", self.hear)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("request", self.see)

    def hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"console: {message.text}")

    def see(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.complaints.append(f"asked another host: {request.url}")

    def open(self, path: str) -> Page:
        self.page.goto(self.address + path)
        return self.page


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab with two finished runs."""
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    lab.train(quick_config(), name="baseline", recipe="digits-cnn")
    tricks = [{"name": "gradient_accumulation", "steps": 2}]
    lab.train(quick_config(tricks=tricks), name="accumulated")
    return lab


@pytest.fixture(scope="module")
def served(lab: Lab) -> Iterator[Served]:
    settings = Settings(folder=lab.settings.folder.absolute())
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
    yield from opened(browser, served)


def opened(browser: Browser, served: Served) -> Iterator[Window]:
    """A window whose page must not complain, nor ask any other host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(PATIENCE_MS)
    found = Window(context.new_page(), str(served.client.base_url).rstrip("/"))
    found.listen()
    yield found
    context.close()
    assert found.complaints == []


def curve(page: Page, card: str, name: str) -> list[float]:
    """The values that a card's chart shows under a name."""
    values: list[float] = page.evaluate(
        """([card, name]) => {
            const chart = document.querySelector(`[data-metric="${card}"] .chart`);
            return Array.from(chart?.data?.find((one) => one.name === name)?.y ?? []);
        }""",
        [card, name],
    )
    return values


def test_from_the_form_to_a_growing_curve_to_feature_maps(window: Window, served: Served) -> None:
    page = window.open("/runs/new?recipe=digits-cnn")
    page.fill("[name='budget.epochs']", "-1")
    page.click("button:has-text('Queue')")
    expect(page.locator("[id='error-budget.epochs']")).to_contain_text("greater than or equal to 1")
    # the browser itself reports that the form was refused
    window.complaints.clear()
    # long enough that a slow machine still sees its curve grow
    page.fill("[name='budget.epochs']", "50")
    page.fill("[name='run_name']", "from the browser")
    page.check("[name='tricks.gradient_accumulation.on'][type=checkbox]")
    page.fill("[name='tricks.gradient_accumulation.steps']", "2")
    expect(page.locator("#panel")).to_contain_text("600")
    page.click("button:has-text('Queue')")

    expect(page.locator("h1")).to_contain_text("from the browser")
    run_id = page.locator("#run-header").get_attribute("data-run")
    lengths = [wait_for(lambda: len(curve(page, "loss", "training")))]
    for _ in range(2):
        wait_for(lambda: len(curve(page, "loss", "training")) > lengths[-1])
        lengths.append(len(curve(page, "loss", "training")))

    expect(page.locator("#run-header .status")).to_contain_text("finished", timeout=120_000)
    exact = served.client.get(f"/api/v1/runs/{run_id}/series/train_loss").json()["values"]
    wait_for(lambda: curve(page, "loss", "training")[-1] == exact[-1])
    assert set(curve(page, "loss", "training")) <= set(exact)

    page.click("nav.tabs >> text=Layers")
    see_feature_maps(page, f"/api/v1/runs/{run_id}", served)


def see_feature_maps(page: Page, run: str, served: Served) -> None:
    """The mosaic has the colours of the recorded bytes, and a channel opens as a heat map."""
    expect(page.locator("#mosaic-facts")).to_contain_text("16 channels of 8 × 8 at step 600")
    colours = page.evaluate(
        """() => {
            const canvas = document.getElementById("mosaic");
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            return new Set(new Uint32Array(data.buffer)).size;
        }"""
    )
    assert colours > 20
    output = served.client.get(f"{run}/layers/block1.conv").json()
    page.fill("#channel", "3")
    shown = wait_for(
        lambda: page.evaluate(
            """() => document.getElementById("channel-title").textContent === "Channel 3"
              && document.getElementById("channel-map").data?.[0].z.map((row) => Array.from(row))"""
        )
    )
    for row, expected in zip(shown, output["values"][3], strict=True):
        assert row == pytest.approx(expected, abs=1e-5)


def test_the_curve_on_the_page_is_that_of_the_api(window: Window, served: Served) -> None:
    page = window.open("/runs/1")
    for card, label, name in (
        ("loss", "training", "train_loss"),
        ("loss", "test", "val_loss"),
        ("accuracy", "test", "val_accuracy"),
        ("learning_rate", "learning rate", "learning_rate"),
    ):
        shown = wait_for(lambda card=card, label=label: curve(page, card, label))
        assert shown == served.client.get(f"/api/v1/runs/1/series/{name}").json()["values"]


def test_the_step_slider_and_the_tree_change_what_is_shown(window: Window) -> None:
    page = window.open("/runs/1/layers")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 46")
    page.locator("#step").fill("0")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 0")
    page.click(".tree a[data-layer='head']")
    expect(page.locator("#mosaic-facts")).to_contain_text("10 features")
    assert "layer=head" in page.url
    page.reload()
    expect(page.locator("#layer-title")).to_have_text("head")
    page.click("#play")
    expect(page.locator("#mosaic-facts")).to_contain_text("at step 46")


def test_a_mosaic_is_on_the_screen_within_a_tenth_of_a_second(window: Window) -> None:
    page = window.open("/runs/1/layers?layer=block2.conv")
    expect(page.locator("#mosaic-facts")).to_contain_text("32 channels")
    took = page.evaluate(
        """async () => {
            const { paint, planesOf, across } = await import("/static/mosaic.js");
            const bytes = new Uint8Array(64 * 56 * 56).map((_, i) => i % 256);
            const canvas = document.createElement("canvas");
            const began = performance.now();
            const planes = planesOf([64, 56, 56], bytes);
            paint(canvas, planes, across(planes, 2));
            return performance.now() - began;
        }"""
    )
    assert took < 100


def test_zoom_survives_new_points_and_is_in_the_address(window: Window) -> None:
    page = window.open("/runs/1?zoom=10_20")
    wait_for(lambda: curve(page, "loss", "training"))
    # what nobody sees is not drawn
    ranges = """() => [...document.querySelectorAll("#curves .chart.js-plotly-plot")]
        .map((chart) => chart.layout.xaxis.range.map(Math.round))"""
    found = page.evaluate(ranges)
    assert len(found) > 2
    assert set(map(tuple, found)) == {(10, 20)}
    page.evaluate(
        """document.querySelector("[name=smoothing]")
            .dispatchEvent(new Event("input", {bubbles: true}))"""
    )
    page.wait_for_timeout(600)
    found = page.evaluate(ranges)
    assert len(found) > 2
    assert set(map(tuple, found)) == {(10, 20)}
    page.click("#reset-zoom")
    wait_for(lambda: page.evaluate(ranges)[0] != [10, 20])
    assert "zoom" not in page.url


def test_smoothing_axes_and_theme_are_kept(window: Window) -> None:
    page = window.open("/runs/1?smoothing=0.9&x=epoch&scale=log")
    wait_for(lambda: curve(page, "loss", "training"))
    drawn = "document.querySelector('[data-metric=loss] .chart')"
    assert page.evaluate(f"{drawn}.layout.yaxis.type") == "log"
    assert max(page.evaluate(f"Array.from({drawn}.data[0].x)")) == 2
    raw = page.evaluate(f"Array.from({drawn}.data[0].y)")
    smooth = page.evaluate(f"Array.from({drawn}.data[1].y)")
    assert smooth != raw
    assert smooth[0] == raw[0]
    before = page.evaluate(f"{drawn}.layout.font.color")
    page.click("#theme")
    wait_for(lambda: page.evaluate(f"{drawn}.layout.font.color") != before)
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_runs_are_compared_from_the_table_by_keyboard(window: Window) -> None:
    page = window.open("/runs")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("#selected-count")).to_have_text("2")
    page.keyboard.press("c")
    page.wait_for_url("**/compare?runs=*")
    wait_for(
        lambda: page.evaluate(
            "document.querySelector('[data-metric=val_loss] .chart').data?.length === 2"
        )
    )
    expect(page.locator("tr.differs").first).to_be_visible()


def test_the_keyboard_reaches_search_and_help(window: Window) -> None:
    page = window.open("/runs")
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    page.wait_for_url("**/runs/new")


def test_the_table_follows_what_happens_without_a_reload(window: Window, served: Served) -> None:
    page = window.open("/runs")
    page.check("#select-1")
    created = served.client.post("/api/v1/runs", json={"recipe": "digits-mlp", "name": "news"})
    run_id = created.json()["id"]
    row = page.locator(f"tr[data-run='{run_id}']")
    expect(row).to_be_visible(timeout=PATIENCE_MS)
    expect(row.locator(".status")).to_contain_text("finished")
    expect(page.locator("#select-1")).to_be_checked()


# -- the queue, failures ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def diverged(served: Served) -> str:
    """The address of a run that failed."""
    config = quick_config(optimizer={"learning_rate": 1000.0}).model_dump(mode="json")
    sent = {"config": config, "name": "diverged"}
    run_id = served.client.post("/api/v1/runs", json=sent).json()["id"]
    address = f"/api/v1/runs/{run_id}"
    wait_for(lambda: served.client.get(address).json()["status"] == "failed")
    return f"/runs/{run_id}"


@pytest.fixture
def waiting(served: Served) -> Iterator[list[int]]:
    """Three runs that wait for a device nobody has.

    To be asked for before the window, which is then closed before they are deleted.
    """
    sent = [{"name": f"waits {n}", "config": {"device": f"cuda:{n}"}} for n in range(3)]
    ids = [served.client.post("/api/v1/runs", json=each).json()["id"] for each in sent]
    yield ids
    for run_id in ids:
        served.client.post(f"/api/v1/runs/{run_id}/cancel")
        served.client.delete(f"/api/v1/runs/{run_id}")


def rows(page: Page) -> list[int]:
    """The numbers of the waiting runs, in the order they are shown."""
    shown = "[...document.querySelectorAll('.waiting-runs tr[data-run]')]"
    numbers: list[int] = page.evaluate(f"{shown}.map((row) => Number(row.dataset.run))")
    return numbers


def test_runs_are_moved_without_losing_ones_place(waiting: list[int], window: Window) -> None:
    first, second, third = waiting
    page = window.open("/queue")
    page.evaluate("window.isTheSame = true")
    page.focus(f"#up-{third}")
    page.keyboard.press("Enter")
    wait_for(lambda: rows(page) == [first, third, second])
    assert page.evaluate("document.activeElement.id") == f"up-{third}"
    page.keyboard.press("Enter")
    wait_for(lambda: rows(page) == [third, first, second])
    # the button is off now that the run is the first
    wait_for(lambda: page.evaluate("document.activeElement.id") == f"open-{third}")
    page.fill(f"#priority-{second}", "7")
    page.keyboard.press("Enter")
    wait_for(lambda: rows(page) == [second, third, first])
    expect(page.locator(f"#priority-{second}")).to_have_value("7")
    assert page.evaluate("window.isTheSame")


def test_what_is_typed_survives_what_happens_meanwhile(
    waiting: list[int], window: Window, served: Served
) -> None:
    page = window.open("/queue")
    page.click("#pause-menu summary")
    expect(page.locator("#pause-reason")).to_be_focused()
    page.keyboard.type("half a sen")
    page.fill(f"#priority-{waiting[1]}", "12")
    served.client.patch(f"/api/v1/runs/{waiting[0]}", json={"name": "renamed meanwhile"})
    expect(page.get_by_text("renamed meanwhile")).to_be_visible()
    expect(page.locator("#pause-reason")).to_have_value("half a sen")
    expect(page.locator(f"#priority-{waiting[1]}")).to_have_value("12")
    expect(page.locator("#pause-menu")).to_have_attribute("open", "")


def test_a_pause_of_the_queue_is_seen_on_pages_that_are_open(
    window: Window, served: Served
) -> None:
    page = window.open("/queue")
    served.client.post("/queue/pause", data={"reason": "from elsewhere"})
    try:
        expect(page.locator(".banner")).to_contain_text("from elsewhere")
        page.click("text=Resume the queue")
        expect(page.locator(".banner")).to_have_count(0)
    finally:
        served.client.post("/queue/resume")


def test_menus_open_and_close_by_keyboard(window: Window) -> None:
    page = window.open("/runs/1")
    page.focus("#more summary")
    page.keyboard.press("Enter")
    expect(page.locator("#more .menu-body")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#more .menu-body")).to_be_hidden()
    expect(page.locator("#more summary")).to_be_focused()
    page.click("#more summary")
    page.click("h1")
    expect(page.locator("#more .menu-body")).to_be_hidden()


def test_the_timeline_grows_while_it_is_looked_at(
    waiting: list[int], window: Window, served: Served
) -> None:
    page = window.open(f"/runs/{waiting[0]}/timeline")
    expect(page.locator(".timeline li")).to_have_count(1)
    for action, title in (("pause", "Paused"), ("resume", "Resumed")):
        served.client.post(f"/api/v1/runs/{waiting[0]}/{action}")
        expect(page.locator(".timeline li").last).to_contain_text(title)


def test_a_failed_run_leads_to_a_changed_clone(window: Window, diverged: str) -> None:
    page = window.open(diverged)
    expect(page.locator(".failure h2")).to_have_text("Diverged")
    page.click(".failure >> text=Clone and change")
    page.wait_for_url("**/runs/new?clone=*")
    expect(page.locator("[name='optimizer.sgd.learning_rate']")).to_have_value("1000.0")


# -- every page ------------------------------------------------------------------------------

PAGES = (
    "/runs",
    "/runs/new",
    "/runs/1",
    "/runs/1/layers",
    "/runs/1/config",
    "/runs/1/timeline",
    "/runs/1/results",
    "/runs/1/evidence",
    "/runs/1/environment",
    "/runs/diverged",
    "/compare?runs=1,2",
    "/lab/loss?loss=cross_entropy&weight=1+2+3",
    "/lab/loss?loss=mse&input=0;1;2&target=0,1,2",
    "/queue",
    "/settings",
    "/settings/tokens",
    "/settings/audit",
    "/login",
    "/lab",
    "/lab/layers",
    "/lab/layers?model.name=unet&find=conv&pick=down.0",
    "/lab/loader",
    "/lab/shapes",
    "/lab/shapes?shape=3,4&calls=.transpose(0,1).view(12)",
)


SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def barriers(page: Page) -> list[tuple[str, str]]:
    """What keeps somebody from using the page: the rule and the first element that breaks it."""
    page.wait_for_timeout(300)
    found = Axe().run(page).response["violations"]
    grave = [each for each in found if each["impact"] in ("serious", "critical")]
    return [(each["id"], each["nodes"][0]["html"]) for each in grave]


@pytest.mark.usefixtures("diverged", "waiting")
@pytest.mark.parametrize("path", PAGES)
def test_nobody_is_kept_out_in_light_or_dark(window: Window, path: str) -> None:
    for scheme in SCHEMES:
        window.page.emulate_media(color_scheme=scheme)
        assert barriers(window.open(path)) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tokens_are_made_and_revoked_by_whoever_uses_the_page(
    window: Window, scheme: Literal["light", "dark"]
) -> None:
    page = window.page
    page.emulate_media(color_scheme=scheme)
    window.open("/settings/tokens")
    page.fill("[name=name]", "ann")
    page.click("text=Make a token")
    expect(page.locator(".secret")).to_contain_text("tl_")
    assert barriers(page) == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.querySelector('.secret').scrollWidth") <= 360
    page.fill("[name=name]", "ann")
    page.click("text=Make a token")
    expect(page.locator("#name-error")).to_contain_text("there is a token 'ann' already")
    expect(page.locator("[name=name]")).to_have_value("ann")
    assert barriers(page) == []
    # the browser itself reports that the form was refused
    window.complaints.clear()
    page.click("text=Revoke ann")
    expect(page.locator(".empty")).to_contain_text("no token yet")
    assert barriers(window.open("/settings/audit")) == []
    expect(page.locator(".refused")).not_to_have_count(0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_refused_login_is_told_to_everybody(
    window: Window, scheme: Literal["light", "dark"]
) -> None:
    page = window.page
    page.emulate_media(color_scheme=scheme)
    window.open("/login")
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("No token is like that")
    window.complaints.clear()
    assert barriers(page) == []


@pytest.mark.usefixtures("diverged", "waiting")
@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_its_window(window: Window, path: str) -> None:
    page = window.open(path)
    for width in (2400, 900, 400, 360):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(300)
        # charts follow the window a moment later
        settled = f"document.documentElement.scrollWidth <= {width}"
        page.wait_for_function(settled, timeout=10_000)


def test_the_api_page_works_without_a_network(window: Window) -> None:
    page = window.open("/docs")
    expect(page.get_by_text("/api/v1/runs").first).to_be_visible()


def test_training_goes_on_when_the_page_is_closed(browser: Browser, served: Served) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{str(served.client.base_url).rstrip('/')}/runs/new?recipe=digits-cnn")
    page.fill("[name='budget.epochs']", "5")
    page.click("button:has-text('Queue')")
    page.wait_for_url("**/runs/*")
    run_id = page.locator("#run-header").get_attribute("data-run")
    context.close()
    wait_for(lambda: served.client.get(f"/api/v1/runs/{run_id}").json()["status"] == "finished")


# -- questions to the worker ----------------------------------------------------------------


def test_a_config_is_tried_before_it_is_queued(window: Window) -> None:
    page = window.open("/runs/new?recipe=digits-cnn")
    page.get_by_role("button", name="Check").click()
    tried = page.locator("#tried")
    expect(tried).to_contain_text("It trains")
    expect(tried).to_contain_text("64×1×8×8")
    expect(tried.locator("svg.bar rect").first).to_be_visible()
    expect(page.locator("[data-found='loader.batch_size']")).to_contain_text("examples a second")
    expect(page.locator("[data-found='model.name']")).to_contain_text("15 418 parameters")
    # what it says is of the form as it was
    page.fill("[id='loader.batch_size']", "32")
    expect(tried).to_have_class("tried stale")
    assert barriers(page) == []


def test_what_cannot_be_trained_stands_beside_its_field(window: Window) -> None:
    page = window.open("/runs/new?recipe=digits-cnn")
    page.locator("input[name='model.name'][value='unet']").check()
    page.get_by_role("button", name="Check").click()
    expect(page.locator("[data-for='model.name']")).to_contain_text("choose mlp")
    expect(page.locator("#tried")).to_contain_text("some fields need another value")
    # nothing typed is lost
    assert page.input_value("[id='loader.batch_size']") == "64"


def test_a_runs_claims_are_proved_and_it_is_trained_twice_on_its_page(window: Window) -> None:
    page = window.open("/runs/2/evidence")
    page.get_by_role("button", name="Prove it").click()
    proof = page.locator("#answer-equivalence .proof")
    expect(proof).to_contain_text("claims to be exact")
    expect(proof).to_contain_text("holds")
    page.get_by_role("button", name="Train twice").click()
    answer = page.locator("#answer-reproducibility")
    expect(answer).to_contain_text("Bit-identical over 20 steps", timeout=90_000)
    assert barriers(page) == []
    page.reload()
    expect(page.locator("#answer-reproducibility")).to_contain_text("Bit-identical")
    expect(page.locator("#run-header")).to_contain_text("bit-identical")


def test_a_question_is_cancelled_by_its_button(window: Window) -> None:
    page = window.open("/runs/1/evidence")
    page.get_by_role("button", name="Train twice").click()
    page.locator("#answer-reproducibility [data-cancel]").click()
    expect(page.locator("#answer-reproducibility")).to_contain_text("Cancelled")
