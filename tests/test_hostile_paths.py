"""Addresses that try to leave: no file outside the lab is ever sent, and nothing breaks."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from lab import Lab, tiny_config
from server import API, client_of, listening
from starlette.websockets import WebSocketDisconnect

CANARY = "canary-that-nobody-may-read"
WAYS = (
    "../{}",
    "..%2f{}",
    "..%5c{}",
    "%2e%2e/{}",
    "%2e%2e%2f{}",
    "%252e%252e%252f{}",
    "..%c0%af{}",
    "..%ef%bc%8f{}",
    "....//{}",
    "..;/{}",
    "./../{}",
    "..\\{}",
    "..%00/{}",
    "{}%00",
    "%00{}",
    "/{}",
    "//{}",
    "%2f{}",
    "file:///{}",
    "~/{}",
)
FOLDERS = (
    "/",
    "/static/",
    "/assets/",
    "/assets/x/",
    "/runs/",
    "/runs/1/",
    "/runs/1/probe/",
    "/settings/",
    "/api/v1/",
    "/api/v1/runs/1/layers/",
    "/api/v1/runs/1/series/",
    "/api/v1/models/",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab with a file beside it, in it and under its runs that no address leads to."""
    lab = Lab.at(tmp_path_factory.mktemp("outside") / "lab")
    lab.add(tiny_config())
    for folder in (lab.settings.folder.parent, lab.settings.folder, lab.settings.run_folder(1)):
        folder.mkdir(exist_ok=True, parents=True)
        (folder / "canary.txt").write_text(CANARY)
    return lab


@pytest.fixture(scope="module")
def client(lab: Lab) -> Iterator[httpx2.Client]:
    with listening(lab.settings) as client:
        yield client


def sent_back(client: httpx2.Client, target: str) -> bytes:
    """The answer to a request for a target that no client library would send like this."""
    host, port = client.base_url.host, client.base_url.port
    assert port is not None
    with socket.create_connection((host, port), timeout=30) as connection:
        head = f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode("latin-1"))
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_way_up_leads_to_a_file(client: httpx2.Client, lab: Lab, folder: str) -> None:
    outside = str(lab.settings.folder / "canary.txt").lstrip("/")
    for way in WAYS:
        for up in range(5) if folder == "/" else (0, 3):
            for file in ("canary.txt", outside, "etc/passwd"):
                target = folder + way.format("../" * up + file)
                answer = sent_back(client, target.replace(" ", "%20"))
                assert status_of(answer) < 500, target
                assert CANARY.encode() not in answer, target
                assert b"root:x:" not in answer, target


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://evil.example/static/style.css", 400),
        ("https://127.0.0.1/api/v1/runs", 400),
        ("*", 400),
        ("static/style.css", 400),
        ("/static/style.css%00.png", 400),
        ("/%00", 400),
        ("/api/v1/runs/%00", 400),
        ("/api/v1/runs/%ff%fe", 404),
        ("/api/v1/runs/" + "x" * 5000, 422),
        ("/static/" + "x" * 5000, 404),
    ],
)
def test_what_is_no_path_of_this_server_is_refused(
    client: httpx2.Client, target: str, status: int
) -> None:
    answer = sent_back(client, target)
    assert status_of(answer) == status, answer[:300]
    assert b"Traceback" not in answer


def test_a_websocket_is_not_opened(client: httpx2.Client) -> None:
    host, port = client.base_url.host, client.base_url.port
    assert port is not None
    with socket.create_connection((host, port), timeout=30) as connection:
        connection.sendall(
            f"GET /api/v1/live HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert b" 101 " not in connection.recv(1024)


def test_the_gate_closes_a_websocket_whatever_serves_it(lab: Lab) -> None:
    with (
        client_of(lab.settings) as client,
        pytest.raises(WebSocketDisconnect) as closed,
        client.websocket_connect(f"{API}/live"),
    ):
        pytest.fail("it was opened")
    assert closed.value.code == 1008


def test_the_names_of_files_come_from_the_server_alone(lab: Lab) -> None:
    run_id = lab.add(tiny_config(), name="..\\..\\canary")
    assert lab.settings.run_folder(run_id) == Path(lab.settings.folder / "runs" / str(run_id))
