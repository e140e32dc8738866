"""The loss bench as a page: without a script, and worked in a real browser."""

import json
import re
import shutil
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import torch
from lab import Lab
from playwright.sync_api import Browser, Page, expect, sync_playwright
from server import BROWSER, client_of, listening

from trainer.loss_bench import BENCH_LOSSES, PRESETS
from trainer.part import name_of

PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.at(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def client(lab: Lab) -> Iterator[Any]:
    with client_of(lab.settings) as found:
        found.headers.update(BROWSER)
        yield found


def html_of(client: Any, **query: str) -> str:
    answer = client.get("/lab/loss", params=query)
    assert answer.status_code == 200
    return str(answer.text)


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html)))


# -- without a script -----------------------------------------------------------------------


@pytest.mark.parametrize("loss", BENCH_LOSSES, ids=name_of)
def test_every_loss_has_a_page_with_formula_totals_and_call(client: Any, loss: Any) -> None:
    html = html_of(client, loss=name_of(loss))
    assert html.count("<math") >= 2
    assert all(f'data-total="{name}"' in html for name in ("none", "mean", "sum"))
    assert f"loss_fn = torch.nn.{loss.torch_name}(" in html
    assert "0 of 0" not in html


def test_the_lab_leads_to_the_bench(client: Any) -> None:
    assert 'href="/lab/loss"' in client.get("/lab").text


@pytest.mark.parametrize("preset", PRESETS, ids=lambda one: one.name)
def test_every_preset_is_a_link_to_what_it_shows(client: Any, preset: Any) -> None:
    links = [unescape(one) for one in re.findall(r'class="chip" href="([^"]*)"', html_of(client))]
    (link,) = [one for one in links if asked(one) == {"loss": preset.loss, **preset.values}]
    answer = client.get(link)
    assert answer.status_code == 200
    assert ("stretch both" if preset.name == "column-against-row" else "The same in PyTorch") in (
        text_of(answer.text)
    )


def asked(address: str) -> dict[str, str]:
    return {name: value[0] for name, value in parse_qs(urlsplit(address).query).items()}


def test_the_page_shows_the_numbers_of_torch(client: Any) -> None:
    html = html_of(client, loss="smooth_l1", input="0.5,-2", target="1,1", beta="0.5")
    loss = torch.nn.SmoothL1Loss(beta=0.5, reduction="none")
    expected = loss(torch.tensor([0.5, -2.0]), torch.tensor([1.0, 1.0])).tolist()
    shown = [float(one) for one in re.findall(r'data-loss-of="\d" title="([^"]*)"', html)]
    assert shown == expected
    total = re.search(r'data-total="mean" title="([^"]*)"', html)
    assert total is not None
    assert float(total.group(1)) == pytest.approx(sum(expected) / 2)


def test_a_chart_has_the_present_point_marked(client: Any) -> None:
    html = html_of(client, loss="mse", input="0.5,-2", target="1,1", at="1")
    chart = json.loads(unescape(re.findall(r'data-chart="([^"]*)"', html)[0]))
    assert chart["x_title"] == "input[1]"
    assert chart["marks"] == [{"name": "now", "x": -2.0, "y": 9.0}]
    assert html_of(client, loss="cross_entropy").count("data-map=") == 1


