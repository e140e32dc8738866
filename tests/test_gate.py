"""Who may come in, what every answer carries, and how scripts and styles are sent."""

import gzip
import hashlib
import itertools
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from lab import Lab
from server import API, client_of, listening, refusal

from app.assets import FROM_PACKAGES, asset
from app.gate import SECURITY_HEADERS
from app.settings import Settings

RUN = {"recipe": "digits-cnn"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    def break_it(app: FastAPI) -> None:
        @app.get("/api/v1/broken")
        def broken() -> None:
            raise RuntimeError

    settings = Settings(
        folder=tmp_path_factory.mktemp("lab"),
        host="192.0.2.7",
        allowed_hosts=("lab.example",),
    )
    with client_of(settings, break_it) as client:
        yield client


# -- hosts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    "127.0.0.1 127.0.0.1:8321 localhost:1 LocalHost [::1]:8321 192.0.2.7:8321 lab.example "
    "Lab.Example:443".split(),
)
def test_the_servers_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    "evil.example 127.0.0.1.evil.example evil.example:8321 127.0.0.1@evil.example "
    "sub.lab.example lab.example. 0.0.0.0 [::] [ @ :80".split(),
)
@pytest.mark.parametrize("path", ["/healthz", f"{API}/runs", "/runs", "/static/style.css", "/docs"])
def test_any_other_name_is_refused_everywhere(client: TestClient, path: str, host: str) -> None:
    detail = refusal(client.get(path, headers={"Host": host}), 403)
    assert "does not answer to the name" in detail


def test_two_hosts_or_none_are_refused(client: TestClient) -> None:
    twice = [("Host", "127.0.0.1"), ("Host", "evil.example")]
    assert "one host" in refusal(client.get("/healthz", headers=twice), 403)


# -- origins --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_programs_and_our_own_pages_may_change_things(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert client.post(f"{API}/runs", json=RUN, headers=headers).status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"},
        {"Sec-Fetch-Site": ""},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{API}/runs"),
        ("POST", f"{API}/check"),
        ("PATCH", f"{API}/runs/1"),
        ("DELETE", f"{API}/runs/1"),
        ("POST", f"{API}/runs/1/cancel"),
        ("POST", "/runs/new"),
        ("PUT", "/nowhere"),
    ],
)
def test_pages_of_others_may_change_nothing(
    client: TestClient, method: str, path: str, headers: dict[str, str]
) -> None:
    before = client.get(f"{API}/runs").json()["total"]
    answer = client.request(method, path, json=RUN, headers=headers)
    assert refusal(answer, 403) == "a page of another origin may not change anything here"
    assert client.get(f"{API}/runs").json()["total"] == before


HOSTS = (["127.0.0.1"], ["evil.example"], ["127.0.0.1", "evil.example"], ["127.0.0.1"] * 2, [])
ORIGINS = (None, "http://127.0.0.1", "http://evil.example", "null")
SITES = (None, "same-origin", "none", "same-site", "cross-site")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_hosts_origins_and_fetch_metadata_hold_together(client: TestClient, method: str) -> None:
    for hosts, origin, site in itertools.product(HOSTS, ORIGINS, SITES):
        headers = [("Host", host) for host in hosts] or [("Host", "")]
        headers += [("Origin", origin)] if origin else []
        headers += [("Sec-Fetch-Site", site)] if site else []
        from_us = site in ("same-origin", "none") or origin == "http://127.0.0.1"
        from_a_program = site is None and origin is None
        is_let_in = hosts == ["127.0.0.1"] and (method == "GET" or from_us or from_a_program)
        path = f"{API}/runs" if method == "GET" else f"{API}/runs/4711/cancel"
        status = client.request(method, path, headers=headers).status_code
        assert (status != 403) == is_let_in, (hosts, origin, site, status)


def test_no_answer_lets_pages_of_others_read_it(client: TestClient) -> None:
    answer = client.get(f"{API}/runs", headers={"Origin": "http://evil.example"})
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in answer.headers if name.startswith("access-control")]
    preflight = client.options(
        f"{API}/runs",
        headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "DELETE"},
    )
    assert not [name for name in preflight.headers if name.startswith("access-control")]


