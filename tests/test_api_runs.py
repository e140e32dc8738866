"""/api/v1/runs: creating, listing, steering and deleting runs."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from lab import Lab, tiny_config
from server import API, client_of, refusal, seconds_of, told

from app import queue
from app.api import shapes
from app.models import Status
from app.run_query import SORTS
from trainer.recipes import RECIPES
from trainer.store.database import writing
from trainer.store.packing import Points
from trainer.store.tables import log_chunks
from trainer.store.writer import SeriesKey, Writer

RUNS = f"{API}/runs"
RECIPE = {"recipe": "digits-cnn"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.at(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def client(lab: Lab) -> Iterator[TestClient]:
    with client_of(lab.settings) as client:
        yield client


def created(client: TestClient, **more: Any) -> dict[str, Any]:
    run: dict[str, Any] = told(client.post(RUNS, json={**RECIPE, **more}), shapes.Run, 201)
    return run


# -- create ---------------------------------------------------------------------------------


def test_a_config_becomes_a_queued_run(client: TestClient, lab: Lab) -> None:
    config = {"seed": 5, "tricks": [{"name": "seed"}], "budget": {"epochs": 2}}
    response = client.post(RUNS, json={"config": config})
    run = told(response, shapes.Run, 201)
    assert run["status"] == Status.QUEUED
    assert run["status_meaning"] == "Waits for a worker."
    assert (run["config"]["seed"], run["config"]["budget"]["epochs"]) == (5, 2)
    assert run["tricks"] == ["seed"]
    assert run["metrics"] == {}
    assert response.headers["location"] == f"{RUNS}/{run['id']}"
    assert lab.events(run["id"]) == [("queued", "")]


def test_a_recipe_becomes_a_run_that_remembers_it(client: TestClient) -> None:
    run = created(client, recipe="digits-mlp")
    assert run["recipe"] == "digits-mlp"
    assert run["config"] == RECIPES["digits-mlp"].config.model_dump(mode="json")


def test_a_config_beside_a_recipe_is_what_is_trained(client: TestClient) -> None:
    run = created(client, recipe="digits-mlp", config={"seed": 7})
    assert run["recipe"] == "digits-mlp"
    assert run["config"]["seed"] == 7
    assert run["config"]["model"]["name"] == "small_cnn"


def test_name_note_priority_and_parent_are_kept(client: TestClient) -> None:
    parent = created(client)["id"]
    run = created(client, name=" Größer besser ", note="a\nb", priority=-3, parent=parent)
    assert run["name"] == "Größer besser"
    assert (run["note"], run["priority"], run["parent_id"]) == ("a\nb", -3, parent)


def test_a_run_without_a_name_gets_a_readable_one(client: TestClient) -> None:
    run = created(client)
    assert run["name"].endswith(f"-{run['id']}")
    assert run["name"].count("-") == 2


def test_a_taken_name_is_refused(client: TestClient) -> None:
    created(client, name="taken")
    answer = client.post(RUNS, json={**RECIPE, "name": "taken"})
    assert "'taken' exists already" in refusal(answer, 409)


def test_a_parent_that_is_not_there_is_refused(client: TestClient) -> None:
    answer = client.post(RUNS, json={**RECIPE, "parent": 10**9})
    assert refusal(answer, 422) == "parent: there is no run 1000000000"


def test_the_same_key_queues_a_run_once(client: TestClient) -> None:
    before = client.get(RUNS).json()["total"]
    headers = {"Idempotency-Key": "once"}
    first = told(client.post(RUNS, json=RECIPE, headers=headers), shapes.Run, 201)
    again = told(client.post(RUNS, json=RECIPE, headers=headers), shapes.Run, 200)
    assert again["id"] == first["id"]
    assert client.get(RUNS).json()["total"] == before + 1


def test_the_same_key_with_another_config_is_refused(client: TestClient) -> None:
    headers = {"Idempotency-Key": "other"}
    first = told(client.post(RUNS, json=RECIPE, headers=headers), shapes.Run, 201)
    answer = client.post(RUNS, json={"config": {"seed": 1}}, headers=headers)
    assert f"was used for run {first['id']}" in refusal(answer, 409)


def test_many_clients_at_once_neither_lose_a_run_nor_block_each_other(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    answers: list[int] = []
    with client_of(lab.settings) as client:
        created(client)

        def create_and_look(number: int) -> None:
            answers.append(client.post(RUNS, json={**RECIPE, "name": f"n{number}"}).status_code)
            answers.append(client.get(f"{RUNS}/n{number}").status_code)

        threads = [threading.Thread(target=create_and_look, args=(n,)) for n in range(45)]
        # more than there are threads for requests: with the lock held, all of them wait
        with writing(lab.engine):
            for thread in threads:
                thread.start()
            time.sleep(1)
        released = time.monotonic()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [200] * 45 + [201] * 45
        assert time.monotonic() - released < 15
        assert client.get(RUNS).json()["total"] == 46


# -- list -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A lab with 230 runs: names, recipes and scores repeat, some have NaN, some no score."""
    lab = Lab.at(tmp_path_factory.mktemp("many"))
    with writing(lab.engine) as connection:
        for number in range(230):
            run_id = queue.add(
                connection,
                tiny_config(),
                recipe=list(RECIPES)[number % 3],
                name=f"r{-number % 230}",
            )
            score = [0.5, np.nan, np.inf, number / 230, None][number % 5]
            if score is not None:
                points = Points(np.array([1]), np.array([score]), np.array([0.0]))
                for name in ("val_accuracy", "val_loss"):
                    Writer(run_id).append(connection, {SeriesKey(name): points})
    with client_of(lab.settings) as client:
        yield client


