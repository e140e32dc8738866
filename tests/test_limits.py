"""Limits: what is too much is refused by name, and nothing is lost."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from lab import Lab
from server import API, client_of, listening, refusal
from sqlalchemy import text

from app import connections
from app.api import live
from app.connections import Reading
from app.gate import MOST_BODY_BYTES
from app.settings import Settings

FOR_EVER = """
WITH RECURSIVE counted(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM counted)
SELECT max(number) FROM counted
"""


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.at(tmp_path_factory.mktemp("lab"))


def slow(app: FastAPI) -> None:
    @app.get("/api/v1/slow")
    def read(connection: Reading) -> Any:
        return connection.execute(text(FOR_EVER)).scalar_one()


@pytest.fixture
def client(lab: Lab) -> Iterator[TestClient]:
    with client_of(lab.settings, slow) as client:
        yield client


def test_what_takes_too_long_to_read_is_given_up(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "QUERY_SECONDS", 0.2)
    for _ in range(3):
        detail = refusal(client.get(f"{API}/slow"), 503)
        assert detail == "this took too long to read and was given up; ask for less at once"
    monkeypatch.setattr(connections, "QUERY_SECONDS", 30.0)
    assert client.get(f"{API}/runs").status_code == 200, "its connection is as good as new"


def test_a_client_has_so_many_event_streams_and_no_more(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_OF_ONE", 2)
    with listening(lab.settings) as client:
        streams = [client.stream("GET", f"{API}/live") for _ in range(2)]
        assert [stream.__enter__().status_code for stream in streams] == [200, 200]
        refused = client.get(f"{API}/live")
        assert "close some pages" in refusal(refused, 429)
        assert refused.headers["retry-after"] == "10"
        monkeypatch.setattr(live, "MOST_STREAMS", 2)
        assert "on this server" in refusal(client.get(f"{API}/live"), 503)
        assert client.get(f"{API}/runs").status_code == 200


def test_a_closed_stream_makes_room_for_another(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_OF_ONE", 1)
    run_id = lab.add()
    with listening(lab.settings) as client:
        for _ in range(3):
            for _ in range(100):
                with client.stream("GET", f"{API}/live?runs={run_id}") as stream:
                    if stream.status_code == 200:
                        assert next(stream.iter_lines())
                        break
            else:
                pytest.fail("no stream was ever free again")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_the_api_takes_only_json(client: TestClient, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = client.post(f"{API}/runs", content=b'{"recipe": "digits-cnn"}', headers=headers)
    assert "Content-Type: application/json" in refusal(answer, 415)
    assert client.get(f"{API}/runs").json()["total"] == 0


@pytest.mark.parametrize("kind", ["text/plain", "application/vnd.api+json", ""])
def test_nor_does_it_take_another_kind_where_it_needs_no_body(
    client: TestClient, kind: str
) -> None:
    """A page elsewhere may send text without asking first; here the gate is all there is."""
    headers = {"Content-Type": kind} if kind else {}
    answer = client.post(f"{API}/queue/resume", content=b"{}", headers=headers)
    assert "Content-Type: application/json" in refusal(answer, 415)


@pytest.mark.parametrize(
    "asked",
    [
        "/curves?runs=1&points=20001",
        "/runs?limit=501",
        "/runs/1/series/train_loss?limit=100001",
        "/curves?runs=" + ",".join(map(str, range(1, 202))),
    ],
)
def test_an_answer_holds_so_much_and_no_more(lab: Lab, client: TestClient, asked: str) -> None:
    lab.add()
    field = asked.partition("?")[2].split("=")[-2].rpartition("&")[2]
    assert field in refusal(client.get(API + asked), 422)


@pytest.mark.parametrize("path", [f"{API}/runs", "/runs/new", "/login", "/static/style.css"])
def test_a_body_that_says_it_is_too_large_is_not_read(client: TestClient, path: str) -> None:
    """Whoever sends it: the gate refuses it before it asks who that is."""
    headers = {"Content-Type": "application/json", "Content-Length": str(MOST_BODY_BYTES + 1)}
    assert "1 MiB" in refusal(client.post(path, content=b"{}", headers=headers), 413)


def test_a_form_of_thousands_of_fields_is_refused(client: TestClient) -> None:
    answer = client.post("/runs/new", data={f"field{number}": "x" for number in range(2000)})
    assert "more fields than any form here" in refusal(answer, 413)
    assert "1000" in answer.json()["detail"]
    assert client.get(f"{API}/runs").json()["total"] == 0


def test_pages_of_a_listed_origin_may_use_the_api_and_no_others(
    lab: Lab,
) -> None:
    origin = "https://notebook.example"
    settings = Settings(folder=lab.settings.folder, cors_origins=(origin,))
    with client_of(settings) as client:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        preflight = client.options(f"{API}/runs", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in preflight.headers
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        answer = client.post(f"{API}/runs", json={"recipe": "digits-cnn"}, headers=headers)
        assert answer.status_code == 201
        assert answer.headers["access-control-allow-origin"] == origin
        for other in ("https://evil.example", "http://notebook.example", f"{origin}.evil"):
            asked["Origin"] = headers["Origin"] = other
            assert client.options(f"{API}/runs", headers=asked).status_code == 400
            assert client.post(f"{API}/runs", json={}, headers=headers).status_code == 403
            read = client.get(f"{API}/runs", headers=headers)
            assert "access-control-allow-origin" not in read.headers