# -- headers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"{API}/runs", 200),
        ("GET", "/runs", 200),
        ("GET", "/", 307),
        ("GET", "/docs", 200),
        ("GET", f"{API}/openapi.json", 200),
        ("GET", "/static/style.css", 200),
        ("GET", "/static/nothing.css", 404),
        ("GET", asset("swagger-ui.css").address, 200),
        ("GET", "/nowhere", 404),
        ("PUT", f"{API}/runs", 405),
        ("POST", f"{API}/runs", 422),
        ("GET", f"{API}/broken", 500),
    ],
)
def test_every_answer_carries_the_security_headers(
    client: TestClient, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.get_list(name) == [value]


def test_refusals_of_the_gate_carry_them_too(client: TestClient) -> None:
    answers = [
        client.get("/runs", headers={"Host": "evil.example"}),
        client.post("/runs/new", headers={"Origin": "http://evil.example"}),
        client.post(f"{API}/runs", content=b"x" * 2**21),
    ]
    assert [answer.status_code for answer in answers] == [403, 403, 413]
    for answer in answers:
        assert (
            dict(SECURITY_HEADERS).items()
            <= {name: answer.headers[name] for name in SECURITY_HEADERS}.items()
        )


def test_scripts_may_come_from_this_server_only(client: TestClient) -> None:
    policy = client.get("/runs").headers["content-security-policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"
    assert "script-src" not in directives
    assert "http" not in policy


# -- assets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FROM_PACKAGES)
def test_an_asset_is_sent_packed_and_kept_for_ever(client: TestClient, name: str) -> None:
    package, path, media_type = FROM_PACKAGES[name]
    original = files(package).joinpath(path).read_bytes()
    answer = client.get(asset(name).address, headers={"Accept-Encoding": "gzip, br"})
    assert answer.content == original
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < len(original) / 2
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["content-type"].partition(";")[0] == media_type


def test_an_asset_goes_unpacked_to_whoever_cannot_unpack(client: TestClient) -> None:
    found = asset("swagger-ui.css")
    answer = client.get(found.address, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in answer.headers
    assert answer.content == gzip.decompress(found.packed)


def test_an_assets_address_names_its_content(client: TestClient) -> None:
    found = asset("swagger-ui.css")
    content = client.get(found.address).content
    assert found.address == f"/assets/{hashlib.sha256(content).hexdigest()[:16]}/swagger-ui.css"


@pytest.mark.parametrize(
    "path",
    [
        f"/assets/{'0' * 16}/swagger-ui.css",
        f"/assets/{asset('swagger-ui.css').hash}/plotly.min.js",
        f"/assets/{asset('swagger-ui.css').hash}/__init__.py",
        "/assets/x/..%2f..%2fetc%2fpasswd",
        "/assets/swagger-ui.css",
        "/static/..%2fpyproject.toml",
        "/static/%2e%2e/pyproject.toml",
    ],
)
def test_any_other_address_of_an_asset_leads_nowhere(client: TestClient, path: str) -> None:
    assert refusal(client.get(path), 404)


# -- the API's page -------------------------------------------------------------------------


def test_the_page_of_the_api_names_only_our_own_files(client: TestClient) -> None:
    page = client.get("/docs").text
    assert asset("swagger-ui-bundle.js").address in page
    assert asset("swagger-ui.css").address in page
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "<script>" not in page
    assert "<style" not in page


@pytest.mark.browser
def test_the_page_of_the_api_works_without_a_network(tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    lab = Lab.at(tmp_path)
    with listening(lab.settings) as client, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = browser.new_page()
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{client.base_url}/docs")
        document = client.get(f"{API}/openapi.json").json()
        operations = [method for path in document["paths"].values() for method in path]
        expect(page.locator(".opblock")).to_have_count(len(operations))
        page.locator("#operations-runs-create_run .opblock-summary-control").click()
        page.get_by_role("button", name="Try it out").click()
        page.locator("textarea.body-param__text").fill('{"recipe": "digits-cnn", "name": "typed"}')
        page.get_by_role("button", name="Execute").click()
        status = page.locator(".live-responses-table tbody .response-col_status")
        expect(status).to_contain_text("201")
        browser.close()
        assert lab.run(1).name == "typed"
        origin = str(client.base_url).rstrip("/")
        assert [url for url in asked if not url.startswith((origin, "data:", "blob:"))] == []
        assert said == []
