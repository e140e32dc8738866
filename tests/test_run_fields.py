"""Lists of runs with fewer fields: the same answers, less of them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from lab import Lab, points_of, quick_config, tiny_config
from server import API, client_of, refusal, told
from sqlalchemy import event, update

from app.api import shapes
from app.models import runs
from app.run_fields import KNOWN, grown
from app.run_query import RunQuery
from trainer.store.database import reading, writing
from trainer.store.writer import SeriesKey, Writer

RUNS = f"{API}/runs"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Finished, running and waiting runs; one whose loss has become NaN, one with no metric."""
    lab = Lab.at(tmp_path_factory.mktemp("fields"))
    lab.train(tiny_config())
    running = lab.add(quick_config(budget={"seconds": 100.0}))
    lab.claim(running)
    with writing(lab.engine) as connection:
        going = {"step": 5, "total_steps": 40, "steps_per_epoch": 20, "train_seconds": 2.0}
        connection.execute(update(runs).where(runs.c.id == running).values(**going))
        odd = {SeriesKey("val_loss"): points_of([1.0, np.inf, np.nan])}
        Writer(running).append(connection, odd)
    lab.add(tiny_config(), name="wäits")
    return lab


@pytest.fixture(scope="module")
def client(lab: Lab) -> Iterator[TestClient]:
    with client_of(lab.settings) as client:
        yield client


def listed(client: TestClient, *fields: str) -> list[dict[str, Any]]:
    answer = client.get(RUNS, params={"fields": ",".join(fields), "descending": False})
    found: list[dict[str, Any]] = told(answer, shapes.PartialRunPage)["runs"]
    return found


@pytest.fixture(scope="module")
def whole(client: TestClient) -> list[dict[str, Any]]:
    """Each run as it is told alone."""
    return [told(client.get(f"{RUNS}/{number}"), shapes.Run) for number in (1, 2, 3)]


def without_clock(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key != "seconds_left"}


def test_a_list_without_fields_tells_of_each_run_what_it_tells_alone(
    client: TestClient, whole: list[dict[str, Any]]
) -> None:
    found = told(client.get(RUNS, params={"descending": False}), shapes.RunPage)["runs"]
    assert [*map(without_clock, found)] == [*map(without_clock, whole)]
    assert found[1]["seconds_left"] == pytest.approx(whole[1]["seconds_left"], rel=0.5)


@pytest.mark.parametrize("field", KNOWN)
def test_each_field_can_be_had_alone(
    client: TestClient, whole: list[dict[str, Any]], field: str
) -> None:
    found = listed(client, field)
    assert [set(run) for run in found] == [{"id", field}] * 3
    if field != "seconds_left":
        assert found == [{"id": run["id"], field: run[field]} for run in whole]


def test_of_a_metric_only_what_is_asked_for_is_told(
    client: TestClient, whole: list[dict[str, Any]]
) -> None:
    found = listed(client, "metrics.val_loss.last", "metrics.val_accuracy")
    trained = whole[0]["metrics"]
    assert found == [
        {
            "id": 1,
            "metrics": {
                "val_loss": {"last": trained["val_loss"]["last"]},
                "val_accuracy": trained["val_accuracy"],
            },
        },
        {"id": 2, "metrics": {"val_loss": {"last": "NaN"}}},
        {"id": 3, "metrics": {}},
    ]


def test_parts_of_documents_are_told_where_a_run_has_them(client: TestClient) -> None:
    asked = ("config.optimizer.learning_rate", "config.budget.seconds", "config.seed.x")
    assert listed(client, *asked, "result.val_loss.deeper", "environment.device") == [
        {
            "id": 1,
            "config": {"optimizer": {"learning_rate": 0.05}, "budget": {"seconds": None}},
            "result": {},
            "environment": {"device": "cpu"},
        },
        {
            "id": 2,
            "config": {"optimizer": {"learning_rate": 0.05}, "budget": {"seconds": 100.0}},
            "result": None,
            "environment": None,
        },
        {
            "id": 3,
            "config": {"optimizer": {"learning_rate": 0.05}, "budget": {"seconds": None}},
            "result": None,
            "environment": None,
        },
    ]


def test_whoever_asks_for_a_whole_and_a_part_of_it_gets_the_whole() -> None:
    paths = [["a", "b", "c"], ["a"], ["d", "e"], ["d", "f", "g"], ["d", "f"]]
    assert grown(paths) == {"a": {}, "d": {"e": {}, "f": {}}}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("nme", "a run has no 'nme'; it has id, name, recipe"),
        ("name,", "a run has no ''; it has id, name"),
        ("fence", "a run has no 'fence'"),
        ("name.first", "name has no parts"),
        ("tricks.0", "tricks has no parts"),
        ("config.optimiser.x", "a config has no 'optimiser'; it has task, model, loader"),
        ("metrics.val_loss.lst", "a metric has no 'lst'; it has points, nonfinite"),
        ("metrics.val_loss.last.x", "a metric has no 'last.x'"),
        ("metrics.", "'metrics.' lacks a name"),
        ("config..x", "'config..x' lacks a name"),
    ],
)
def test_a_field_that_runs_do_not_have_is_refused_with_those_they_have(
    client: TestClient, fields: str, said: str
) -> None:
    assert said in refusal(client.get(RUNS, params={"fields": fields}), 422)


def test_what_is_not_asked_for_is_not_read(client: TestClient, lab: Lab) -> None:
    statements: list[str] = []
    engine = client.app.state.engine  # type: ignore[attr-defined]

    def note(*told: Any) -> None:
        statements.append(told[2])

    event.listen(engine, "before_cursor_execute", note)
    try:
        listed(client, "name", "progress")
    finally:
        event.remove(engine, "before_cursor_execute", note)
    read = " ".join(statements)
    assert "runs.total_steps" in read
    assert [word for word in ("config", "evidence", "series", "metrics") if word in read] == []


# -- the order of a metric ------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab.at(tmp_path_factory.mktemp("scored"))
    for value in (0.5, np.nan, None, 0.25, 0.5, None, np.inf, np.nan):
        run_id = lab.add(tiny_config(), note="by words")
        if value is not None:
            with writing(lab.engine) as connection:
                Writer(run_id).append(connection, {SeriesKey("val_loss"): points_of([value])})
    return lab


@pytest.mark.parametrize("most_few", [0, 500], ids=["by the index", "one by one"])
@pytest.mark.parametrize("text", ["", "words"])
@pytest.mark.parametrize("descending", [True, False])
def test_every_page_in_the_order_of_a_metric_is_that_part_of_the_list(
    scored: Lab, monkeypatch: pytest.MonkeyPatch, descending: bool, text: str, most_few: int
) -> None:
    monkeypatch.setattr("app.run_query.FEW", most_few)
    query = RunQuery(sort="val_loss", descending=descending, text=text)
    order = [7, 1, 5, 4, 2, 3, 6, 8] if descending else [4, 1, 5, 7, 2, 3, 6, 8]
    with reading(scored.engine) as connection:
        whole = query.places(connection)
        assert [number for number, _ in whole] == order
        for limit in (1, 2, 3):
            for passed in range(10):
                page = replace(query, limit=limit, offset=passed).places(connection)
                assert [number for number, _ in page] == order[passed : passed + limit]
            for passed, row in enumerate(whole, start=1):
                after = replace(query, limit=limit, after=query.position(row)).places(connection)
                assert [number for number, _ in after] == order[passed : passed + limit]
