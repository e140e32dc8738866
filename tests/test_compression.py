"""Compression: packed for other machines, untouched on this one."""

import pytest
from fastapi.testclient import TestClient
from lab import Lab, tiny_config
from server import API

from app.compression import is_loopback
from app.main import create_app


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab.at(tmp_path_factory.mktemp("lab"), access="off")
    lab.add(tiny_config())
    return lab


def encoding(lab: Lab, host: str, path: str, accepted: str = "gzip") -> str | None:
    client = TestClient(create_app(lab.settings), base_url="http://127.0.0.1", client=(host, 5000))
    answer = client.get(path, headers={"Accept-Encoding": accepted})
    assert answer.status_code == 200
    coded: str | None = answer.headers.get("content-encoding")
    return coded


@pytest.mark.parametrize("path", ["/runs", f"{API}/runs/1", "/static/style.css"])
def test_answers_are_packed_for_other_machines_only(lab: Lab, path: str) -> None:
    assert encoding(lab, "192.0.2.7", path) == "gzip"
    assert encoding(lab, "192.0.2.7", path, "identity") is None
    assert encoding(lab, "127.0.0.1", path) is None
    assert encoding(lab, "::1", path) is None


def test_a_small_answer_is_sent_as_it_is(lab: Lab) -> None:
    assert encoding(lab, "192.0.2.7", "/healthz") is None


@pytest.mark.parametrize(
    ("host", "near"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")),
        *((host, False) for host in ("0.0.0.0", "10.0.0.1", "lab.example", "")),
    ],
)
def test_what_is_on_this_machine_alone(host: str, near: bool) -> None:
    assert is_loopback(host) == near