def all_pages(client: TestClient, **query: Any) -> list[dict[str, Any]]:
    runs, cursor = [], ""
    while cursor is not None:
        params = query | ({"cursor": cursor} if cursor else {})
        page = told(client.get(RUNS, params=params), shapes.RunPage)
        runs += page["runs"]
        cursor = page["next"]
        assert page["total"] == 230
    return runs


def test_runs_come_newest_first(many: TestClient) -> None:
    page = told(many.get(RUNS), shapes.RunPage)
    assert [run["id"] for run in page["runs"]] == list(range(230, 180, -1))
    assert page["total"] == 230


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("sort", SORTS)
def test_pages_in_any_order_have_every_run_once(
    many: TestClient, sort: str, descending: bool
) -> None:
    runs = all_pages(many, sort=sort, descending=descending, limit=47)
    assert sorted(run["id"] for run in runs) == list(range(1, 231))
    whole = many.get(RUNS, params={"sort": sort, "descending": descending, "limit": 500})
    assert [run["id"] for run in whole.json()["runs"]] == [run["id"] for run in runs]


def test_runs_without_a_score_come_last_either_way(many: TestClient) -> None:
    for descending in (True, False):
        runs = all_pages(many, sort="val_accuracy", descending=descending, limit=100)
        scores = [run["metrics"].get("val_accuracy", {}).get("last", "NaN") for run in runs]
        known = [float(score) for score in scores if score != "NaN"]
        assert scores[len(known) :] == ["NaN"] * 92
        assert known == sorted(known, reverse=descending)


def test_a_page_that_is_just_full_is_the_last_one(many: TestClient) -> None:
    page = many.get(RUNS, params={"limit": 230}).json()
    assert len(page["runs"]) == 230
    assert page["next"] is None


def test_a_run_queued_while_paging_moves_no_other_to_another_page(client: TestClient) -> None:
    created(client), created(client)
    newest = created(client)["id"]
    first = client.get(RUNS, params={"limit": 2}).json()
    created(client)
    second = client.get(RUNS, params={"limit": 2, "cursor": first["next"]}).json()
    assert [run["id"] for run in first["runs"] + second["runs"]][:2] == [newest, newest - 1]
    assert second["runs"][0]["id"] == newest - 2


