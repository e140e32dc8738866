"""What the API says to requests it cannot use: a problem with a clear detail, and nothing lost."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab import Lab, tiny_config
from server import API, client_of, refusal
from sqlalchemy.exc import TimeoutError as NoConnection

from app.api import documented_parameters
from app.main import create_app
from app.settings import Settings
from trainer.store.database import writing
from trainer.tricks import TRICKS, name_of

RUNS = f"{API}/runs"
AS_JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    lab.add(tiny_config(), name="there")
    with client_of(lab.settings) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_is_lost(request: pytest.FixtureRequest) -> Iterator[None]:
    """After whatever a test sends, the one run is there as it was, and no other."""
    yield
    if "client" in request.fixturenames:
        page = request.getfixturevalue("client").get(RUNS).json()
        assert [(run["name"], run["version"]) for run in page["runs"]] == [("there", 0)]


# -- bodies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "detail"),
    [
        (
            {"optimizer": {"name": "sgd", "learning_rate": -1}},
            "optimizer.learning_rate: Input shou",
        ),
        ({"optimizer": {"name": "sgd", "learning_rate": "NaN"}}, "a finite number"),
        ({"optimizer": {"name": "sgd", "learning_rate": float("nan")}}, "a finite number"),
        ({"optimizer": {"name": "sgd", "learning_rate": float("inf")}}, "a finite number"),
        ({"optimizer": {"name": "sgd", "learning_rate": 1e-400}}, "greater than 0"),
        ({"optimizer": {"learning_rate": 1}}, "optimizer: say which one: its name is missing"),
        ({"budget": {"epochs": True}}, "budget.epochs: true and false are no numbers"),
        ({"model": {"name": "mlp", "hidden": [8, True]}}, "model.hidden: true and false are no"),
        ({"budget": {"epochs": 1.5}}, "budget.epochs: Input should be a valid integer"),
        ({"budget": {"epochs": None}}, "budget.epochs: Input should be a valid integer"),
        ({"seed": 2**70}, "config.seed: Input should be less than 9007199254740992"),
        ({"seed": -(2**70)}, "config.seed: Input should be greater than or equal to 0"),
        ({"device": "cuda:0; rm -rf /"}, "config.device: String should match"),
        ({"recording": {"layers": ["block9.*"]}}, "no layer of this model matches 'block9.*'"),
        ({"recording": {"layers": ["a/../b"]}}, "recording.layers.0: String should match"),
        ({"model": {"name": "mlp", "width": 3}}, "config.model.width: there is no such field"),
        ({"optimizer": []}, "config.optimizer: "),
        ({"tricks": {"name": "seed"}}, "config.tricks: Input should be a valid tuple"),
        ([], "config: a JSON object is needed here"),
        ("digits-cnn", "config: a JSON object is needed here"),
    ],
)
def test_a_bad_config_is_refused_at_its_field(client: TestClient, config: Any, detail: str) -> None:
    body = json.dumps({"config": config})
    said = refusal(client.post(RUNS, content=body, headers=AS_JSON), 422)
    assert detail in said
    assert said.startswith("config")


def test_an_unknown_trick_is_refused_with_the_names_of_all(client: TestClient) -> None:
    answer = client.post(RUNS, json={"config": {"tricks": [{"name": "mixup"}]}})
    detail = refusal(answer, 422)
    assert detail.startswith("config.tricks.0: there is no 'mixup'; there are: ")
    assert all(repr(name_of(trick)) in detail for trick in TRICKS)


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ({"colour": 1}, "colour: there is no such field"),
        ({"name": "x" * 101}, "name: a name has at most 100 characters"),
        ({"name": "x" * 100_000}, "name: a name has at most 100 characters"),
        ({"name": "a\0b"}, "name: a name stands in addresses"),
        ({"name": "a/b"}, "name: a name stands in addresses"),
        ({"name": "\u202egnp.exe"}, "name: a name stands in addresses"),
        ({"name": ".."}, "name: a name stands in addresses"),
        ({"name": "42"}, "name: a name of only digits"),
        ({"name": "٤٢"}, "name: a name of only digits"),
        ({"name": "\ud800"}, "name: Input should be a valid string"),
        ({"name": 5}, "name: Input should be a valid string"),
        ({"note": "a\0b"}, "note: it contains a NUL character"),
        ({"note": "x" * 10_001}, "note: String should have at most 10000 characters"),
        ({"priority": True}, "priority: Input should be a valid integer"),
        ({"priority": 1001}, "priority: Input should be less than or equal to 1000"),
        ({"priority": 2**70}, "priority: Input should be less than or equal to 1000"),
        ({"priority": "high"}, "priority: Input should be a valid integer"),
        ({"parent": 0}, "parent: Input should be greater than or equal to 1"),
        ({"parent": 2**63}, "parent: Input should be less than 9223372036854775808"),
        ({"recipe": "best"}, "recipe: there is no recipe 'best'; there are digits-cnn"),
        ({"recipe": ""}, "body: give a config, or the name of a recipe"),
    ],
)
def test_bad_facts_about_a_run_are_refused(
    client: TestClient, more: dict[str, Any], detail: str
) -> None:
    body = json.dumps({"recipe": "digits-cnn", **more})
    assert refusal(client.post(RUNS, content=body, headers=AS_JSON), 422).startswith(detail)


@pytest.mark.parametrize("name", ["", "  ", "there/", "1", "a\nb", 3])
def test_a_bad_new_name_is_refused(client: TestClient, name: Any) -> None:
    assert refusal(client.patch(f"{RUNS}/there", json={"name": name}), 422).startswith("name: ")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"config": {', "the body is no JSON: Expecting property name enclosed in double"),
        (b"\xff\xfe", "the body is no JSON"),
        (b"recipe=digits-cnn", "the body is no JSON: Expecting value at character 0"),
        (b'{"config": {"seed": ' + b"9" * 5000 + b"}}", "the body cannot be read"),
        (b"[" * 100_000, "the body cannot be read"),
    ],
)
def test_what_is_no_json_is_refused(client: TestClient, body: bytes, detail: str) -> None:
    assert refusal(client.post(RUNS, content=body, headers=AS_JSON), 400).startswith(detail)


@pytest.mark.parametrize("body", ["null", "[1, 2]", '"digits-cnn"', "0", "true"])
def test_json_that_is_no_object_is_refused(client: TestClient, body: str) -> None:
    answer = client.post(RUNS, content=body, headers=AS_JSON)
    assert refusal(answer, 422) == "body: a JSON object is needed here"


def test_a_missing_body_is_refused(client: TestClient) -> None:
    assert refusal(client.post(RUNS), 422) == "body: Field required"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_json_must_say_that_it_is_json(client: TestClient, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = client.post(RUNS, content=b'{"recipe": "digits-cnn"}', headers=headers)
    assert "Content-Type: application/json" in refusal(answer, 415)


def test_what_is_too_large_is_refused(client: TestClient) -> None:
    answer = client.post(RUNS, content=b"x" * 10_000_000, headers=AS_JSON)
    assert "larger than this server takes (1 MiB)" in refusal(answer, 413)


def test_what_turns_out_too_large_is_refused(client: TestClient) -> None:
    pieces = (b"x" * 100_000 for _ in range(100))
    answer = client.post(RUNS, content=pieces, headers=AS_JSON)
    assert "larger than this server takes (1 MiB)" in refusal(answer, 413)


def test_what_was_given_is_sent_back_short(client: TestClient) -> None:
    names = ["\ud800" + "x" * 1000, "deep"]
    body = json.dumps({names[0]: 1, names[1]: {"a": ["b" * 10_000]}, "c": 2**200})
    problem = client.post(RUNS, content=body, headers=AS_JSON)
    assert refusal(problem, 422)
    assert len(problem.content) < 5000


def test_a_thousand_mistakes_are_counted_and_not_all_listed(client: TestClient) -> None:
    answer = client.post(RUNS, json={"config": {f"f{n}": 1 for n in range(1000)}})
    assert refusal(answer, 422).endswith("config.f4: there is no such field; and 995 more")
    assert len(answer.json()["errors"]) == 100


# -- addresses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("PUT", "/runs", 405, "PUT is not for /api/v1/runs"),
        ("POST", "/runs/there", 405, "POST is not for /api/v1/runs/there"),
        ("GET", "/nope", 404, "nothing is at /api/v1/nope"),
        ("GET", "/runs/there/secrets", 404, "nothing is at /api/v1/runs/there/secrets"),
        ("GET", "/" + "x" * 5000, 404, "nothing is at /api/v1/xxx"),
        ("GET", "/runs/4711", 404, "there is no run 4711"),
        ("GET", "/runs/" + "9" * 30, 404, "there is no run 999"),
        ("GET", "/runs/" + "9" * 300, 422, "run: String should have at most 200 characters"),
        ("GET", "/runs/..%2f..%2fetc%2fpasswd", 404, "nothing is at"),
        ("GET", "/runs/%00", 400, "the address contains a NUL character"),
        ("GET", "/runs/%ff", 404, "there is no run"),
        ("GET", "/runs/there/series/%00", 400, "the address contains a NUL character"),
        ("GET", "/runs/there/layers/%00", 400, "the address contains a NUL character"),
        ("GET", "/runs/4711/series/train_loss", 404, "there is no run 4711"),
        ("GET", "/runs/4711/layers/head/bytes", 404, "there is no run 4711"),
        ("GET", "/runs?limit=0", 422, "limit: Input should be greater than or equal to 1"),
        ("GET", "/runs?limit=501", 422, "limit: Input should be less than or equal to 500"),
        ("GET", "/runs?status=dead", 422, "status: Input should be 'queued', 'running'"),
        ("GET", "/runs?sort=worker", 422, "sort: Input should be 'number', 'name'"),
        ("GET", "/runs?text=%00", 422, "text: it contains a NUL character"),
        ("GET", "/runs?statsu=dead", 422, "statsu: there is no such parameter; there are: arch"),
        ("GET", "/tasks?x=1", 422, "x: there is no such parameter; there are: none"),
        ("GET", "/curves", 422, "runs: Field required"),
        ("GET", "/curves?runs=1&smoothing=1", 422, "smoothing: Input should be less than 1"),
        ("GET", "/curves?runs=1&smoothing=nan", 422, "smoothing: Input should be"),
        ("GET", "/curves?runs=1&points=1e9", 422, "points: Input should be"),
        ("GET", f"/runs/there/log?after={2**64}", 422, "after: Input should be less than"),
        ("GET", "/live?runs=there", 422, "runs: String should match"),
    ],
)
def test_an_address_that_leads_nowhere_says_so(
    client: TestClient, method: str, path: str, status: int, detail: str
) -> None:
    answer = client.request(method, API + path)
    assert refusal(answer, status).startswith(detail)
    assert len(answer.content) < 2000


# -- our own mistakes, and the machine's ----------------------------------------------------


def test_a_mistake_of_ours_shows_no_stack_trace(tmp_path: Path) -> None:
    def break_it(app: FastAPI) -> None:
        @app.get("/api/v1/broken")
        def broken() -> None:
            raise RuntimeError("secret of the house")

    with client_of(Lab.at(tmp_path).settings, break_it) as client:
        answer = client.get(f"{API}/broken")
    assert refusal(answer, 500) == "a mistake of this program; its log has the details"
    assert "secret" not in answer.text


def test_a_locked_database_is_said_and_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.store.database.BUSY_SECONDS", 0.1)
    lab = Lab.at(tmp_path)
    with client_of(lab.settings) as client:
        with writing(lab.engine):
            answer = client.post(RUNS, json={"recipe": "digits-cnn"})
            assert "database is locked" in refusal(answer, 503)
            assert answer.headers["retry-after"] == "2"
            assert client.get(RUNS).status_code == 200
            assert refusal(client.get("/readyz"), 503)
        assert client.post(RUNS, json={"recipe": "digits-cnn"}).status_code == 201
        assert client.get("/readyz").json() == {"status": "ready"}


def test_a_database_of_another_version_is_not_ready(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    with client_of(lab.settings) as client:
        with writing(lab.engine) as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'other'")
        assert "another schema" in refusal(client.get("/readyz"), 503)
        assert client.get("/healthz").json() == {"status": "alive"}


def test_too_many_at_the_database_is_no_mistake_of_ours(tmp_path: Path) -> None:
    def exhaust(app: FastAPI) -> None:
        @app.get("/api/v1/exhausted")
        def exhausted() -> None:
            raise NoConnection("QueuePool limit reached")

    with client_of(Lab.at(tmp_path).settings, exhaust) as client:
        assert "try again" in refusal(client.get(f"{API}/exhausted"), 503)


# -- anything at all ------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(["seed", "mlp", "digits", "sgd", "deterministic", "block1", "auto"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8)
            | st.sampled_from(
                "config recipe name note priority parent task model loader loss optimizer schedule "
                "tricks recording budget seed device threads epochs steps hidden layers".split()
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def any_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client_of(Lab.at(tmp_path_factory.mktemp("any")).settings) as client:
        yield client


@settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(config=JSON, whole=st.booleans(), path=st.sampled_from(["/runs", "/check"]))
def test_no_json_at_all_breaks_the_server(
    any_client: TestClient, config: Any, whole: bool, path: str
) -> None:
    body = json.dumps(config if whole else {"config": config})
    answer = any_client.post(API + path, content=body, headers=AS_JSON)
    assert answer.status_code in (200, 201) or refusal(answer, answer.status_code)
    assert answer.status_code < 500


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    path=st.sampled_from(["/runs/{}", "/runs/{}/log", "/runs/1/series/{}", "/tricks/{}"]),
    text=st.text(min_size=1, max_size=30),
    parameter=st.text(max_size=20),
)
def test_no_address_at_all_breaks_the_server(
    any_client: TestClient, path: str, text: str, parameter: str
) -> None:
    query = f"?text={quote(parameter)}&cursor={quote(parameter)}&layer={quote(parameter)}"
    for address in (path.format(quote(text, safe="")), f"/runs{query}", f"/curves{query}"):
        answer = any_client.get(API + address)
        assert answer.status_code < 500, answer.text


def test_the_first_requests_make_the_document_of_the_api_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def make(**facts: Any) -> dict[str, Any]:
        made.append(1)
        time.sleep(0.1)
        return get_openapi(**facts)

    monkeypatch.setattr("fastapi.applications.get_openapi", make)
    app = create_app(Settings(folder=tmp_path))
    with ThreadPoolExecutor(8) as pool:
        documents = list(pool.map(lambda _: app.openapi(), range(8)))
    assert len(made) == 1
    assert all(document["paths"] for document in documents)
    app.state.engine.dispose()


def test_the_first_requests_learn_once_which_parameters_there_are(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def make(**facts: Any) -> dict[str, Any]:
        made.append(1)
        time.sleep(0.1)
        return get_openapi(**facts)

    monkeypatch.setattr("app.api.get_openapi", make)
    documented_parameters.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.get(f"{API}/runs?sart=name"), range(8)))
    assert len(made) == 1
    assert all("there is no such parameter" in answer.text for answer in answers)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**100])
def test_a_number_too_large_for_json_is_sent_back_as_text(client: TestClient, number: int) -> None:
    answer = client.post(f"{API}/check", json={"config": {"sede": number}})
    assert answer.status_code == 200
    (problem,) = answer.json()["problems"]
    assert problem["given"] == str(number)
