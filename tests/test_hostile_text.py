"""Text of others is data: hostile texts in every field, and every page looked at in a browser."""

import re
import shutil
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import torch
from hostile import STRIKE, TERMINAL, TEXTS
from lab import Lab, points_of, tiny_config
from playwright.sync_api import Browser, Page, sync_playwright
from server import listening
from sqlalchemy import insert, update

from app.access import audit
from app.events import note_event
from app.models import queue_state, runs, tokens, workers
from app.names import name_problem
from trainer.probe import Place, quantised
from trainer.store.database import writing
from trainer.store.tables import log_chunks
from trainer.store.writer import SeriesKey, Writer

pytestmark = pytest.mark.browser

EVERYTHING = "\n\n".join(TEXTS)
PAGES = (
    "/runs /runs?q=%3Csvg%20onload%3Dwindow.struck%3D1%3E /queue /settings /settings/tokens "
    "/settings/audit /runs/new?clone=1 /login?next=%22%3E%3Cscript%3E "
    "/lab/loss?input=%22%3E%3Csvg%20onload%3Dwindow.struck%3D1%3E&target=%3C/textarea%3E%3Cscript%3E"
    "window.struck%3D1%3C/script%3E&size_average=%22%3E%3Cscript%3E&at=%22%3E%3Cimg%20src%3Dx%3E "
    "/lab/shapes?shape=%3Csvg%20onload%3Dwindow.struck%3D1%3E&calls=%22%3E%3Cscript%3E "
    "/lab/loader?batch_size=%22%3E%3Csvg%20onload%3Dwindow.struck%3D1%3E&task=%3Cscript%3E "
    "/lab/layers?model.name=%3Cscript%3E&task.name=%22%20onfocus%3D%22window.struck%3D1 "
    "/lab/layers?find=%22%3E%3Csvg%20onload%3Dwindow.struck%3D1%3E&pick=%3Cscript%3E&pick=%22%3E "
    "/lab/layers?task.name=shape&shape=%3C/select%3E%3Csvg%20onload%3Dwindow.struck%3D1%3E "
    "/lab/layers?recording.layers=%3Cimg%20src%3Dx%3E&find=*%22%20onfocus%3D%22window.struck%3D1 "
    "/lab/shapes?dtype=%3Cscript%3E&numbered=%22%20onfocus%3D%22window.struck%3D1 "
).split()
TABS = ("", "/layers", "/results", "/evidence", "/timeline", "/log", "/config", "/environment")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which whatever can be written by somebody is hostile."""
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    for number, text in enumerate(TEXTS):
        lab.add(tiny_config(), name=usable(text, number), note=text, recipe=text)
    with writing(lab.engine) as connection:
        connection.execute(
            update(runs)
            .where(runs.c.id == 1)
            .values(
                note=EVERYTHING,
                status="failed",
                cause="exception",
                reason=EVERYTHING,
                activity=EVERYTHING,
                device=TEXTS[0],
                environment={text: text for text in TEXTS},
                result={"val_loss": 0.5, **{text: text for text in TEXTS}},
                evidence={"seed": {text: text for text in TEXTS}},
                failure={
                    "traceback": EVERYTHING,
                    "frames": [
                        {"file": t, "line": 1, "function": t, "code": t, "whose": "yours"}
                        for t in TEXTS
                    ],
                },
            )
        )
        connection.execute(
            insert(log_chunks).values(
                run_id=1, number=0, attempt=1, written_at=0.0, text=TERMINAL + "\n" + EVERYTHING
            )
        )
        for text in TEXTS:
            note_event(connection, 1, "noted", text, text)
            note_event(connection, 1, "renamed", text, text)
            line = {"who": text, "role": text, "address": text, "method": text, "status": 200}
            audit.note(connection, path=text, **line)
            connection.execute(
                insert(tokens).values(
                    name=text, role="viewer", kind="program", hash=text, made_at=0.0
                )
            )
            connection.execute(
                insert(workers).values(
                    host=text, process=1, device=text, device_title=text, trouble=text,
                    started_at=0.0, seen_at=4e9,
                )
            )  # fmt: skip
        connection.execute(
            update(queue_state).values(paused_at=1.0, changed_by=EVERYTHING, reason=EVERYTHING)
        )
        for run_id in (1, 2, 3):
            writer = Writer(run_id)
            for name in ("train_loss", "val_accuracy", *TEXTS[:12]):
                writer.append(connection, {SeriesKey(name): points_of([0.5, 0.25, 0.125])})
            for text in TEXTS[:20]:
                output = quantised(Place(text, 0), 0, torch.rand(2, 3, 4, 4))
                writer.add_layer_outputs(connection, [output])
    return lab


def usable(text: str, number: int) -> str:
    """The text as a name, as far as one may be called so."""
    name = text.translate(str.maketrans("", "", "/?#"))[:90] + f" {number}"
    assert not name_problem(name)
    return name


@pytest.fixture(scope="module")
def client(lab: Lab) -> Iterator[httpx2.Client]:
    with listening(lab.settings) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or "/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu"],
        )
        yield browser
        browser.close()


def addresses() -> list[str]:
    compared = ",".join(str(number) for number in range(1, 61))
    runs = [f"/runs/1{tab}" for tab in TABS]
    others = [f"/runs/{number}" for number in (3, 30)]
    return [*PAGES, *runs, *others, f"/compare?runs={compared}", "/compare?runs=1,2,3"]


@pytest.mark.timeout(600)
def test_no_page_does_what_a_text_on_it_says(client: httpx2.Client, browser: Browser) -> None:
    page = browser.new_page()
    wrong: list[str] = []
    page.on("dialog", lambda dialog: (wrong.append(f"asked {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("console", lambda message: wrong.append(message.text) if is_bad(message) else None)
    page.on("request", lambda request: wrong.append(request.url) if is_elsewhere(request) else None)
    for address in addresses():
        answer = page.goto(f"{client.base_url}{address}")
        assert answer is not None
        assert answer.status == 200, address
        wrong += [f"{address}: {one}" for one in planted(page)]
    assert not wrong


def is_bad(message: Any) -> bool:
    return message.type in ("error", "warning")


def is_elsewhere(request: Any) -> bool:
    return not request.url.startswith(("http://127.0.0.1", "data:", "blob:"))


def planted(page: Page) -> list[str]:
    """What became of the texts that is more than text."""
    found: list[str] = page.evaluate(
        r"""() => {
          const all = [...document.querySelectorAll("*")];
          const attributes = all.flatMap((element) => [...element.attributes]);
          const bad = "script:not([src]), iframe, object, embed, base, marquee";
          const away = /^\s*(javascript:|vbscript:|data:text|(https?:)?\/\/evil)/i;
          return [
            ...(window.struck ? ["a script of theirs ran"] : []),
            ...all.filter((element) => element.matches(bad)).map((element) => element.outerHTML),
            ...attributes.filter(({ name }) => name.startsWith("on")).map(({ name }) => name),
            ...attributes
              .filter(({ name }) => ["href", "src", "action", "data"].includes(name))
              .map(({ value }) => value)
              .filter((value) => away.test(value)),
          ];
        }"""
    )
    return found


def test_the_texts_are_there_to_be_read(client: httpx2.Client, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{client.base_url}/runs/1/log")
    said = page.locator("#log").text_content() or ""
    assert [text for text in TEXTS if text not in said] == []
    page.goto(f"{client.base_url}/runs/2")
    assert usable(TEXTS[1], 1) in page.title()
    page.goto(f"{client.base_url}/compare?runs=1,2,3")
    page.locator(".legendtext").first.wait_for()
    names = page.locator(".legendtext").all_text_contents()
    assert [name for name in names if STRIKE in name]


def test_a_log_is_shown_without_orders_to_a_terminal(
    client: httpx2.Client, browser: Browser
) -> None:
    page = browser.new_page()
    page.goto(f"{client.base_url}/runs/1/log")
    shown = page.locator("#log").text_content() or ""
    assert "\x1b" not in shown
    assert shown.startswith("red plain\n")


def test_a_note_is_markdown_and_its_links_lead_where_they_may(client: httpx2.Client) -> None:
    note = (
        "**bold** [far](https://example.org/x) ![p](https://example.org/p.png) <b>no</b>\n\n- a\n"
    )
    client.patch("/api/v1/runs/5", json={"note": note}).raise_for_status()
    section = re.search(r'class="note-text".*?</section>', client.get("/runs/5").text, re.DOTALL)
    assert section is not None
    shown = section.group()
    assert "<strong>bold</strong>" in shown
    assert '<a href="https://example.org/x" rel="noopener noreferrer nofollow">far</a>' in shown
    assert "<li>a</li>" in shown
    assert "&lt;b&gt;no" in shown
    assert "<img" not in shown