def test_nan_is_shown_as_what_it_is_and_explained(client: Any) -> None:
    html = html_of(client, loss="cross_entropy", target="2,2", ignore_index="2")
    assert "gives NaN : mean divides 0 by 0" in text_of(html)
    assert "0 / 0: NaN" in html


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ({"input": "1,abc", "target": "1,2"}, "input", "'abc' at [1] is no number"),
        ({"loss": "mse", "input": "0;1;2", "target": "0,1,2"}, "target", "give 1.333"),
        ({"loss": "huber", "delta": "-3"}, "delta", "greater than 0"),
        ({"loss": "cross_entropy", "target": "0,7"}, "target", "7 is no class"),
        ({"loss": "bce", "input": "-0.5,0,1"}, "input", "-0.5 is no probability"),
        ({"input": ",".join("1" * 10_000)}, "input", "at most 400"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_what_was_typed_stays(
    client: Any, query: dict[str, str], field: str, said: str
) -> None:
    html = html_of(client, **query)
    beside = re.search(rf'id="error-{field}"[^>]*>([^<]*)<', html)
    assert beside is not None
    assert said in unescape(beside.group(1))
    for name in set(query) & {"input", "target"}:
        typed = re.search(rf'<textarea name="{name}"[^>]*>([^<]*)<', html)
        assert typed is not None
        assert unescape(typed.group(1)) == query[name]
    assert "The same in PyTorch" not in html


def test_an_unknown_loss_names_those_there_are(client: Any) -> None:
    answer = client.get("/lab/loss?loss=nothing")
    assert answer.status_code == 404
    assert "there are: l1, smooth_l1" in unescape(answer.text)


def test_another_loss_is_shown_on_the_same_numbers_where_it_takes_such(client: Any) -> None:
    html = html_of(client, loss="l1", input="7,8", target="1,2")
    links = re.findall(r'href="([^"]*)" data-loss="(\w+)"', html)
    queries = {name: asked(unescape(link)) for link, name in links}
    assert queries["huber"] == {"loss": "huber", "input": "7,8", "target": "1,2"}
    assert queries["cross_entropy"] == {"loss": "cross_entropy"}


def test_a_row_more_is_an_address_with_a_row_more(client: Any) -> None:
    query = {"loss": "mse", "input": "1,2;3,4", "target": "5,6;7,8", "resize": "more rows"}
    answer = client.get("/lab/loss", params=query)
    assert answer.status_code == 303
    assert asked(answer.headers["location"]) == {
        "loss": "mse",
        "input": "1,2;3,4;3,4",
        "target": "5,6;7,8;7,8",
    }


def test_many_elements_make_no_heavy_page(client: Any) -> None:
    many = ";".join([",".join(["0.125"] * 20)] * 20)
    html = client.get("/lab/loss/result", params={"loss": "mse", "input": many, "target": many})
    assert html.status_code == 200
    assert len(html.text) < 400_000


def test_an_element_is_chosen_without_a_script(client: Any) -> None:
    html = html_of(client, loss="mse", at="2")
    assert '<button form="loss-form" name="at" value="3"' in html
    # the list of elements sends its own choice first, and the last one counts
    assert "At input[1, 1]" in client.get("/lab/loss?loss=mse&at=2&at=3").text


@pytest.mark.parametrize("at", ["-1", "9999", "99999999999999999999", "x", "²", ""])
def test_an_element_that_is_not_there_is_one_that_is(client: Any, at: str) -> None:
    assert "The same in PyTorch" in html_of(client, loss="mse", at=at)


# -- in a browser ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or "/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(lab: Lab) -> Iterator[str]:
    with listening(lab.settings) as client:
        yield str(client.base_url).rstrip("/")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda one: wrong.append(one.text) if one.type == "error" else None)
    yield page
    context.close()
    # the browser itself reports an address that was too long
    assert [one for one in wrong if "Failed to load resource" not in one] == []


def huber(x: float) -> float:
    return torch.nn.HuberLoss(delta=2)(torch.tensor([x]), torch.tensor([1.0])).item()


def loss_shown(page: Page, of: int = 0) -> float:
    return float(page.locator(f"[data-loss-of='{of}']").get_attribute("title") or "nan")


@pytest.mark.browser
def test_an_edited_cell_is_computed_anew_and_kept_in_the_address(page: Page, address: str) -> None:
    page.goto(f"{address}/lab/loss?loss=huber&delta=2&input=0.5,4&target=1,1")
    cell = page.get_by_label("input[0]", exact=True)
    cell.fill("-2.75")
    expect(page.locator("[data-loss-of='0']")).to_have_attribute("title", str(huber(-2.75)))
    assert asked(page.url)["input"] == "-2.75,4"
    expect(page.locator("#told")).to_contain_text("HuberLoss gives")
    cell.press("ArrowUp")
    expect(page.locator("[data-loss-of='0']")).to_have_attribute("title", str(huber(-2.65)))
    expect(cell).to_be_focused()
    cell.press("Enter")
    expect(page.get_by_label("input[1]", exact=True)).to_be_focused()
    expect(page.locator("#value-of")).to_have_text("input[1]")
    page.reload()
    expect(cell).to_have_value("-2.65")
    assert loss_shown(page) == huber(-2.65)


@pytest.mark.browser
def test_a_bad_cell_is_told_beside_the_field_and_put_right(page: Page, address: str) -> None:
    page.goto(f"{address}/lab/loss?loss=huber&delta=2&input=0.5,4&target=1,1")
    cell = page.get_by_label("input[0]", exact=True)
    cell.fill("abc")
    expect(page.locator("#error-input")).to_contain_text("'abc' at [0] is no number")
    expect(cell).to_have_value("abc")
    cell.fill("3")
    expect(page.locator("[data-loss-of='0']")).to_have_attribute("title", str(huber(3.0)))
    expect(page.locator("#error-input")).to_be_hidden()
    page.fill("#delta", "0")
    expect(page.locator("#error-delta")).to_contain_text("greater than 0")