@pytest.mark.parametrize(
    "cursor", ["x", "WyJudW1iZXIiXQ", "bnVsbA", "äöü", "=", "WyJudW1iZXIiLHRydWUsInh4IiwiMSJd"]
)
def test_what_is_no_cursor_is_refused(many: TestClient, cursor: str) -> None:
    assert "no cursor" in refusal(many.get(RUNS, params={"cursor": cursor}), 422)


def test_a_cursor_of_another_order_is_refused(many: TestClient) -> None:
    cursor = many.get(RUNS, params={"sort": "name"}).json()["next"]
    answer = many.get(RUNS, params={"sort": "recipe", "cursor": cursor})
    assert "another order" in refusal(answer, 422)


def test_runs_are_found_by_status(client: TestClient) -> None:
    paused = created(client)["id"]
    client.post(f"{RUNS}/{paused}/pause")
    page = client.get(RUNS, params={"status": "paused"}).json()
    assert {run["status"] for run in page["runs"]} == {"paused"}
    assert paused in {run["id"] for run in page["runs"]}
    assert page["total"] == len(page["runs"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("zebra", {"by name"}),
        ("ZEBRA", {"by name"}),
        ("digits-mlp", {"by recipe"}),
        ("whatever", {"by note"}),
        ("what% here", set()),
        ("what here", {"by note"}),
        ("gradient_acc", {"by trick"}),
        ("seed", set()),
        ("100%", {"percent"}),
        ("100_", set()),
        ("", {"by name", "by recipe", "by note", "by trick", "percent"}),
    ],
)
def test_runs_are_found_by_words(found_by: dict[str, int], text: str, found: set[str]) -> None:
    client: Any = found_by["client"]
    page = told(client.get(RUNS, params={"text": text}), shapes.RunPage)
    assert {run["id"] for run in page["runs"]} == {found_by[what] for what in found}
    assert page["total"] == len(found)


