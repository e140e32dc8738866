"""What the page of a run tells when something went wrong, and what its buttons do then."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, quick_config, tiny_config
from server import BROWSER, client_of

from app import endings, labels, queue
from app.executors.training import ClaimOverseer
from app.models import Asked, Status
from trainer.failures import Cause, Failure, failure_of
from trainer.store.database import writing


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.at(tmp_path)


@pytest.fixture
def client(lab: Lab) -> Iterator[Any]:
    with client_of(lab.settings) as found:
        found.headers.update(BROWSER)
        yield found


@pytest.fixture
def failpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which faults can be laid."""
    folder = tmp_path / "failpoints"
    folder.mkdir()
    monkeypatch.setattr("trainer.failpoints.FOLDER", str(folder))
    return folder


def failed(lab: Lab, failure: Failure, **more: Any) -> int:
    """A run that was claimed and then failed this way."""
    run_id = lab.add(tiny_config(), **more)
    claim = lab.claim(run_id)
    with writing(lab.engine) as connection:
        queue.fail(connection, claim, failure)
    return run_id


def text_of(html: str) -> str:
    """What a page says, without its tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def block_of(page: str) -> str:
    found = re.search(r'<section class="failure.*?</section>', page, re.DOTALL)
    assert found, "there is no failure block"
    return found[0]


def destination(answer: Any) -> int:
    """The run whose page a button leads to."""
    assert answer.status_code == 303, answer.text
    return int(answer.headers["location"].rpartition("/")[2])


# -- what went wrong ------------------------------------------------------------------------


def test_a_diverged_run_shows_its_last_finite_values(client: Any, lab: Lab) -> None:
    run_id = lab.train(tiny_config(optimizer={"learning_rate": 1000.0}, budget={"epochs": 20}))
    failure = lab.run(run_id).failure
    block = block_of(client.get(f"/runs/{run_id}").text)
    rows = re.findall(r'<tr><th scope="row">(.*?)</th><td class="right">(\d+)</td>', block)
    assert rows == [
        ("Last finite", str(failure["last_finite"]["step"])),
        ("Diverged", str(failure["step"])),
    ]
    assert f'href="/runs/new?clone={run_id}"' in block
    assert "Retry" not in block


def test_a_run_out_of_memory_offers_a_lighter_one(client: Any, lab: Lab, failpoints: Path) -> None:
    (failpoints / "checkpoint.begin").write_text("no-memory")
    run_id = lab.train(tiny_config(loader={"batch_size": 360}), name="heavy")
    block = text_of(block_of(client.get("/runs/heavy").text))
    assert "Out of memory" in block
    assert "MB at its peak" in block
    assert "batch 360 → 180, accumulation 1 → 2" in block
    lighter = lab.run(destination(client.post(f"/runs/{run_id}/retry-lighter")))
    assert lighter.config["loader"]["batch_size"] == 180
    assert lighter.parent_id == run_id


def test_where_nothing_is_lighter_the_block_says_why(client: Any, lab: Lab) -> None:
    config = tiny_config(loader={"batch_size": 1})
    run_id = lab.add(config)
    claim = lab.claim(run_id)
    with writing(lab.engine) as connection:
        queue.fail(connection, claim, endings.starved(10**9))
    block = block_of(client.get(f"/runs/{run_id}").text)
    assert "a batch is one example already" in block
    assert "retry-lighter" not in block


def my_augmentation(described: str) -> object:
    return json.loads(described)


def test_an_exception_shows_the_persons_own_lines_and_folds_the_others(
    client: Any, lab: Lab
) -> None:
    try:
        my_augmentation("{rotate}")
    except ValueError as error:
        failure = failure_of(error, {})
    block = block_of(client.get(f"/runs/{failed(lab, failure)}").text)
    first, _, rest = block.partition("<details")
    assert "Expecting property name" in text_of(first)
    for line in ("return json.loads(described)", "my_augmentation(&#34;{rotate}&#34;)"):
        assert line in first
    assert "raw_decode" not in first
    assert "raw_decode" in rest
    assert "Traceback (most recent call last)" in rest


def test_what_an_error_says_is_never_html(client: Any, lab: Lab) -> None:
    try:
        raise ValueError("<img src=x onerror=alert(1)>")
    except ValueError as error:
        failure = failure_of(error, {})
    page = client.get(f"/runs/{failed(lab, failure)}").text
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


@pytest.mark.parametrize(
    ("failure", "title", "words"),
    [
        (endings.hang(734, 812, "waiting for data"), "Hung", "Nothing moved for 734 s"),
        (endings.crash(-11, "Segmentation fault"), "Crashed", "was killed by SIGSEGV"),
        (endings.starved(7_900_000_000), "Out of memory", "7,900 MB"),
    ],
)
def test_what_the_machine_did_is_named_and_can_be_retried(
    client: Any, lab: Lab, failure: Failure, title: str, words: str
) -> None:
    run_id = failed(lab, failure)
    block = block_of(client.get(f"/runs/{run_id}").text)
    assert title in block
    assert words in text_of(block)
    assert failure.cause.advice in text_of(block).replace("&#39;", "'")
    assert destination(client.post(f"/runs/{run_id}/retry")) == run_id
    assert lab.run(run_id).status == Status.QUEUED


def test_a_refused_config_is_not_retried_but_changed(client: Any, lab: Lab) -> None:
    run_id = failed(lab, Failure(Cause.REFUSED, "tricks.0: there is nothing to change"))
    block = block_of(client.get(f"/runs/{run_id}").text)
    assert "Clone and change" in block
    assert "/retry" not in block


def test_a_full_disk_pauses_the_run_and_leads_to_the_settings(
    client: Any, lab: Lab, failpoints: Path
) -> None:
    (failpoints / "checkpoint.begin").write_text("no-space")
    run_id = lab.train(tiny_config())
    block = block_of(client.get(f"/runs/{run_id}").text)
    assert "Disk full" in block
    assert 'href="/settings"' in block
    client.post(f"/runs/{run_id}/resume")
    assert lab.run(run_id).status == Status.QUEUED
    assert "Disk full" not in client.get(f"/runs/{run_id}").text


def test_the_table_of_runs_names_the_cause_before_the_reason(client: Any, lab: Lab) -> None:
    failed(lab, endings.hang(734, 812, "waiting for data"))
    page = client.get("/runs").text
    assert '<span class="chip">hung</span>nothing moved for 734 s' in page


# -- what can be done -----------------------------------------------------------------------


def test_a_finished_run_is_trained_on_for_more_epochs(client: Any, lab: Lab) -> None:
    run_id = lab.train(quick_config())
    assert "Train on" in client.get(f"/runs/{run_id}").text
    child = lab.run(destination(client.post(f"/runs/{run_id}/continue", data={"epochs": "3"})))
    assert (child.parent_id, child.config["budget"]["epochs"]) == (run_id, 5)
    assert client.post(f"/runs/{run_id}/continue", data={"epochs": "0"}).status_code == 422


def test_a_run_can_be_queued_the_same_again(client: Any, lab: Lab) -> None:
    run_id = lab.add(tiny_config(seed=7))
    clone = lab.run(destination(client.post(f"/runs/{run_id}/clone")))
    assert clone.id != run_id
    assert clone.config == lab.run(run_id).config


def test_an_archived_run_leaves_the_table_until_it_is_put_back(client: Any, lab: Lab) -> None:
    kept, away = lab.train(tiny_config(), name="kept"), lab.train(tiny_config(), name="away")
    client.post(f"/runs/{away}/archive")
    table = client.get("/runs").text
    assert f'data-run="{kept}"' in table
    assert f'data-run="{away}"' not in table
    assert "All <span" in table
    assert 'Archived <span class="count">1</span>' in table
    archived = client.get("/runs?archived=true").text
    assert f'data-run="{away}"' in archived
    assert f'data-run="{kept}"' not in archived
    client.post(f"/runs/{away}/unarchive")
    assert f'data-run="{away}"' in client.get("/runs").text


def test_several_runs_are_archived_together_or_not_at_all(client: Any, lab: Lab) -> None:
    over = [lab.train(tiny_config()), lab.train(tiny_config())]
    waiting = lab.add(tiny_config())
    refused = client.post("/runs/archive", data={"runs": [*over, waiting]})
    assert refused.status_code == 409
    assert f"run {waiting} is queued" in refused.text
    assert [lab.run(run_id).archived_at for run_id in over] == [None, None]
    client.post("/runs/archive", data={"runs": over})
    assert None not in [lab.run(run_id).archived_at for run_id in over]
    client.post("/runs/unarchive", data={"runs": over})
    assert [lab.run(run_id).archived_at for run_id in over] == [None, None]


def test_a_lab_whose_runs_are_all_archived_is_not_taken_for_an_empty_one(
    client: Any, lab: Lab
) -> None:
    run_id = lab.train(tiny_config())
    with writing(lab.engine) as connection:
        labels.archive(connection, run_id)
    page = client.get("/runs").text
    assert "No runs yet" not in page
    assert "Every run is archived" in page


# -- while it runs, and afterwards ----------------------------------------------------------


def test_a_running_run_tells_what_it_does_beside_stepping(client: Any, lab: Lab) -> None:
    claim = lab.claim(lab.add(tiny_config()))
    address = f"/runs/{claim.run_id}/header"
    for activity, is_told in (("evaluating", True), ("forward pass", False)):
        with writing(lab.engine) as connection:
            queue.report(connection, claim, step=3, activity=activity)
        assert (activity in client.get(address).text) == is_told
    with writing(lab.engine) as connection:
        connection.exec_driver_sql("UPDATE runs SET moved_at = moved_at - 42")
        queue.say(connection, claim, "waiting for data")
    assert re.search(r"waiting for data for 4[2-9] s", text_of(client.get(address).text))


def test_a_waiting_run_tells_what_it_waits_for(client: Any, lab: Lab) -> None:
    first, second = lab.add(tiny_config()), lab.add(tiny_config())
    elsewhere = lab.add(tiny_config(device="cuda:3"))
    assert "It is the next in the queue" in client.get(f"/runs/{first}").text
    assert "1 run before it in the queue" in client.get(f"/runs/{second}").text
    assert "<code>tricklab worker --device cuda:3</code>" in client.get(f"/runs/{elsewhere}").text
    client.post("/queue/pause", data={"reason": "the cat sleeps on it"})
    assert "the cat sleeps on it" in client.get(f"/runs/{first}").text


def test_the_timeline_tells_what_happened_when_the_plug_was_pulled(client: Any, lab: Lab) -> None:
    run_id = lab.add(tiny_config(budget={"epochs": 3}), name="survivor")
    lab.train_until(run_id, 5)
    client.post(f"/runs/{run_id}/resume")
    claim = lab.claim(run_id)
    with writing(lab.engine) as connection:
        queue.requeue(connection, run_id, claim.fence, "worker 1 was lost at step 7", 3)
    claim = lab.claim(run_id)
    with writing(lab.engine) as connection:
        ClaimOverseer(claim).begin(connection, {"step": 5})
    said = text_of(client.get(f"/runs/{run_id}/timeline/list").text)
    story = [
        "Queued",
        "Started",
        "Attempt 1 on cpu",
        "Asked to pause",
        "Paused",
        "Paused at step 5",
        "Resumed",
        "Started again",
        "Attempt 2 on cpu",
        "Back in the queue",
        "Worker 1 was lost at step 7; queued again",
        "Attempt 3 on cpu",
        "Went on",
        "From the checkpoint at step 5",
    ]
    places = [said.find(words) for words in story]
    assert -1 not in places, story[places.index(-1)]
    assert places == sorted(places)
    header = client.get(f"/runs/{run_id}").text
    assert "attempt 3" in header


def test_the_timeline_tells_how_long_each_status_lasted(client: Any, lab: Lab) -> None:
    run_id = lab.train(tiny_config())
    with writing(lab.engine) as connection:
        for kind, seconds in (("queued", 1000), ("running", 900), ("finished", 50)):
            connection.exec_driver_sql(
                f"UPDATE run_events SET at = at - {seconds} WHERE kind = '{kind}'"
            )
    said = text_of(client.get(f"/runs/{run_id}/timeline").text)
    assert re.search(r"waited 1 min 4\d s", said)
    assert re.search(r"ran for 14 min \d+ s", said)


def test_labels_and_requests_are_on_the_timeline_too(client: Any, lab: Lab) -> None:
    run_id = lab.add(tiny_config())
    client.post(f"/runs/{run_id}/describe", data={"run_name": "better name", "note": "why"})
    client.post(f"/queue/{run_id}/priority", data={"priority": "7"})
    claim = lab.claim(run_id)
    with writing(lab.engine) as connection:
        queue.ask(connection, claim.run_id, Asked.STOP)
    said = text_of(client.get(f"/runs/{run_id}/timeline").text)
    for words in ("Renamed to “better name”", "Note changed", "Priority 7", "Asked to stop"):
        assert words in said


def test_the_environment_lists_the_checkpoints_with_their_hashes(client: Any, lab: Lab) -> None:
    run_id = lab.train(quick_config())
    page = client.get(f"/runs/{run_id}/environment").text
    told = client.get(f"/api/v1/runs/{run_id}/checkpoints").json()["checkpoints"]
    assert told
    for checkpoint in told:
        assert checkpoint["sha256"] in page
        assert checkpoint["file"] in page