@pytest.mark.browser
def test_the_mark_is_dragged_and_moved_by_arrow_keys(page: Page, address: str) -> None:
    page.goto(f"{address}/lab/loss?loss=mse&input=0.5,4&target=1,1")
    plot = page.locator("[data-key=loss] .nsewdrag")
    plot.wait_for()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 40, steps=5)
    page.mouse.up()
    cell = page.get_by_label("input[0]", exact=True)
    # the axis goes from -2 to 4
    dragged = float(cell.input_value())
    assert dragged == pytest.approx(-2 + 6 * 0.7, abs=0.3)
    wanted = torch.nn.MSELoss()(torch.tensor([dragged]), torch.tensor([1.0])).item()
    expect(page.locator("[data-loss-of='0']")).to_have_attribute("title", str(wanted))
    marked = page.evaluate("document.querySelector('[data-key=loss] .plot').data.at(-1).x[0]")
    assert marked == pytest.approx(dragged)
    page.locator("#value").focus()
    page.keyboard.press("ArrowRight")
    expect(cell).not_to_have_value(str(dragged))
    assert float(cell.input_value()) == pytest.approx(dragged + 6 / 400, abs=0.011)


@pytest.mark.browser
def test_a_surface_moves_two_scores(page: Page, address: str) -> None:
    page.goto(f"{address}/lab/loss?loss=cross_entropy&at=1")
    plot = page.locator("[data-key=surface] .nsewdrag")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.25)
    cells = [page.get_by_label(f"input[0, {one}]", exact=True) for one in (0, 1, 2)]
    expect(cells[1]).not_to_have_value("0.5")
    expect(cells[0]).not_to_have_value("2")
    values = [float(cell.input_value()) for cell in cells]
    assert values[1] == pytest.approx(3, abs=0.4)
    assert values[0] == pytest.approx(3, abs=0.4)
    wanted = torch.nn.CrossEntropyLoss()(torch.tensor([values]), torch.tensor([0])).item()
    page.wait_for_function(
        "wanted => Math.abs(document.querySelector(\"[data-loss-of='0']\").title - wanted) < 1e-5",
        arg=wanted,
    )


@pytest.mark.browser
def test_a_pasted_tensor_becomes_the_table(page: Page, address: str) -> None:
    page.goto(f"{address}/lab/loss?loss=mse")
    page.click("summary:has-text('Numbers as text')")
    page.fill("#target", "tensor([[1., 2., 3.]])")
    expect(page.locator("#error-target")).to_contain_text("PyTorch")
    page.fill("#input", "tensor([[ 0.5000, -1.2000,  3.0000]])")
    expect(page.get_by_label("input[0, 2]", exact=True)).to_have_value("3.0000")
    expect(page.locator("[data-loss-of]")).to_have_count(3)
    page.click("text=+ column")
    expect(page.locator("[data-loss-of]")).to_have_count(4)


@pytest.mark.browser
def test_a_comma_in_a_cell_is_a_decimal_point(page: Page, address: str) -> None:
    page.goto(f"{address}/lab/loss?loss=huber&delta=2&input=0.5,4&target=1,1")
    page.get_by_label("input[0]", exact=True).fill("1,25")
    expect(page.locator("[data-loss-of='0']")).to_have_attribute("title", str(huber(1.25)))
    assert asked(page.url)["input"] == "1.25,4"


@pytest.mark.browser
def test_charts_follow_while_the_mark_is_still_held(page: Page, address: str) -> None:
    page.goto(f"{address}/lab/loss?loss=mse&input=0.5,4&target=1,1")
    plot = page.locator("[data-key=loss] .nsewdrag")
    plot.wait_for()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 40)
    page.mouse.down()
    mark = "document.querySelector('[data-key=loss] .plot').data.at(-1).x[0]"
    seen = set()
    for step in range(60):
        page.mouse.move(box["x"] + 20 + 3 * step, box["y"] + 40)
        page.wait_for_timeout(15)
        seen.add(page.evaluate(mark))
    page.mouse.up()
    assert len(seen) > 3


@pytest.mark.browser
def test_more_numbers_than_an_address_holds_are_told_of_and_kept(page: Page, address: str) -> None:
    page.goto(f"{address}/lab/loss?loss=mse")
    page.click("summary:has-text('Numbers as text')")
    page.fill("#input", ",".join(["0.123456"] * 10_000))
    expect(page.locator("#error-input")).to_contain_text("at most 400 numbers")
    assert len(page.input_value("#input")) > 80_000
