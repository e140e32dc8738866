"""/api/v1/tasks, /models, /tricks …, /recipes, /check, /workers; and the API's own document."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from lab import Lab, tiny_config
from pydantic import create_model
from server import API, client_of, refusal, told
from sqlalchemy import update

from app.api import shapes
from app.catalogue import KINDS, name_of
from app.models import workers
from trainer.anatomy import model_anatomy
from trainer.config import RunConfig
from trainer.models import SmallCnn
from trainer.recipes import RECIPES
from trainer.store.database import writing
from trainer.tasks import Digits

PLURALS = {
    "task": "tasks",
    "model": "models",
    "loss": "losses",
    "optimizer": "optimizers",
    "schedule": "schedules",
    "trick": "tricks",
}
SHAPES = {"task": shapes.Task, "model": shapes.Model, "loss": shapes.Loss, "trick": shapes.Trick}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.at(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def client(lab: Lab) -> Iterator[TestClient]:
    with client_of(lab.settings) as client:
        yield client


# -- what can be chosen ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", PLURALS)
def test_everything_that_can_be_chosen_is_listed_and_described(
    client: TestClient, kind: str
) -> None:
    plural, shape = PLURALS[kind], SHAPES.get(kind, shapes.Part)
    fields: dict[str, Any] = {plural: list[shape]}  # type: ignore[valid-type]
    listed = told(client.get(f"{API}/{plural}"), create_model("Listed", **fields))[plural]
    assert [part["name"] for part in listed] == [name_of(part) for part in KINDS[kind]]
    for part in listed:
        assert told(client.get(f"{API}/{plural}/{part['name']}"), shape) == part
        assert part["title"]
        assert part["summary"].endswith((".", ")"))
        assert all(
            "description" in facts
            for name, facts in part["parameters"]["properties"].items()
            if name != "name"
        )


@pytest.mark.parametrize("kind", PLURALS)
def test_what_is_not_in_the_catalogue_is_refused_with_what_is(
    client: TestClient, kind: str
) -> None:
    detail = refusal(client.get(f"{API}/{PLURALS[kind]}/mixup"), 404)
    names = ", ".join(name_of(part) for part in KINDS[kind])
    assert detail == f"there is no {kind} 'mixup'; there are: {names}"


def test_a_trick_says_what_it_claims_and_where_it_traps(client: TestClient) -> None:
    trick = client.get(f"{API}/tricks/gradient_accumulation").json()
    assert trick["stage"] == "gradients"
    assert trick["claim"]["measure"]
    assert trick["owns"]
    assert trick["traps"]
    assert trick["parameters"]["properties"]["steps"]["minimum"] == 2


def test_a_task_says_what_its_examples_are(client: TestClient) -> None:
    task = client.get(f"{API}/tasks/digits").json()
    assert (task["input_shape"], task["outputs"]) == ([1, 8, 8], 10)
    assert task["train_examples"] + task["test_examples"] == 1797


def test_a_model_says_how_large_it_is_for_what(client: TestClient) -> None:
    sizes = client.get(f"{API}/models/p3d").json()["sizes"]
    as_it_comes, *published = sizes
    assert (as_it_comes["task"], as_it_comes["input_shape"]) == ("moving_digits", [1, 16, 16, 16])
    told = {(size["settings"]["depth"], size["parameters"]) for size in published}
    assert told == {(63, 25_745_232), (131, 48_088_400), (199, 66_492_240)}
    for size in published:
        assert (size["task"], size["outputs"]) == (None, 400)
        assert size["input_shape"] == [3, 16, 160, 160]


def test_every_model_is_counted_for_a_task_that_it_fits(client: TestClient) -> None:
    for model in client.get(f"{API}/models").json()["models"]:
        size = model["sizes"][0]
        chosen = {"name": model["name"], **size["settings"]}
        config = {"task": {"name": size["task"]}, "model": chosen}
        facts = client.post(f"{API}/check", json={"config": config}).json()["facts"]
        assert facts["parameters"] == size["parameters"]


def test_a_choice_of_numbers_can_be_given_in_an_address(client: TestClient) -> None:
    asked = {"task": "moving_digits", "depth": 63, "width": 2}
    answer = told(client.get(f"{API}/models/p3d/layers", params=asked), shapes.Layers)
    blocks = [layer for layer in answer["layers"] if layer["kind"] == "ClipBlock"]
    assert len(blocks) == 13
    client_error = refusal(
        client.get(f"{API}/models/p3d/layers", params=asked | {"depth": 64}), 422
    )
    assert "depth" in client_error


def test_the_layers_of_a_model_follow_its_parameters(client: TestClient) -> None:
    answer = told(client.get(f"{API}/models/small_cnn/layers", params={"width": 24}), shapes.Layers)
    expected = model_anatomy(SmallCnn(width=24), Digits().facts())
    assert [layer["path"] for layer in answer["layers"]] == [layer.path for layer in expected]
    assert [layer["parameters"] for layer in answer["layers"]] == [
        layer.parameters for layer in expected
    ]


def test_the_layers_of_a_model_depend_on_the_task(client: TestClient) -> None:
    address = f"{API}/models/mlp/layers"
    layers = told(
        client.get(address, params={"task": "fashion_mnist", "hidden": [7, 5], "dropout": "0.5"}),
        shapes.Layers,
    )["layers"]
    linear = [layer for layer in layers if layer["kind"] == "Linear"]
    assert [layer["output_shape"] for layer in linear] == [[7], [5], [10]]
    assert linear[0]["parameters"] == 28 * 28 * 7 + 7
    assert sum(layer["kind"] == "Dropout" for layer in layers) == 2


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("width=0", "width: Input should be greater than or equal to 1"),
        ("width=many", "width: Input should be a valid integer"),
        ("colour=red", "colour: there is no such field"),
        ("name=mlp", "name: Input should be 'small_cnn'"),
    ],
)
def test_wrong_parameters_of_a_model_are_refused(
    client: TestClient, query: str, reason: str
) -> None:
    answer = client.get(f"{API}/models/small_cnn/layers?{query}")
    assert refusal(answer, 422).startswith(reason)
    assert "there are: digits" in refusal(client.get(f"{API}/models/mlp/layers?task=x"), 404)


# -- recipes, check -------------------------------------------------------------------------


def test_recipes_are_configs_that_can_be_queued_as_they_are(client: TestClient) -> None:
    recipes = told(client.get(f"{API}/recipes"), shapes.Recipes)["recipes"]
    assert [recipe["name"] for recipe in recipes] == list(RECIPES)
    for recipe in recipes:
        assert RunConfig.model_validate(recipe["config"]) == RECIPES[recipe["name"]].config
        checked = client.post(f"{API}/check", json={"config": recipe["config"]})
        assert told(checked, shapes.Checked)["problems"] == []


def test_a_sound_config_is_told_what_its_run_will_be_like(client: TestClient) -> None:
    config = {"loader": {"batch_size": 100}, "budget": {"epochs": 3}}
    answer = told(client.post(f"{API}/check", json={"config": config}), shapes.Checked)
    assert answer["problems"] == []
    facts = answer["facts"]
    assert (facts["train_examples"], facts["steps_per_epoch"]) == (1437, 15)
    assert facts["total_steps"] == 45
    assert facts["parameters"] == sum(layer["parameters"] for layer in facts["layers"]) > 1000


@pytest.mark.parametrize(
    ("config", "field", "message"),
    [
        ({"budget": {"epochs": 0}}, "budget.epochs", "greater than or equal to 1"),
        ({"model": {"name": "mlp", "hidden": [0]}}, "model.hidden.0", "greater than or equal"),
        ({"tricks": [{"name": "mixup"}]}, "tricks.0", "there is no 'mixup'; there are: 'seed'"),
        ({"tricks": [{"name": "seed"}] * 2}, "", "seed is chosen twice; keep one"),
        ({"recording": {"layers": ["conv"]}}, "recording.layers", "no layer of this model matches"),
        (
            {"tricks": [{"name": "gradient_accumulation", "steps": 1000}]},
            "tricks.0.steps",
            "an epoch has 23 batches",
        ),
        ({"colour": 1}, "colour", "there is no such field"),
    ],
)
def test_a_config_with_mistakes_is_told_which_fields_are_to_blame(
    client: TestClient, config: dict[str, Any], field: str, message: str
) -> None:
    answer = told(client.post(f"{API}/check", json={"config": config}), shapes.Checked)
    assert answer["facts"] is None
    [problem] = answer["problems"]
    assert problem["field"] == field
    assert message in problem["message"]


def test_checking_queues_nothing(client: TestClient) -> None:
    client.post(f"{API}/check", json={"config": {}})
    assert client.get(f"{API}/runs").json()["total"] == 0


# -- workers --------------------------------------------------------------------------------


def test_workers_say_whether_they_live_and_what_they_have_in_hand(
    client: TestClient, lab: Lab
) -> None:
    [worker] = told(client.get(f"{API}/workers"), shapes.Workers)["workers"]
    assert (worker["device"], worker["is_alive"], worker["run"]) == ("cpu", True, None)
    run_id = lab.add(tiny_config())
    lab.claim(run_id)
    silent = update(workers).values(seen_at=time.time() - lab.settings.lease_seconds - 1)
    with writing(lab.engine) as connection:
        connection.execute(silent)
    [worker] = told(client.get(f"{API}/workers"), shapes.Workers)["workers"]
    assert (worker["is_alive"], worker["run"]) == (False, run_id)
    assert worker["silent_seconds"] > lab.settings.lease_seconds
    with writing(lab.engine) as connection:
        connection.execute(update(workers).values(ended_at=time.time()))
    assert client.get(f"{API}/workers").json() == {"workers": []}


# -- the document ---------------------------------------------------------------------------

OPERATIONS = """
archive_run ask cancel_inquiry cancel_run change_run check_config clean_storage clone_run
continue_run create_run delete_run follow_runs get_audit get_inquiry get_loss get_me get_model
get_optimizer get_queue get_run get_schedule get_storage get_task get_trick is_alive is_ready
list_checkpoints list_inquiries list_layers list_losses list_model_layers list_models
list_optimizers list_recipes list_run_events list_runs list_schedules list_series list_tasks
list_tokens list_tricks list_workers make_features make_token move_run pause_queue pause_run
read_curves read_layer read_layer_bytes read_layer_difference read_layer_film read_run_log
read_series resume_queue resume_run retry_run retry_run_lighter revoke_token stop_run unarchive_run
""".split()


def test_operations_have_names_that_programs_can_rely_on(client: TestClient) -> None:
    found = [
        one["operationId"] for _, _, one in operations(client.get(f"{API}/openapi.json").json())
    ]
    assert sorted(found) == OPERATIONS


def test_the_document_holds_only_the_api(client: TestClient) -> None:
    paths = client.get(f"{API}/openapi.json").json()["paths"]
    assert {path for path in paths if not path.startswith(f"{API}/")} == {"/healthz", "/readyz"}


def test_every_reference_in_the_document_leads_somewhere(client: TestClient) -> None:
    document = client.get(f"{API}/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    references = list(found(document, "$ref"))
    assert len(references) > 30
    for reference in references:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_every_operation_says_what_it_takes_and_what_it_answers(client: TestClient) -> None:
    document = client.get(f"{API}/openapi.json").json()
    for path, method, operation in operations(document):
        named = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
        assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert operation["description"]
        good = next(code for code in operation["responses"] if code.startswith("2"))
        answer = operation["responses"][good]
        assert (good == "204") == ("content" not in answer), (method, path)
        if path.startswith(API):
            # FastAPI would promise an error format that this server does not have
            assert "422" not in operation["responses"]
            assert list(operation["responses"]["4XX"]["content"]) == ["application/problem+json"]


def test_answers_are_described_field_by_field(client: TestClient) -> None:
    schemas = client.get(f"{API}/openapi.json").json()["components"]["schemas"]
    assert set(schemas["Run"]["properties"]) == set(shapes.Run.model_fields)
    sort = next(found(client.get(f"{API}/openapi.json").json()["paths"][f"{API}/runs"], "enum"))
    assert sort


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def found(value: Any, key: str) -> Iterator[Any]:
    """Every value under this key, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from found(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from found(inner, key)
