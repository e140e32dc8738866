"""The page of the queue and its workers: what it says, and what its forms change."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, tiny_config
from server import client_of
from sqlalchemy import insert, update

from app import queue
from app.models import Asked, workers
from trainer.store.database import writing

BROWSER = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.at(tmp_path)


@pytest.fixture
def client(lab: Lab) -> Iterator[Any]:
    with client_of(lab.settings) as found:
        found.headers.update(BROWSER)
        yield found


def order_of(client: Any) -> list[int]:
    """The numbers of the waiting runs, in the order the page shows them."""
    rows = re.findall(r'<tr data-run="(\d+)"', client.get("/queue").text)
    return [int(number) for number in rows]


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def change_worker(lab: Lab, **values: Any) -> None:
    with writing(lab.engine) as connection:
        own = workers.c.id == lab.worker_id
        connection.execute(update(workers).where(own).values(**values))


# -- workers --------------------------------------------------------------------------------


def test_a_lab_without_workers_or_runs_says_what_to_do(client: Any, lab: Lab) -> None:
    change_worker(lab, ended_at=1.0)
    page = text_of(client.get("/queue").text)
    assert "No worker is here" in page
    assert "tricklab worker --device cuda:0" in page
    assert "No run waits" in page


def test_every_worker_has_a_line_with_what_it_trains(client: Any, lab: Lab) -> None:
    with writing(lab.engine) as connection:
        connection.execute(
            insert(workers).values(
                host="there",
                process=42,
                device="cuda:1",
                device_title="NVIDIA H200",
                started_at=time.time(),
                seen_at=time.time(),
            )
        )
    claim = lab.claim(lab.add(tiny_config(), name="in hand"))
    with writing(lab.engine) as connection:
        queue.report(connection, claim, step=30, total_steps=120, activity="evaluating")
    first, second = client.get("/queue").text.split('<th scope="row" class="nowrap">worker')[1:3]
    assert "in hand" in first
    assert "step 30 of 120" in text_of(first)
    assert "evaluating, last moved just now" in text_of(first)
    assert "NVIDIA H200" in second
    assert "process 42" in second
    assert "idle" in second


def test_a_run_that_stands_still_says_for_how_long(client: Any, lab: Lab) -> None:
    claim = lab.claim(lab.add(tiny_config()))
    with writing(lab.engine) as connection:
        queue.report(connection, claim, step=30, activity="waiting for data")
        connection.exec_driver_sql("UPDATE runs SET moved_at = moved_at - 75")
    said = text_of(client.get("/queue").text)
    assert re.search(r"waiting for data, last moved 1 min 1\d s ago", said)


def test_a_silent_worker_and_a_full_disk_are_told_in_words(client: Any, lab: Lab) -> None:
    change_worker(lab, seen_at=time.time() - lab.settings.lease_seconds - 5)
    assert "Silent for 2" in text_of(client.get("/queue").text)
    change_worker(lab, seen_at=time.time(), trouble="the disk is nearly full: 12 MB are free")
    said = text_of(client.get("/queue").text)
    assert "Silent" not in said
    assert "starts nothing The disk is nearly full: 12 MB are free." in said
    assert "the disk is nearly full: 12 MB are free" in client.get("/runs").text


# -- order ----------------------------------------------------------------------------------


def test_the_buttons_move_a_run_first_up_down_and_last(client: Any, lab: Lab) -> None:
    a, b, c, d = (lab.add(tiny_config()) for _ in range(4))
    for run, to, expected in (
        (c, "first", [c, a, b, d]),
        (b, "up", [c, b, a, d]),
        (c, "down", [b, c, a, d]),
        (b, "last", [c, a, d, b]),
        (c, "up", [c, a, d, b]),
        (b, "down", [c, a, d, b]),
    ):
        answer = client.post(f"/queue/{run}/move", data={"to": to})
        assert answer.headers["location"] == "/queue"
        assert order_of(client) == expected
    assert lab.claim().run_id == c


def test_a_priority_goes_before_the_order(client: Any, lab: Lab) -> None:
    first, second = lab.add(tiny_config()), lab.add(tiny_config())
    client.post(f"/queue/{second}/priority", data={"priority": "5"})
    assert order_of(client) == [second, first]
    assert re.search(rf'id="priority-{second}" value="5"', client.get("/queue").text)
    assert client.post(f"/queue/{second}/priority", data={"priority": "1001"}).status_code == 422


@pytest.mark.parametrize("form", [("move", {"to": "first"}), ("priority", {"priority": "3"})])
def test_a_run_that_does_not_wait_has_no_place(client: Any, lab: Lab, form: Any) -> None:
    action, data = form
    run_id = lab.claim(lab.add(tiny_config())).run_id
    answer = client.post(f"/queue/{run_id}/{action}", data=data)
    assert answer.status_code == 409
    assert "place in the queue" in answer.text


def test_a_run_nobody_can_take_says_why(client: Any, lab: Lab) -> None:
    lab.add(tiny_config(device="cuda:2"))
    lab.add(tiny_config())
    page = client.get("/queue").text
    assert "<code>tricklab worker --device cuda:2</code>" in page
    assert text_of(page).count("its turn") == 1


# -- pause ----------------------------------------------------------------------------------


def test_a_paused_queue_says_so_and_gives_out_nothing(client: Any, lab: Lab) -> None:
    lab.add(tiny_config())
    client.post("/queue/pause", data={"reason": "<the> disk is being changed"})
    for address in ("/queue", "/runs"):
        page = client.get(address).text
        assert "is paused" in page
        assert "&lt;the&gt; disk is being changed" in page
    with writing(lab.engine) as connection:
        assert queue.claim(connection, lab.worker_id) is None
    client.post("/queue/resume")
    assert "is paused" not in client.get("/queue").text
    assert lab.claim().run_id == 1


@pytest.mark.parametrize(("ticked", "asked"), [(True, Asked.GIVE_BACK), (False, Asked.NOTHING)])
def test_running_runs_save_and_wait_only_where_that_is_ticked(
    client: Any, lab: Lab, ticked: bool, asked: Asked
) -> None:
    run_id = lab.claim(lab.add(tiny_config())).run_id
    client.post("/queue/pause", data={"running_too": "yes"} if ticked else {})
    assert lab.run(run_id).asked == asked
    assert ("asked to save and wait" in client.get("/queue").text) == ticked


def test_a_new_run_is_queued_with_its_priority(client: Any, lab: Lab) -> None:
    lab.add(tiny_config())
    sent = {"recipe": "digits-mlp", "task.name": "digits", "model.name": "mlp", "priority": "9"}
    answer = client.post("/runs/new", data=sent)
    run_id = int(answer.headers["location"].rpartition("/")[2])
    assert order_of(client)[0] == run_id
    for wrong in ("1001", "-1001", "high", "1e2", "٣"):
        refused = client.post("/runs/new", data=sent | {"priority": wrong})
        assert refused.status_code == 422
        assert "a whole number from -1000 to 1000" in refused.text
        assert f'name="priority" id="priority" value="{wrong}"' in refused.text
