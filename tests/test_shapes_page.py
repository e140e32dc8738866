"""The bench of shapes: what its page shows, against what PyTorch says for the same calls."""

import re
from collections.abc import Iterator, Mapping, Sequence
from html import unescape
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import pytest
import torch
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import Lab
from playwright.sync_api import Browser, Page, expect, sync_playwright
from server import client_of, listening
from test_browser import CHROMIUM, OFFLINE, PATIENCE_MS, Window, barriers
from test_layouts import divided

from app.layout_picture import MOST_CELLS, MOST_DRAWN, SHADES
from app.settings import ROOT
from app.shape_presets import PRESETS
from app.shapes_shown import Seen, Shown, shown_for
from trainer.layout_remarks import folded_axis
from trainer.layouts import parse

CLIP = {"shape": "2,3,4,2,2", "numbered": "start"}


def shown(**typed: str) -> Shown:
    found = shown_for(typed)
    assert not found.errors, found.errors
    return found


def numbers(seen: Seen) -> list[int]:
    """The cells of a tensor in the order of its walk."""
    assert seen.picture is not None, seen.why_none
    return [cell.number for grid in seen.picture.grids for line in grid.rows for cell in line]


def places(tensor: torch.Tensor) -> list[int]:
    """Where the elements lie, as the walk comes by: (addresses - the lowest one) / itemsize."""
    one_by_one = tensor.reshape(-1) if tensor.dim() == 0 else tensor
    found = []
    for index in torch.cartesian_prod(*map(torch.arange, one_by_one.shape)).reshape(
        -1, one_by_one.dim()
    ):
        element = one_by_one[tuple(index.tolist())]
        found.append((element.data_ptr() - tensor.untyped_storage().data_ptr()) // 8)
    return found


# -- the picture ----------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_cells_are_numbered_as_real_elements_lie_in_real_memory(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    order = data.draw(st.permutations(range(len(shape))))
    sizes = data.draw(divided(int(torch.tensor(shape).prod())))
    typed = {
        "shape": ", ".join(map(str, shape)),
        "calls": f".permute({', '.join(map(str, order))}).reshape({', '.join(map(str, sizes))})",
        "dtype": "int64",
    }
    start = torch.arange(int(torch.tensor(shape).prod())).reshape(shape)
    real = [start, start.permute(order), start.permute(order).reshape(sizes)]
    for one, tensor in zip(shown(**typed).seen, real, strict=True):
        assert numbers(one) == places(tensor)
        assert one.layout.strides == tensor.stride()
    for one, tensor in zip(shown(**typed, numbered="start").seen, real, strict=True):
        # each real element says where it was in the beginning
        assert numbers(one) == tensor.flatten().tolist()


def test_the_memory_tells_when_the_walk_comes_by() -> None:
    real = torch.arange(12).reshape(3, 4).t()
    one = shown(shape="3, 4", calls=".transpose(0, 1)").seen[-1]
    assert one.picture is not None
    assert [cell.number for cell in one.picture.memory] == real.flatten().argsort().tolist()
    assert one.picture.jumps == sum(b != a + 1 for a, b in pairwise(real.flatten().tolist()))


def test_a_copy_has_places_of_its_own() -> None:
    seen = shown(shape="3, 4", calls=".transpose(0, 1).contiguous().view(12)").seen
    assert [one.memory.number for one in seen] == [1, 1, 2, 2]
    assert numbers(seen[1]) == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert numbers(seen[2]) == list(range(12))


def test_a_clip_folded_by_view_is_not_what_transposing_gives() -> None:
    clip = torch.arange(96).reshape(2, 3, 4, 2, 2)
    wrong = shown(**CLIP, calls=".view(-1, 3, 2, 2)")
    right = shown(**CLIP, calls=".transpose(1, 2).reshape(-1, 3, 2, 2)")
    folded = clip.transpose(1, 2).reshape(-1, 3, 2, 2)
    assert numbers(right.seen[-1]) == folded.flatten().tolist()
    assert numbers(wrong.seen[-1]) == clip.view(-1, 3, 2, 2).flatten().tolist()
    assert numbers(wrong.seen[-1]) != numbers(right.seen[-1])
    assert "transpose(1, 2).reshape(-1, 3, 2, 2) folds it" in wrong.seen[-1].trap
    assert right.seen[-1].trap == ""


@pytest.mark.parametrize(
    ("before", "after", "axis"),
    [
        ((2, 3, 4, 5), (8, 3, 5), 2),
        ((2, 3, 4, 5), (10, 3, 4), 3),
        ((2, 1, 4, 5), (8, 1, 5), 0),
        ((2, 3, 1, 5), (2, 3, 5), 0),
        ((2, 3, 4), (6, 4), 0),
    ],
)
def test_an_axis_folded_past_others_is_found(
    before: Sequence[int], after: Sequence[int], axis: int
) -> None:
    assert folded_axis(before, after) == axis


@pytest.mark.parametrize(
    ("shape", "calls", "warned"),
    [
        ("2, 4", ".view_as(4, 2)", True),
        ("2, 1, 4", ".reshape(1, 2, 4)", False),
        ("2, 4", ".transpose(0, 1)", False),
        ("2, 2, 2", ".view(-1, 4)", False),
    ],
)
def test_whoever_exchanges_sizes_is_told_that_no_axis_is(
    shape: str, calls: str, warned: bool
) -> None:
    assert ("no axis was exchanged" in shown(shape=shape, calls=calls).seen[-1].trap) == warned


@pytest.mark.parametrize("calls", ["flatten(1)", "flatten(2)", "flatten(0, 1)"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 1, 4, 4), (2, 3, 1, 1), (1, 3, 4, 4)])
def test_what_is_said_of_channels_last_is_so(shape: tuple[int, ...], calls: str) -> None:
    real = torch.empty(shape).contiguous(memory_format=torch.channels_last)
    flat = real.flatten(*parse(calls)[0].numbers)
    typed = {"shape": ", ".join(map(str, shape)), "calls": f".channels_last().{calls}"}
    step = shown(**typed).seen[-1].step
    assert step is not None
    assert step.is_shared == (flat.data_ptr() == real.data_ptr())
    if calls == "flatten(1)":
        assert step.is_shared == (1 in (shape[1], shape[2] * shape[3]))
    if calls == "flatten(2)":
        assert step.is_shared


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"shape": "10001"}, "10,001 elements are too many to draw"),
        ({"shape": "1000000, 1000000"}, "1,000,000,000,000 elements"),
        ({"shape": "3, 0"}, "no elements"),
        ({"shape": "240", "calls": ".view(240)" * 8}, "a page draws 1,200 elements"),
    ],
)
def test_what_is_not_drawn_says_why(typed: Mapping[str, str], said: str) -> None:
    assert said in shown(**typed).seen[-1].why_none