@pytest.fixture(scope="module")
def found_by(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    lab = Lab.at(tmp_path_factory.mktemp("words"))
    with client_of(lab.settings) as client:
        yield {
            "client": client,
            "by name": created(client, name="a zebra")["id"],
            "by recipe": created(client, recipe="digits-mlp")["id"],
            "by note": created(client, note="whatever\nelse is here")["id"],
            "by trick": created(client, recipe="digits-cnn-accumulation", name="x")["id"],
            "percent": created(client, name="100% of it")["id"],
        }


def test_a_page_out_of_a_thousand_runs_is_quick(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    with writing(lab.engine) as connection:
        for _ in range(1000):
            queue.add(connection, tiny_config())
    with client_of(lab.settings) as client:
        assert min(seconds_of(lambda: client.get(RUNS)) for _ in range(5)) < 0.1


# -- look at --------------------------------------------------------------------------------


def test_a_run_is_found_by_number_and_by_name(client: TestClient) -> None:
    run = created(client, name="quick brown fox, 50 %")
    by_number = told(client.get(f"{RUNS}/{run['id']}"), shapes.Run)
    by_name = told(client.get(f"{RUNS}/quick brown fox, 50 %25"), shapes.Run)
    assert by_number == by_name == run


def test_an_unchanged_run_is_not_sent_again(client: TestClient) -> None:
    address = f"{RUNS}/{created(client)['id']}"
    tag = client.get(address).headers["etag"]
    unchanged = client.get(address, headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == tag
    client.patch(address, json={"note": "new"})
    changed = client.get(address, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_a_finished_run_tells_all_that_came_of_it(trained: tuple[Lab, TestClient, int]) -> None:
    _, client, run_id = trained
    run = told(client.get(f"{RUNS}/{run_id}"), shapes.Run)
    assert run["status"] == Status.FINISHED
    assert run["progress"] == 1
    assert run["seconds_left"] is None
    assert run["step"] == run["total_steps"] == 4
    assert run["result"]["val_accuracy"] == run["metrics"]["val_accuracy"]["last"]
    assert run["environment"]["device"] == "cpu"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, TestClient, int]]:
    lab = Lab.at(tmp_path_factory.mktemp("trained"))
    run_id = lab.train(tiny_config())
    with client_of(lab.settings) as client:
        yield lab, client, run_id


def test_events_say_what_happened_in_order(trained: tuple[Lab, TestClient, int]) -> None:
    _, client, run_id = trained
    events = told(client.get(f"{RUNS}/{run_id}/events"), shapes.Events)["events"]
    assert [event["kind"] for event in events] == ["queued", "running", "finished"]
    assert events[0]["by"] == "person"


def test_checkpoints_are_listed_with_their_hashes(trained: tuple[Lab, TestClient, int]) -> None:
    lab, client, run_id = trained
    found = told(client.get(f"{RUNS}/{run_id}/checkpoints"), shapes.Checkpoints)["checkpoints"]
    assert [checkpoint["step"] for checkpoint in found] == [4]
    path = lab.settings.run_folder(run_id) / "checkpoints" / found[0]["file"]
    assert path.stat().st_size == found[0]["bytes"]


def test_a_log_is_read_in_pieces(client: TestClient, lab: Lab) -> None:
    address = f"{RUNS}/{created(client)['id']}/log"
    assert told(client.get(address), shapes.Log) == {"text": "", "last": -1, "more": False}
    run_id = int(address.split("/")[-2])
    pieces = ["one\n", "x" * 999_999, "two\n", "\N{SNOWMAN}\x1b[1m\n"]
    with writing(lab.engine) as connection:
        for number, text in enumerate(pieces):
            row = {"run_id": run_id, "number": number, "attempt": 1, "written_at": 0.0}
            connection.execute(log_chunks.insert().values(**row, text=text))
    first = told(client.get(address), shapes.Log)
    assert (first["text"], first["last"], first["more"]) == ("".join(pieces[:2]), 1, True)
    rest = told(client.get(address, params={"after": first["last"]}), shapes.Log)
    assert (rest["text"], rest["last"], rest["more"]) == ("".join(pieces[2:]), 3, False)
    nothing = told(client.get(address, params={"after": rest["last"]}), shapes.Log)
    assert nothing == {"text": "", "last": 3, "more": False}


# -- change, delete -------------------------------------------------------------------------


def test_a_run_is_renamed_and_noted(client: TestClient, lab: Lab) -> None:
    run = created(client)
    change = {"name": "better name", "note": "**why**"}
    changed = told(client.patch(f"{RUNS}/{run['id']}", json=change), shapes.Run)
    assert (changed["name"], changed["note"]) == ("better name", "**why**")
    assert changed["version"] > run["version"]
    assert client.get(f"{RUNS}/better name").json() == changed
    assert lab.events(run["id"])[1:] == [("renamed", "better name"), ("noted", "")]


def test_a_change_leaves_out_what_it_does_not_name(client: TestClient) -> None:
    run = created(client, name="kept", note="kept too")
    assert client.patch(f"{RUNS}/kept", json={"note": "new"}).json()["name"] == "kept"
    assert client.patch(f"{RUNS}/kept", json={}).json()["note"] == "new"
    assert client.patch(f"{RUNS}/kept", json={"name": "kept"}).json()["id"] == run["id"]


def test_renaming_to_a_taken_name_is_refused(client: TestClient) -> None:
    created(client, name="first come")
    late = created(client)["id"]
    answer = client.patch(f"{RUNS}/{late}", json={"name": "first come", "note": "lost?"})
    assert "exists already" in refusal(answer, 409)
    assert client.get(f"{RUNS}/{late}").json()["note"] == ""


def test_a_deleted_run_is_gone_with_its_files(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    gone, stays = lab.train(tiny_config()), lab.train(tiny_config())
    with client_of(lab.settings) as client:
        answer = client.delete(f"{RUNS}/{gone}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert not lab.settings.run_folder(gone).exists()
        for what in ("", "/events", "/series", "/log", "/layers"):
            assert refusal(client.get(f"{RUNS}/{gone}{what}"), 404) == f"there is no run {gone}"
        assert refusal(client.delete(f"{RUNS}/{gone}"), 404) == f"there is no run {gone}"
        assert lab.settings.run_folder(stays).exists()
        assert told(client.get(f"{RUNS}/{stays}"), shapes.Run)["metrics"]


def test_files_stay_where_a_deletion_is_taken_back(client: TestClient, lab: Lab) -> None:
    waiting, running = created(client)["id"], created(client)["id"]
    lab.claim(running)
    folder = lab.settings.run_folder(waiting)
    folder.mkdir(parents=True)
    form = {"runs": [waiting, running], "confirmed": "true"}
    assert refusal(client.post("/runs/delete", data=form), 409)
    assert folder.exists()
    assert client.get(f"{RUNS}/{waiting}").status_code == 200


def test_a_running_run_is_not_deleted(client: TestClient, lab: Lab) -> None:
    run_id = created(client)["id"]
    lab.claim(run_id)
    file = lab.settings.run_folder(run_id) / "kept"
    file.parent.mkdir(parents=True)
    file.touch()
    answer = client.delete(f"{RUNS}/{run_id}")
    assert refusal(answer, 409) == f"run {run_id} is running; cancel it first"
    assert file.exists()
    assert client.get(f"{RUNS}/{run_id}").status_code == 200


# -- steer ----------------------------------------------------------------------------------


def test_a_waiting_run_is_paused_and_resumed(client: TestClient) -> None:
    address = f"{RUNS}/{created(client)['id']}"
    paused = told(client.post(f"{address}/pause"), shapes.Run)
    assert (paused["status"], paused["reason"]) == ("paused", "paused before it began")
    resumed = told(client.post(f"{address}/resume"), shapes.Run)
    assert (resumed["status"], resumed["reason"]) == ("queued", "")


@pytest.mark.parametrize("verb", ["stop", "cancel"])
def test_a_waiting_run_is_cancelled_at_once(client: TestClient, verb: str) -> None:
    run = told(client.post(f"{RUNS}/{created(client)['id']}/{verb}"), shapes.Run)
    assert (run["status"], run["reason"]) == ("cancelled", "cancelled while it waited")
    assert run["ended_at"] is not None


@pytest.mark.parametrize("verb", ["pause", "stop", "cancel"])
def test_a_running_run_is_asked(client: TestClient, lab: Lab, verb: str) -> None:
    run_id = created(client)["id"]
    lab.claim(run_id)
    run = told(client.post(f"{RUNS}/{run_id}/{verb}"), shapes.Run)
    assert (run["status"], run["asked"]) == ("running", verb)
    assert lab.events(run_id)[-1] == (f"asked to {verb}", "")


@pytest.mark.parametrize("verb", ["pause", "stop", "cancel"])
def test_what_is_over_takes_no_orders(trained: tuple[Lab, TestClient, int], verb: str) -> None:
    _, client, run_id = trained
    answer = client.post(f"{RUNS}/{run_id}/{verb}")
    assert refusal(answer, 409) == f"run {run_id} is finished; there is nothing to {verb}"


def test_only_a_paused_run_is_resumed(client: TestClient) -> None:
    run_id = created(client)["id"]
    answer = client.post(f"{RUNS}/{run_id}/resume")
    assert refusal(answer, 409) == f"run {run_id} is queued; only a paused run can be resumed"


@pytest.mark.parametrize("verb", ["pause", "stop", "cancel", "resume"])
def test_no_run_no_orders(client: TestClient, verb: str) -> None:
    assert refusal(client.post(f"{RUNS}/nobody/{verb}"), 404) == "there is no run nobody"
