"""What a run came to, whatever was asked of it: curves, results, titles, on pages and in REST."""

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from lab import Lab
from server import BROWSER, client_of

from app.metrics import cards, title
from app.pages.results import standing
from trainer.config import RunConfig
from trainer.targets import Kind

QUICK: dict[Kind, dict[str, Any]] = {
    Kind.CLASSES: {"task": {"name": "digits"}, "model": {"name": "mlp"}},
    Kind.BINARY: {
        "task": {"name": "breast_cancer"},
        "model": {"name": "mlp"},
        "loss": {"name": "bce_with_logits", "balance": True},
    },
    Kind.NUMBERS: {
        "task": {"name": "diabetes"},
        "model": {"name": "mlp"},
        "loss": {"name": "huber"},
        "optimizer": {"name": "adamw"},
    },
    Kind.PIXELS: {
        "task": {"name": "digit_scenes"},
        "model": {"name": "unet", "width": 2, "levels": 2},
        "loss": {"name": "nll", "weighting": "balanced"},
        "budget": {"epochs": 1, "steps": 3},
    },
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.at(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def runs(lab: Lab) -> dict[Kind, int]:
    quick = {"budget": {"epochs": 2}, "recording": {"layer_steps": "never"}}
    return {
        kind: lab.train(RunConfig.model_validate({**quick, **config}))
        for kind, config in QUICK.items()
    }


@pytest.fixture(scope="module")
def client(lab: Lab, runs: dict[Kind, int]) -> Iterator[TestClient]:
    with client_of(lab.settings) as found:
        found.headers.update(BROWSER)
        yield found


@pytest.mark.parametrize("kind", QUICK)
def test_a_run_records_the_scores_of_its_kind_and_its_best(
    lab: Lab, runs: dict[Kind, int], client: TestClient, kind: Kind
) -> None:
    run = client.get(f"/api/v1/runs/{runs[kind]}").json()
    assert run["status"] == "finished", run["reason"]
    assert run["main_metric"] == kind.main_metric
    main = run["metrics"][kind.main_metric]
    assert run["result"][kind.main_metric] == main["last"]
    assert run["result"][f"best_{kind.main_metric}"] == main["highest"]
    assert ("train_accuracy" in run["metrics"]) == kind.has_classes
    assert all(math.isfinite(value["last"]) for value in run["metrics"].values())


@pytest.mark.parametrize("kind", QUICK)
def test_the_pages_of_a_run_name_its_own_score(
    runs: dict[Kind, int], client: TestClient, kind: Kind
) -> None:
    page = client.get(f"/runs/{runs[kind]}").text
    assert f"<dt>{title(kind.main_metric)}</dt>" in page
    shown = re.findall(r'data-metric="(\w+)"', page)
    assert shown[:2] == ["loss", kind.main_metric.removeprefix("val_")]
    assert "learning_rate" in shown
    assert (' data-metric="accuracy"' in page) == kind.has_classes


def test_results_tell_every_class_and_what_it_was_taken_for(
    runs: dict[Kind, int], client: TestClient
) -> None:
    page = client.get(f"/runs/{runs[Kind.CLASSES]}/results").text
    run = client.get(f"/api/v1/runs/{runs[Kind.CLASSES]}").json()
    details = run["result"]["details"]
    assert sum(map(sum, details["confusion"])) == 360
    cells = re.findall(r'<td class="right shade-\d+[^"]*">([^<]*)</td>', page)
    counts = [int(cell) if cell != "·" else 0 for cell in cells]
    assert counts == [count for row in details["confusion"] for count in row]
    worst = max(
        count
        for right, row in enumerate(details["confusion"])
        for said, count in enumerate(row)
        if right != said
    )
    assert f"{worst} times" in page
    assert "Calibration" in page


def test_results_of_numbers_have_no_classes(runs: dict[Kind, int], client: TestClient) -> None:
    page = client.get(f"/runs/{runs[Kind.NUMBERS]}/results").text
    assert "Test R²" in page
    assert "Confusion matrix" not in page


def test_runs_on_different_questions_can_be_compared(
    runs: dict[Kind, int], client: TestClient
) -> None:
    numbers = ",".join(map(str, runs.values()))
    page = client.get(f"/compare?runs={numbers}").text
    for words in ("Best test accuracy", "Best test R²", "Best test IoU", "Last test loss"):
        assert words in page
    assert client.get("/runs").text.count("R²") == 1


def test_a_run_before_its_end_has_no_results_yet(lab: Lab, client: TestClient) -> None:
    run = lab.add(RunConfig.model_validate(QUICK[Kind.CLASSES]))
    assert "Not yet" in client.get(f"/runs/{run}/results").text


def test_details_with_many_classes_show_the_worst_confusions_alone() -> None:
    size = 40
    table = [[9 if row == column else 0 for column in range(size)] for row in range(size)]
    table[3][5] = 4
    figures = {"recall": [0.5] * size, "count": [9.0] * size}
    details = {"classes": [f"c{n}" for n in range(size)], "confusion": table, "per_class": figures}
    found = standing({"result": {"details": details}})
    assert found is not None
    assert found.matrix == ()
    assert [(one.right, one.said, one.count) for one in found.worst] == [("c3", "c5", 4)]


def test_curves_that_nobody_foresaw_have_a_card_too() -> None:
    found = cards(["train_loss", "val_loss", "val_r2", "gradient_norm"], "val_r2")
    assert found == [
        ("loss", "Loss"),
        ("r2", "R²"),
        ("learning_rate", "Learning rate"),
        ("gradient_norm", "Gradient norm"),
    ]
    assert title("val_top3_accuracy") == "Test top-3 accuracy"
    assert title("val_f1") == "Test F1"


def test_old_flags_are_taken_and_told(client: TestClient) -> None:
    loss = {"name": "cross_entropy", "size_average": False}
    checked = client.post("/api/v1/check", json={"config": {"loss": loss}}).json()
    assert checked["problems"] == []
    (told,) = [text for text in checked["facts"]["warnings"] if "size_average" in text]
    assert "means reduction='sum' today" in told
    form = client.post("/runs/new", data={"loss.name": "mse", "loss.mse.reduce": "maybe"})
    assert "loss.mse.reduce" in form.text


def test_a_question_of_yes_or_no_may_stay_open_in_the_form(client: TestClient) -> None:
    page = client.get("/runs/new").text
    field = page[page.index('id="loss.mse.size_average"') :].split("</select>")[0]
    assert re.findall(r"<option[^>]*>([^<]*)", field) == ["–", "on", "off"]
