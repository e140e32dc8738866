"""What a person does to runs, the queue and the storage through the API."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from lab import Lab, tiny_config
from server import API, client_of, refusal, told

from app import order, queue
from app.api import shapes
from app.models import Asked, Status
from trainer.failures import Cause, Failure
from trainer.store.database import writing

RUNS = f"{API}/runs"
QUEUE = f"{API}/queue"
STORAGE = f"{API}/storage"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.at(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def client(lab: Lab) -> Iterator[TestClient]:
    with client_of(lab.settings) as client:
        yield client


@pytest.fixture(scope="module")
def finished(lab: Lab) -> int:
    return lab.train(tiny_config(), name="finished")


@pytest.fixture
def nothing_waits(lab: Lab) -> None:
    """The queue, without what other tests left in it."""
    with writing(lab.engine) as connection:
        order.resume_queue(connection)
        for row in order.waiting_runs(connection):
            queue.ask(connection, row.id, Asked.CANCEL)


def waiting(client: TestClient) -> list[int]:
    return [run["id"] for run in told(client.get(QUEUE), shapes.Queue)["waiting"]]


def failed(lab: Lab, **config: Any) -> int:
    """A run that ran out of memory."""
    run_id = lab.add(tiny_config(**config), priority=4)
    claim = lab.claim(run_id)
    with writing(lab.engine) as connection:
        failure = Failure(Cause.OUT_OF_MEMORY, "out of memory", {"peak_memory_bytes": 5})
        queue.fail(connection, claim, failure)
    return run_id


# -- again ----------------------------------------------------------------------------------


def test_a_failed_run_tells_what_is_known_of_its_failure(client: TestClient, lab: Lab) -> None:
    run = told(client.get(f"{RUNS}/{failed(lab)}"), shapes.Run)
    assert (run["status"], run["cause"]) == ("failed", "out of memory")
    assert run["failure"] == {"peak_memory_bytes": 5}
    assert run["advice"] == Cause.OUT_OF_MEMORY.advice


def test_a_failed_run_is_retried_as_the_same_run(client: TestClient, lab: Lab) -> None:
    run_id = failed(lab)
    run = told(client.post(f"{RUNS}/{run_id}/retry"), shapes.Run)
    assert (run["id"], run["status"], run["cause"], run["advice"]) == (run_id, "queued", "", "")
    assert run["failure"] is None
    again = client.post(f"{RUNS}/{run_id}/retry")
    assert refusal(again, 409) == (
        f"run {run_id} is queued; only a failed or cancelled run can be retried"
    )


def test_a_clone_is_a_new_run_with_the_same_config(client: TestClient, finished: int) -> None:
    answer = client.post(f"{RUNS}/finished/clone")
    run = told(answer, shapes.Run, 201)
    assert answer.headers["location"] == f"{RUNS}/{run['id']}"
    assert (run["id"] > finished, run["parent_id"], run["status"]) == (True, finished, "queued")
    assert run["config"] == client.get(f"{RUNS}/{finished}").json()["config"]
    events = client.get(f"{RUNS}/{run['id']}/events").json()["events"]
    assert [event["text"] for event in events] == [f"cloned from run {finished}"]


def test_a_run_is_retried_in_less_memory_as_a_new_one(client: TestClient, lab: Lab) -> None:
    run_id = failed(lab)
    answer = client.post(f"{RUNS}/{run_id}/retry-lighter")
    run = told(answer, shapes.Run, 201)
    assert answer.headers["location"] == f"{RUNS}/{run['id']}"
    assert (run["parent_id"], run["priority"], run["status"]) == (run_id, 4, "queued")
    assert run["config"]["loader"]["batch_size"] == 180
    (trick,) = run["config"]["tricks"]
    assert (trick["name"], trick["steps"]) == ("gradient_accumulation", 2)
    assert lab.run(run_id).status == Status.FAILED


def test_a_batch_of_one_cannot_be_lighter(client: TestClient, lab: Lab) -> None:
    run_id = failed(lab, loader={"batch_size": 1})
    answer = client.post(f"{RUNS}/{run_id}/retry-lighter")
    assert "a batch is one example already" in refusal(answer, 409)


def test_a_finished_run_is_continued_by_a_new_one(
    client: TestClient, lab: Lab, finished: int
) -> None:
    answer = client.post(f"{RUNS}/{finished}/continue", json={"epochs": 2})
    run = told(answer, shapes.Run, 201)
    assert answer.headers["location"] == f"{RUNS}/{run['id']}"
    assert (run["parent_id"], run["status"]) == (finished, "queued")
    assert run["config"]["budget"]["epochs"] == 3
    # its curves are there before it is trained
    assert run["metrics"]["train_loss"]["last_step"] == lab.run(finished).step == 4


def test_only_a_finished_run_is_continued(client: TestClient, lab: Lab) -> None:
    run_id = failed(lab)
    answer = client.post(f"{RUNS}/{run_id}/continue", json={"epochs": 1})
    assert refusal(answer, 409) == f"run {run_id} is failed; only a finished run can be continued"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"epochs": 0}, "epochs: Input should be greater than or equal to 1"),
        ({"epochs": True}, "epochs: Input should be a valid integer"),
        ({"epochs": "2"}, "epochs: Input should be a valid integer"),
        ({"epochs": 2**70}, "epochs: Input should be less than or equal to"),
        ({"epochs": 1, "steps": 2}, "steps: there is no such field"),
        ({}, "epochs: Field required"),
    ],
)
def test_a_bad_number_of_epochs_is_refused(
    client: TestClient, finished: int, body: dict[str, Any], detail: str
) -> None:
    before = client.get(RUNS).json()["total"]
    answer = client.post(f"{RUNS}/{finished}/continue", json=body)
    assert refusal(answer, 422).startswith(detail)
    assert client.get(RUNS).json()["total"] == before


def test_more_epochs_than_a_config_takes_are_refused_at_their_field(
    client: TestClient, finished: int
) -> None:
    answer = client.post(f"{RUNS}/{finished}/continue", json={"epochs": 100_000})
    assert refusal(answer, 422).startswith("budget.epochs: ")


# -- put away -------------------------------------------------------------------------------


def test_an_archived_run_is_in_a_list_of_its_own(client: TestClient, lab: Lab) -> None:
    run_id = lab.train(tiny_config())

    def listed(**query: Any) -> set[int]:
        page = told(client.get(RUNS, params={"limit": 500, **query}), shapes.RunPage)
        assert page["total"] == len(page["runs"])
        return {run["id"] for run in page["runs"]}

    run = told(client.post(f"{RUNS}/{run_id}/archive"), shapes.Run)
    assert run["archived_at"] == pytest.approx(time.time(), abs=10)
    assert run_id not in listed()
    assert listed(archived=True) == {run_id}
    again = client.post(f"{RUNS}/{run_id}/archive")
    assert "is archived already" in refusal(again, 409)
    assert told(client.post(f"{RUNS}/{run_id}/unarchive"), shapes.Run)["archived_at"] is None
    assert run_id in listed()
    assert listed(archived=True) == set()
    assert refusal(client.post(f"{RUNS}/{run_id}/unarchive"), 409) == (
        f"run {run_id} is not archived"
    )


def test_a_run_that_waits_is_not_archived(client: TestClient, lab: Lab) -> None:
    answer = client.post(f"{RUNS}/{lab.add(tiny_config())}/archive")
    assert "only a run that is over can be archived" in refusal(answer, 409)


# -- the order ------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_waits")
def test_runs_are_moved_to_where_a_person_wants_them(client: TestClient, lab: Lab) -> None:
    first, second, third = (lab.add(tiny_config()) for _ in range(3))
    assert waiting(client) == [first, second, third]
    told(client.post(f"{RUNS}/{third}/move", json={"position": 1}), shapes.Run)
    assert waiting(client) == [third, first, second]
    told(client.post(f"{RUNS}/{third}/move", json={"position": 2}), shapes.Run)
    assert waiting(client) == [first, third, second]
    told(client.post(f"{RUNS}/{first}/move", json={"position": 99}), shapes.Run)
    assert waiting(client) == [third, second, first]


@pytest.mark.usefixtures("nothing_waits")
def test_a_higher_priority_goes_first(client: TestClient, lab: Lab) -> None:
    first, second = lab.add(tiny_config()), lab.add(tiny_config())
    run = told(client.patch(f"{RUNS}/{second}", json={"priority": 7}), shapes.Run)
    assert run["priority"] == 7
    assert waiting(client) == [second, first]


def test_only_a_waiting_run_has_a_place(client: TestClient, finished: int) -> None:
    moved = client.post(f"{RUNS}/{finished}/move", json={"position": 1})
    changed = client.patch(f"{RUNS}/{finished}", json={"priority": 1, "note": "lost?"})
    for answer in (moved, changed):
        assert "only a waiting run has a place in the queue" in refusal(answer, 409)
    assert client.get(f"{RUNS}/{finished}").json()["note"] == ""


@pytest.mark.parametrize("position", [0, -1, 1.5, "1", None, 2**70])
def test_a_bad_position_is_refused(client: TestClient, finished: int, position: Any) -> None:
    answer = client.post(f"{RUNS}/{finished}/move", json={"position": position})
    assert refusal(answer, 422).startswith("position: Input should be")


@pytest.mark.parametrize("priority", [1001, -1001, 0.5, True, "1"])
def test_a_bad_priority_is_refused(client: TestClient, finished: int, priority: Any) -> None:
    answer = client.patch(f"{RUNS}/{finished}", json={"priority": priority})
    assert refusal(answer, 422).startswith("priority: Input should be")


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("retry", None),
        ("clone", None),
        ("retry-lighter", None),
        ("continue", {"epochs": 1}),
        ("move", {"position": 1}),
        ("archive", None),
        ("unarchive", None),
    ],
)
def test_no_run_no_orders(client: TestClient, verb: str, body: Any) -> None:
    answer = client.post(f"{RUNS}/nobody/{verb}", json=body)
    assert refusal(answer, 404) == "there is no run nobody"


# -- the whole queue ------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_waits")
def test_the_queue_is_paused_and_resumed(client: TestClient, lab: Lab) -> None:
    run_id = lab.add(tiny_config())
    paused = told(client.post(f"{QUEUE}/pause", json={"reason": "demo at 3"}), shapes.Queue)
    assert paused["paused_at"] == pytest.approx(time.time(), abs=10)
    assert paused["paused_reason"] == "demo at 3"
    assert [run["id"] for run in paused["waiting"]] == [run_id]
    assert paused["waiting"][0]["waits_for"].startswith("The queue is paused (demo at 3)")
    with writing(lab.engine) as connection:
        assert queue.claim(connection, lab.worker_id) is None
    resumed = told(client.post(f"{QUEUE}/resume"), shapes.Queue)
    assert (resumed["paused_at"], resumed["paused_reason"]) == (None, "")
    assert lab.claim().run_id == run_id
    running = told(client.get(QUEUE), shapes.Queue)
    assert [run["id"] for run in running["running"]][-1:] == [run_id]
    assert (running["waiting"], running["waiting_total"]) == ([], 0)


@pytest.mark.usefixtures("nothing_waits")
def test_those_that_train_are_asked_to_wait_only_if_wanted(client: TestClient, lab: Lab) -> None:
    run_id = lab.add(tiny_config())
    lab.claim(run_id)
    told(client.post(f"{QUEUE}/pause"), shapes.Queue)
    assert lab.run(run_id).asked == Asked.NOTHING
    told(client.post(f"{QUEUE}/pause", json={"running_too": True}), shapes.Queue)
    assert lab.run(run_id).asked == Asked.GIVE_BACK
    told(client.post(f"{QUEUE}/resume"), shapes.Queue)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"running_too": "yes"}, "running_too: Input should be a valid boolean"),
        ({"running_too": 1}, "running_too: Input should be a valid boolean"),
        ({"reason": "x" * 1001}, "reason: String should have at most 1000 characters"),
        ({"reason": "a\0b"}, "reason: it contains a NUL character"),
        ({"why": ""}, "why: there is no such field"),
    ],
)
def test_a_bad_pause_is_refused(client: TestClient, body: dict[str, Any], detail: str) -> None:
    assert refusal(client.post(f"{QUEUE}/pause", json=body), 422) == detail
    assert client.get(QUEUE).json()["paused_at"] is None


# -- the storage ----------------------------------------------------------------------------


def test_the_storage_is_told_and_cleaned(client: TestClient, lab: Lab) -> None:
    often = {"checkpoint_steps": 3, "checkpoints_kept": 3}
    run_id = lab.train(tiny_config(budget={"epochs": 2}, recording=often))
    before = told(client.get(STORAGE), shapes.Storage)
    assert before["checkpoints"]["count"] >= 3
    assert run_id in {run["id"] for run in before["largest"]}
    body = {"what": "old-checkpoints", "dry_run": True}
    would = told(client.post(f"{STORAGE}/clean", json=body), shapes.Freed)
    assert (would["runs"], would["files"], would["dry_run"]) == (1, 2, True)
    assert client.get(STORAGE).json()["checkpoints"] == before["checkpoints"]
    freed = told(client.post(f"{STORAGE}/clean", json={"what": body["what"]}), shapes.Freed)
    assert freed == {**would, "dry_run": False}
    after = told(client.get(STORAGE), shapes.Storage)
    assert before["checkpoints"]["bytes"] - after["checkpoints"]["bytes"] == freed["bytes"]


def test_an_unknown_clean_up_is_refused_with_the_names_of_all(client: TestClient) -> None:
    answer = client.post(f"{STORAGE}/clean", json={"what": "everything"})
    assert refusal(answer, 422) == (
        "what: Input should be 'old-checkpoints', 'archived-runs' or 'left-over-files'"
    )
    assert refusal(client.post(f"{STORAGE}/clean", json={}), 422) == "what: Field required"


def test_files_in_the_folder_of_another_database_are_not_deleted(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    lab = Lab.at(tmp_path_factory.mktemp("empty"))
    file = lab.settings.run_folder(1) / "file"
    file.parent.mkdir(parents=True)
    file.touch()
    with client_of(lab.settings) as client:
        answer = client.post(f"{STORAGE}/clean", json={"what": "left-over-files"})
        assert "it may be the wrong database" in refusal(answer, 409)
    assert file.exists()