def test_however_many_calls_a_page_draws_no_more_than_so_many_cells() -> None:
    found = shown(shape=str(MOST_DRAWN), calls=".view(-1)" * 20)
    drawn = [one for one in found.seen if one.picture]
    assert sum(one.layout.elements for one in drawn) <= MOST_CELLS
    assert len(found.seen) == 21


def test_of_what_is_too_large_the_first_places_are_told() -> None:
    real = torch.arange(40 * 30).reshape(40, 30).t().flatten().tolist()
    one = shown(shape="40, 30", calls=".transpose(0, 1)").seen[-1]
    assert one.begins == ", ".join(map(str, real[:16]))


def test_text_on_every_colour_can_be_read() -> None:
    style = (ROOT / "static" / "style.css").read_text()
    grounds = dict(re.findall(r"\.lies-(\d+) \{ background: #(\w{6}); \}", style))
    light = re.search(r"\.places :is\(([^)]*)\) \{ color: #fff; \}", style)
    assert light is not None
    white = set(re.findall(r"\d+", light[1]))
    assert set(grounds) == {str(number) for number in range(SHADES)}
    for number, ground in grounds.items():
        ink = 1.0 if number in white else 0.0
        lighter, darker = sorted((ink, luminance(ground)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, number


def luminance(colour: str) -> float:
    """As the WCAG reckon it, from #rrggbb without its sign."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


# -- the page -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client_of(Lab.at(tmp_path_factory.mktemp("lab")).settings) as client:
        yield client


def got(client: TestClient, **typed: str) -> str:
    answer = client.get(f"/lab/shapes?{urlencode(typed)}")
    assert answer.status_code == 200
    return answer.text


@pytest.mark.parametrize(
    ("typed", "field", "said"),
    [
        ({"shape": ""}, "shape", "write the sizes"),
        ({"shape": "two"}, "shape", "is no size"),
        ({"shape": "2, -3"}, "shape", "no negative size"),
        ({"shape": "2,3,4,5,6,7,8,9,10"}, "shape", "at most 8"),
        ({"shape": "99999999999999"}, "shape", "is no size"),
        ({"shape": "9999999, 9999999"}, "shape", "1,099,511,627,776 elements"),
        ({"shape": "2" * 2000}, "shape", "more than the 1,000"),
        ({"calls": ".numpy()"}, "calls", "there is no 'numpy' here"),
        ({"calls": "view(2"}, "calls", "no call"),
        ({"calls": ".view(a)"}, "calls", "takes whole numbers"),
        ({"dtype": "quint8"}, "dtype", "there is no 'quint8' here"),
        ({"numbered": "<b>"}, "numbered", "there is no '<b>' here"),
    ],
)
def test_what_cannot_be_shown_is_told_beside_its_field_and_stays_typed(
    client: TestClient, typed: Mapping[str, str], field: str, said: str
) -> None:
    page = got(client, **typed)
    spot = re.search(rf'data-for="{field}" role="alert">([^<]*)<', page)
    assert spot is not None
    assert said in unescape(spot[1])
    if field in ("shape", "calls"):
        assert typed[field] in unescape(page)
    answer = client.get(f"/lab/shapes/result?{urlencode(typed)}").json()
    assert said in answer["errors"][field]


@pytest.mark.parametrize(
    "text", ["2, 3, 4", "(2, 3, 4)", "2x3x4", "2 × 3 × 4", "[2,3,4]", "torch.Size([2, 3, 4])"]
)
def test_a_shape_may_be_written_in_several_ways(text: str) -> None:
    assert shown(shape=text).seen[0].layout.shape == (2, 3, 4)


def test_a_single_number_has_no_axes() -> None:
    (one,) = shown(shape="()").seen
    assert (one.layout.shape, numbers(one)) == ((), [0])


def test_every_example_shows_what_its_title_says(client: TestClient) -> None:
    pages = {}
    for links in PRESETS.values():
        for one in links:
            answer = client.get(one["address"])
            assert answer.status_code == 200
            assert 'role="alert">' not in answer.text.replace(" hidden></span>", "")
            pages[one["title"]] = answer.text
    assert "across axes 0 and 1 of 4 x 3" in pages["Transposed, then view"]
    assert "view size is not compatible" in unescape(pages["Transposed, then view"])
    assert "copied, 48 B" in pages["Transposed, then reshape: a copy"]
    assert "use flatten(1) or reshape" in pages["channels_last, then view(n, -1)"]
    assert "shares memory 2" in pages["flatten(2): rows and columns"]
    assert "copied, 78.6 MB" in pages["P3D&#39;s batch: a copy of 79 MB".replace("&#39;", "'")]
    assert "By its sizes this folds axis 2" in pages["view: the wrong order"]


def test_the_code_beside_it_does_the_same(client: TestClient) -> None:
    code = shown(shape="2, 3, 4, 4", calls=".channels_last().flatten(1).view_as(96, 1)").code
    names: dict[str, Any] = {"torch": torch}
    exec(code, names)  # noqa: S102
    assert names["x"].shape == (96, 1)


# -- in a browser ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OFFLINE)
        yield browser
        browser.close()


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


def cells(page: Page, step: int) -> list[int]:
    found = page.locator(f"[data-step='{step}'] table.places td").all_inner_texts()
    return [int(text) for text in found]


def fact(page: Page, step: int, name: str) -> str:
    return page.locator(f"[data-step='{step}'] [data-fact='{name}']").inner_text()


@pytest.mark.browser
def test_what_is_typed_is_shown_and_kept_in_the_address(window: Window) -> None:
    page = window.open("/lab/shapes")
    page.fill("#shape", "2, 3, 4")
    page.fill("#calls", ".permute(2, 0, 1).reshape(8, 3)")
    page.select_option("#dtype", "int64")
    page.select_option("#numbered", "start")
    real = torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1)
    expect(page.locator("[data-step='2'] [data-fact='shape']")).to_have_text("(8, 3)")
    expect(page.locator("[data-step='1'] [data-fact='bytes']")).to_have_text("192 B")
    assert cells(page, 1) == real.flatten().tolist()
    assert fact(page, 1, "strides") == str(real.stride())
    assert fact(page, 2, "strides") == str(real.reshape(8, 3).stride())
    state = page.url
    page.goto(state)
    assert page.input_value("#calls") == ".permute(2, 0, 1).reshape(8, 3)"
    assert cells(page, 1) == real.flatten().tolist()


@pytest.mark.browser
def test_half_a_call_leaves_what_was_shown_and_says_what_is_wrong(window: Window) -> None:
    page = window.open("/lab/shapes?shape=3,4&calls=.transpose(0,1)")
    page.fill("#calls", ".transpose(0,1).vie")
    expect(page.locator("#error-calls")).to_contain_text("no call")
    assert page.get_attribute("#calls", "aria-invalid") == "true"
    assert cells(page, 1) == torch.arange(12).reshape(3, 4).t().flatten().tolist()
    page.fill("#calls", ".transpose(0,1).view(12)")
    expect(page.locator("#result .verdict")).to_contain_text("Call 2, view(12), fails")
    expect(page.locator("#error-calls")).to_be_hidden()
    expect(page.locator("#result")).to_contain_text("would have to skip 12 elements")


@pytest.mark.browser
def test_it_works_without_scripts_and_by_keyboard(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/lab/shapes")
    page.fill("#calls", ".flatten()")
    page.focus("#numbered")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert fact(page, 1, "shape") == "(24,)"
    context.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_walk_and_a_failure_keep_nobody_out(window: Window, scheme: Any) -> None:
    window.page.emulate_media(color_scheme=scheme)
    for calls in (".channels_last().flatten(1)", ".transpose(0,1).view(-1)", ".nothing()"):
        page = window.open(f"/lab/shapes?{urlencode({'shape': '2,3,4,4', 'calls': calls})}")
        assert barriers(page) == []
        page.set_viewport_size({"width": 360, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
