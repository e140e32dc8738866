"""The set-ups of docs/access.md, as they stand there, in front of a real server."""

import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from lab import Lab, tiny_config
from server import API, Served, free_port, is_up, serving, states, wait_for
from sqlalchemy import select

from app import labels
from app.access import tokens
from app.access.roles import Role
from app.api.live import MOST_OF_ONE
from app.models import audit
from app.settings import ROOT
from trainer.store.database import reading, writing

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs/access.md").read_text()
NAME = "lab.example.org"
SOMEBODY, NEIGHBOUR, INVENTED = "127.0.0.2", "127.0.0.3", "203.0.113.9"
"""Who comes by the proxy, who comes past it, and who is only said to have come."""


def block_after(title: str) -> str:
    """The configuration that the document gives for a proxy."""
    found = re.search(rf"\*\*{title}\*\*\n\n```\n(.*?)\n```", DOCUMENT, re.DOTALL)
    assert found, f"docs/access.md has no block for {title}"
    return found[1]


def documented_settings() -> dict[str, str]:
    found = re.findall(r"^TRICKLAB_(ALLOWED_HOSTS|TRUSTED_PROXIES)=(\S+)", DOCUMENT, re.MULTILINE)
    assert len(found) == 2
    return {name.lower(): value for name, value in found}


def replaced(text: str, **words: str) -> str:
    """The text with each word, which must be there, in place of what is said under its name."""
    for old, new in words.items():
        assert old in text, f"docs/access.md no longer says {old!r}"
        text = text.replace(old, new)
    return text


@dataclass(frozen=True)
class Inside:
    """What stands behind the proxy, and a certificate to show in front."""

    lab: Lab
    server: Served
    folder: Path
    token: str

    @property
    def upstream(self) -> str:
        return f"127.0.0.1:{self.server.client.base_url.port}"


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    folder = tmp_path_factory.mktemp("proxies")
    lab = Lab.at(folder / "lab", access="token", **documented_settings())
    with writing(lab.engine) as connection:
        token = tokens.make(connection, "ann", Role.EDITOR)
    with serving(lab.settings, "--no-worker") as server:
        yield Inside(lab, server, folder, token)
    lab.engine.dispose()


def make_certificate(folder: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    more = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    files = ["-keyout", str(folder / "lab.key"), "-out", str(folder / "lab.pem")]
    subprocess.run([*command.split(), *more, *files], check=True, capture_output=True)


# -- the proxies ----------------------------------------------------------------------------


def nginx(inside: Inside, port: int) -> list[str]:
    """nginx's command for the documented block; only addresses and files are others."""
    folder = inside.folder / "nginx"
    folder.mkdir()
    server = replaced(
        block_after("nginx"),
        **{
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "/etc/ssl/lab.": f"{inside.folder}/lab.",
            "127.0.0.1:8321": inside.upstream,
        },
    )
    places = "client_body proxy fastcgi uwsgi scgi".split()
    temporary = "".join(f"{place}_temp_path {folder / place};\n" for place in places)
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{server}\n}}\n"
    )
    return ["nginx", "-p", str(folder), "-c", str(file), "-e", "stderr"]


def caddy(inside: Inside, port: int) -> list[str]:
    """Caddy's command for the documented block; only addresses and the certificate are others."""
    site = replaced(
        block_after("Caddy"),
        **{
            f"{NAME} {{": f"{NAME}:{port} {{\n    bind 127.0.0.1\n"
            f"    tls {inside.folder}/lab.pem {inside.folder}/lab.key",
            "127.0.0.1:8321": inside.upstream,
        },
    )
    file = inside.folder / "Caddyfile"
    file.write_text(f"{{\nadmin off\nauto_https disable_redirects\ngrace_period 1s\n}}\n{site}\n")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]


PROXIES: dict[str, Callable[[Inside, int], list[str]]] = {"nginx": nginx, "caddy": caddy}


@dataclass(frozen=True)
class Proxy:
    """A proxy in front of the lab, as a browser of somebody elsewhere meets it."""

    inside: Inside
    port: int

    @property
    def origin(self) -> str:
        return f"https://{NAME}:{self.port}"

    @contextmanager
    def client(self, address: str = SOMEBODY) -> Iterator[httpx2.Client]:
        """A client that calls the lab by its name, from an address of its own."""
        trusted = ssl.create_default_context(cafile=str(self.inside.folder / "lab.pem"))

        def by_name(request: httpx2.Request) -> None:
            request.extensions["sni_hostname"] = NAME

        with httpx2.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"Host": f"{NAME}:{self.port}"},
            transport=httpx2.HTTPTransport(verify=trusted, local_address=address),
            event_hooks={"request": [by_name]},
            timeout=60,
        ) as client:
            yield client

    def answer_to(self, *heads: str) -> bytes:
        """The answer to a request for /healthz with headers that no client library would send."""
        trusted = ssl.create_default_context(cafile=str(self.inside.folder / "lab.pem"))
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        with trusted.wrap_socket(plain, server_hostname=NAME) as connection:
            lines = ["GET /healthz HTTP/1.1", *heads, "Connection: close", "", ""]
            connection.sendall("\r\n".join(lines).encode())
            pieces = []
            while piece := connection.recv(65536):
                pieces.append(piece)
        return b"".join(pieces)


@pytest.fixture(scope="module", params=PROXIES)
def program(request: pytest.FixtureRequest) -> str:
    for needed in (request.param, "openssl"):
        if shutil.which(needed) is None:
            pytest.skip(f"{needed} is not installed")
    return str(request.param)


