"""The pages as HTML: what they show, keep and refuse, without a browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, quick_config
from server import BROWSER, client_of
from sqlalchemy import update

from app import forms, queue
from app.models import Asked, Status, runs
from trainer.recipes import RECIPES, SAMPLE_COMPARISON
from trainer.store.database import writing


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.at(tmp_path)


@pytest.fixture
def client(lab: Lab) -> Iterator[Any]:
    with client_of(lab.settings) as found:
        found.headers.update(BROWSER)
        yield found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Any]]:
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    tricks = [{"name": "gradient_accumulation", "steps": 2}]
    lab.train(quick_config(), recipe="digits-cnn", name="first")
    lab.train(quick_config(tricks=tricks, seed=1), name="second", note="<b>bold</b> & more")
    with client_of(lab.settings) as client:
        client.headers.update(BROWSER)
        yield lab, client


def form_of(name: str = "digits-cnn", **changes: str) -> dict[str, str]:
    values = forms.values_of(RECIPES[name].config)
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return values | {"run_name": "", "note": "", "recipe": name, "parent": ""} | changes


def value_in(html: str, name: str) -> str:
    """What the page shows in the text field of that name."""
    found = re.search(rf'<input type="text"[^>]*value="([^"]*)" name="{re.escape(name)}"', html)
    assert found, f"there is no field {name}"
    return found.group(1)


# -- runs -----------------------------------------------------------------------------------


def test_an_empty_lab_offers_the_sample_comparison(client: Any, lab: Lab) -> None:
    assert "Queue the sample comparison" in client.get("/runs").text
    assert client.post("/runs/sample").headers["location"] == "/runs"
    page = client.get("/runs").text
    assert [name in page for name in SAMPLE_COMPARISON] == [True] * 4


def test_queued_runs_without_a_worker_are_explained(client: Any, lab: Lab) -> None:
    with writing(lab.engine) as connection:
        connection.exec_driver_sql("UPDATE workers SET ended_at = 1")
    lab.add()
    assert "No worker is running" in client.get("/runs").text


def test_runs_are_filtered_searched_sorted_and_paged(client: Any, lab: Lab) -> None:
    for number in range(60):
        lab.add(name=f"wave-{number}", note="odd" if number % 2 else "even")
    first, second = client.get("/runs").text, client.get("/runs?page=2").text
    assert first.count("<tr data-run=") == 50
    assert second.count("<tr data-run=") == 10
    assert "page 1 of 2" in first
    assert client.get("/runs?text=odd").text.count("<tr data-run=") == 30
    assert client.get("/runs?status=finished").text.count("<tr data-run=") == 0
    by_name = client.get("/runs?sort=name&order=up").text
    assert by_name.index("wave-0") < by_name.index("wave-1<") < by_name.index("wave-10<")


@pytest.mark.parametrize(
    "query", ["sort=magic", "page=0", "page=x", "status=asleep", "text=" + "x" * 201]
)
def test_a_bad_address_gets_a_page_that_says_so(client: Any, query: str) -> None:
    answer = client.get(f"/runs?{query}")
    assert answer.status_code == 422
    assert query.split("=")[0] in answer.text
    assert answer.headers["content-type"].startswith("text/html")


def test_a_failed_run_shows_its_reason_in_the_table(client: Any, lab: Lab) -> None:
    run_id = lab.add()
    with writing(lab.engine) as connection:
        claim = queue.claim(connection, lab.worker_id)
        assert claim is not None
        queue.conclude(connection, claim, Status.FAILED, "the <loss> is NaN")
    assert "the &lt;loss&gt; is NaN" in client.get("/runs").text
    assert "The &lt;loss&gt; is NaN" in client.get(f"/runs/{run_id}").text


def test_deleting_asks_first_and_then_deletes(client: Any, lab: Lab) -> None:
    chosen = [lab.add(), lab.add()]
    kept = lab.add()
    asked = client.post("/runs/delete", data={"runs": chosen})
    assert "Delete 2 runs?" in asked.text
    assert lab.run(chosen[0]).status == Status.QUEUED
    client.post("/runs/delete", data={"runs": chosen, "confirmed": "yes"})
    page = client.get("/runs").text
    assert page.count("<tr data-run=") == 1
    assert f'data-run="{kept}"' in page


# -- new run --------------------------------------------------------------------------------


def test_the_form_queues_what_it_shows(client: Any, lab: Lab) -> None:
    answer = client.post("/runs/new", data=form_of(budget__epochs="7", run_name="mine", note="n"))
    assert answer.status_code == 303
    run = lab.run(int(answer.headers["location"].rpartition("/")[2]))
    assert run.config["budget"]["epochs"] == 7
    assert (run.name, run.note, run.recipe, run.status) == ("mine", "n", "digits-cnn", "queued")


def test_nothing_typed_is_lost_when_a_value_is_refused(client: Any, lab: Lab) -> None:
    typed = form_of(
        optimizer__sgd__learning_rate="-0.5",
        optimizer__adamw__beta1="0.77",
        budget__epochs="3",
        run_name="kept name",
        note="kept note",
        tricks__gradient_accumulation__on="on",
        tricks__gradient_accumulation__steps="8",
    )
    answer = client.post("/runs/new", data=typed)
    assert answer.status_code == 422
    assert "Input should be greater than 0" in answer.text
    assert "Nothing was queued" in answer.text
    for name in ("optimizer.sgd.learning_rate", "optimizer.adamw.beta1", "budget.epochs"):
        assert value_in(answer.text, name) == typed[name]
    assert value_in(answer.text, "tricks.gradient_accumulation.steps") == "8"
    assert 'value="kept name"' in answer.text
    assert "kept note</textarea>" in answer.text
    assert lab_is_empty(client)


def lab_is_empty(client: Any) -> bool:
    return bool(client.get("/api/v1/runs").json()["total"] == 0)


def test_a_name_that_is_taken_or_unusable_is_refused_beside_it(client: Any, lab: Lab) -> None:
    lab.add(name="taken")
    for name in ("taken", "123", "a/b", "x" * 200):
        answer = client.post("/runs/new", data=form_of(run_name=name))
        assert answer.status_code == 422, name
        said = re.search(r'id="error-run_name"[^>]*>([^<]*)<', answer.text)
        assert said
        assert said.group(1).strip(), name


def test_a_clone_is_filled_like_its_parent_and_remembers_it(client: Any, lab: Lab) -> None:
    config = quick_config(seed=99, tricks=[{"name": "seed"}])
    parent = lab.add(config, recipe="digits-cnn")
    page = client.get(f"/runs/new?clone={parent}").text
    assert value_in(page, "seed") == "99"
    values = forms.values_of(config)
    sent = values | {"parent": str(parent), "recipe": "digits-cnn", "run_name": "", "note": ""}
    cloned = lab.run(int(client.post("/runs/new", data=sent).headers["location"].split("/")[-1]))
    assert cloned.parent_id == parent
    assert cloned.config == lab.run(parent).config


@pytest.mark.parametrize("query", ["clone=77", "clone=nobody", "recipe=nothing"])
def test_a_preset_that_does_not_exist_is_told(client: Any, query: str) -> None:
    answer = client.get(f"/runs/new?{query}")
    assert answer.status_code in (404, 409)
    assert query.split("=")[1] in answer.text


def test_the_panel_tells_sizes_and_the_same_run_for_programs(client: Any) -> None:
    answer = client.post("/runs/new/check", data=form_of(budget__epochs="7")).json()
    assert answer["errors"] == {}
    assert "15 418" in answer["panel"]
    assert "tricklab train run.json" in answer["panel"]
    assert "curl -X POST" in answer["panel"]
    wrong = client.post("/runs/new/check", data=form_of(budget__epochs="none")).json()
    assert "valid integer" in wrong["errors"]["budget.epochs"]


def test_a_form_of_ten_megabytes_is_refused(client: Any) -> None:
    answer = client.post("/runs/new", data=form_of(note="x" * 10_000_000))
    assert answer.status_code == 413
    assert "larger than this server takes" in answer.text


# -- one run --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tab",
    [
        "",
        "/layers",
        "/results",
        "/evidence",
        "/timeline",
        "/timeline/list",
        "/log",
        "/config",
        "/environment",
        "/header",
    ],
)
def test_every_tab_shows_queued_and_finished_runs(
    trained: tuple[Lab, Any], client: Any, lab: Lab, tab: str
) -> None:
    _, seasoned = trained
    waiting = lab.add()
    assert client.get(f"/runs/{waiting}{tab}").status_code == 200
    for run in ("1", "2", "first"):
        page = seasoned.get(f"/runs/{run}{tab}")
        assert page.status_code == 200
        assert "undefined" not in page.text.lower()


def test_what_people_type_is_never_html(trained: tuple[Lab, Any]) -> None:
    _, client = trained
    for address in ("/runs", "/runs/2", "/compare?runs=1,2"):
        assert "<b>bold</b>" not in client.get(address).text
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; more" in client.get("/runs/2").text


def test_a_missing_run_or_layer_is_a_page_that_says_so(trained: tuple[Lab, Any]) -> None:
    _, client = trained
    missing = client.get("/runs/77")
    assert missing.status_code == 404
    assert "there is no run 77" in missing.text
    layer = client.get("/runs/1/layers?layer=block9")
    assert layer.status_code == 404
    assert "block1.conv" in layer.text


def test_the_probe_shows_the_test_examples(trained: tuple[Lab, Any]) -> None:
    _, client = trained
    picture = client.get("/runs/1/probe/0.png")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    assert client.get("/runs/1/probe/999.png").status_code == 404


def test_the_config_tab_shows_what_differs_from_the_recipe(trained: tuple[Lab, Any]) -> None:
    _, client = trained
    page = client.get("/runs/1/config").text
    assert "1 field differs from recipe digits-cnn" in page
    assert re.search(r'class="differs"><th scope="row">budget.epochs', page)


def test_buttons_pause_resume_and_cancel(client: Any, lab: Lab) -> None:
    run_id = lab.add()
    for button, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        answer = client.post(f"/runs/{run_id}/{button}")
        assert answer.status_code == 303
        assert lab.run(run_id).status == status
    late = client.post(f"/runs/{run_id}/pause")
    assert late.status_code == 409
    assert "cancelled" in late.text


def test_a_running_run_is_asked_and_its_page_says_so(client: Any, lab: Lab) -> None:
    run_id = lab.claim(lab.add()).run_id
    client.post(f"/runs/{run_id}/stop")
    assert lab.run(run_id).asked == Asked.STOP
    assert "asked to stop" in client.get(f"/runs/{run_id}").text


def test_name_and_note_can_be_changed(client: Any, lab: Lab) -> None:
    run_id = lab.add()
    client.post(f"/runs/{run_id}/describe", data={"run_name": "renamed", "note": "noted"})
    assert (lab.run(run_id).name, lab.run(run_id).note) == ("renamed", "noted")
    bad = client.post(f"/runs/{run_id}/describe", data={"run_name": "12", "note": ""})
    assert bad.status_code == 422
    assert lab.run(run_id).name == "renamed"


def test_a_run_with_nan_in_its_summary_can_be_shown(trained: tuple[Lab, Any]) -> None:
    lab, client = trained
    result = lab.run(2).result
    with writing(lab.engine) as connection:
        values = result | {"samples_per_second": "NaN", "val_accuracy": "NaN"}
        connection.execute(update(runs).where(runs.c.id == 2).values(result=values))
    for address in ("/runs", "/runs/2", "/compare?runs=1,2"):
        assert client.get(address).status_code == 200


# -- compare --------------------------------------------------------------------------------


def test_compare_shows_only_what_differs_unless_asked(trained: tuple[Lab, Any]) -> None:
    _, client = trained
    page = client.get("/compare?runs=1,2").text
    rows = re.findall(r'<tr class="differs"><th scope="row">([^<]*)', page)
    assert "seed" in rows
    assert "tricks.gradient_accumulation.steps" in rows
    assert "loader.batch_size" not in page
    assert "loader.batch_size" in client.get("/compare?runs=1,2&everything=true").text


def test_compare_takes_ticked_boxes_names_and_a_baseline(trained: tuple[Lab, Any]) -> None:
    _, client = trained
    page = client.get("/compare?runs=1&runs=second&baseline=2").text
    assert 'data-runs="1,2"' in page
    assert page.index("as baseline") < page.index(">baseline<")
    assert client.get("/compare").status_code == 200
    assert client.get("/compare?runs=1,99").status_code == 404