@pytest.fixture(scope="module")
def proxy(program: str, inside: Inside) -> Iterator[Proxy]:
    port, log = free_port(), inside.folder / f"{program}.log"
    make_certificate(inside.folder)
    with log.open("w") as file:
        process = subprocess.Popen(PROXIES[program](inside, port), stdout=file, stderr=file)
    proxy = Proxy(inside, port)
    try:
        with proxy.client() as client:
            wait_for(lambda: is_up(client) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield proxy
    finally:
        process.terminate()
        process.wait(30)


def last_line(lab: Lab) -> tuple[str, str, int]:
    """From where, to where and with what end the newest change in the audit log was asked for."""
    with reading(lab.engine) as connection:
        line = connection.execute(select(audit).order_by(audit.c.id.desc()).limit(1)).one()
    return line.address, line.path, line.status


# -- what must hold -------------------------------------------------------------------------


def test_a_browser_logs_in_and_its_cookie_goes_by_https_alone(proxy: Proxy) -> None:
    from_our_page = {"Origin": proxy.origin}
    with proxy.client() as client:
        asked = client.get("/queue", headers={"Accept": "text/html"})
        assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=%2Fqueue")
        form = {"token": proxy.inside.token}
        answer = client.post("/login", data=form, headers=from_our_page)
        assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
        attributes = answer.headers["set-cookie"].split("; ")[1:]
        assert {"Secure", "HttpOnly", "SameSite=strict"} <= set(attributes)
        assert client.get(f"{API}/me").json() == {"name": "ann", "role": "editor"}
        assert client.get("/runs").headers["content-security-policy"]


def test_other_names_and_pages_of_others_are_refused_as_without_a_proxy(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.headers["Authorization"] = f"Bearer {proxy.inside.token}"
        for origin, is_ours in (
            (proxy.origin, True),
            (f"http://evil.example:{proxy.port}", False),
            (f"https://{NAME}:1", False),
            ("null", False),
        ):
            answer = client.post(f"{API}/queue/resume", headers={"Origin": origin})
            assert (answer.status_code != 403) == is_ours, origin
    ours, evil = f"Host: {NAME}:{proxy.port}", "Host: evil.example"
    assert b"alive" in proxy.answer_to(ours)
    for heads in ((evil,), (ours, evil), (evil, ours)):
        assert b"alive" not in proxy.answer_to(*heads), heads


def test_the_server_knows_who_came_whatever_they_say(proxy: Proxy) -> None:
    lies = {"X-Forwarded-For": INVENTED, "X-Forwarded-Proto": "http", "Forwarded": "for=1.2.3.4"}
    with proxy.client() as client:
        client.headers |= {"Authorization": f"Bearer {proxy.inside.token}", **lies}
        client.post(f"{API}/runs/4711/cancel")
        assert last_line(proxy.inside.lab) == (SOMEBODY, f"{API}/runs/4711/cancel", 404)
        answer = client.post("/login", data={"token": proxy.inside.token})
        assert "; Secure" in answer.headers["set-cookie"]


def test_events_arrive_as_they_happen(proxy: Proxy) -> None:
    lab = proxy.inside.lab
    run_id = lab.add(tiny_config())
    with proxy.client() as client:
        client.headers["Authorization"] = f"Bearer {proxy.inside.token}"
        with client.stream("GET", f"{API}/live", params={"runs": str(run_id)}) as stream:
            news = states(stream)
            assert next(news)["name"] == lab.run(run_id).name
            for number in range(3):
                began = time.monotonic()
                with writing(lab.engine) as connection:
                    labels.rename(connection, run_id, f"run-{proxy.port}-{number}")
                assert next(news)["name"] == f"run-{proxy.port}-{number}"
                assert time.monotonic() - began < 5


def test_a_stream_that_a_browser_closed_makes_room_for_another(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.headers["Authorization"] = f"Bearer {proxy.inside.token}"
        for number in range(MOST_OF_ONE + 5):
            with client.stream("GET", f"{API}/live") as stream:
                assert stream.status_code == 200, f"stream {number}: {stream.read()!r}"


def test_a_body_is_as_large_as_without_a_proxy(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.headers["Authorization"] = f"Bearer {proxy.inside.token}"
        for size, status in ((2**20, 422), (2**20 + 1, 413)):
            body = b'{"name": "' + b"x" * (size - 12) + b'"}'
            headers = {"Content-Type": "application/json"}
            answer = client.post(f"{API}/runs", content=body, headers=headers)
            assert answer.status_code == status


# -- past the proxy -------------------------------------------------------------------------


def test_nobody_but_the_proxy_may_say_where_a_request_came_from(inside: Inside) -> None:
    headers = {
        "Authorization": f"Bearer {inside.token}",
        "X-Forwarded-For": INVENTED,
        "X-Forwarded-Proto": "https",
    }
    for address, believed in ((NEIGHBOUR, False), ("127.0.0.1", True)):
        with httpx2.Client(
            base_url=f"http://{inside.upstream}",
            headers=headers,
            transport=httpx2.HTTPTransport(local_address=address),
        ) as client:
            client.post(f"{API}/runs/4711/cancel")
            assert last_line(inside.lab)[0] == (INVENTED if believed else address)
            answer = client.post("/login", data={"token": inside.token})
            assert ("; Secure" in answer.headers["set-cookie"]) == believed
