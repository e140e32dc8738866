"""Coming in: addresses that log in once, the login page, cookies, tokens revoked, tries used up."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from lab import Lab, tiny_config
from pydantic import SecretStr, ValidationError
from server import API, client_of, refusal
from sqlalchemy import select, update

from app.access import audit, keys, tokens, tries
from app.access.admission import cookie_name
from app.access.roles import Role
from app.main import create_app
from app.missing import NotThere
from app.models import tokens as table
from app.settings import Settings
from trainer.part import Refused
from trainer.store.database import reading, writing

PAGE = {"Accept": "text/html"}
CANARY = "canary-0123456789-abcdefgh"


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.at(tmp_path_factory.mktemp("lab"), access="token")


@pytest.fixture
def client(lab: Lab) -> Iterator[TestClient]:
    with client_of(lab.settings) as client:
        yield client


def made(lab: Lab, name: str = "ann", role: Role = Role.EDITOR) -> str:
    with writing(lab.engine) as connection:
        return tokens.make(connection, name, role)


def once(lab: Lab) -> str:
    with writing(lab.engine) as connection:
        return tokens.make_once(connection)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def log_in(client: TestClient, secret: str, **more: Any) -> Any:
    return client.post("/login", data={"token": secret, **more}, headers=PAGE)


def rows(lab: Lab) -> list[Any]:
    with reading(lab.engine) as connection:
        return list(connection.execute(select(table).order_by(table.c.id)))


def lines(lab: Lab) -> list[tuple[str, str, str, int]]:
    """Who, method, path and status of the audit log, oldest first."""
    with reading(lab.engine) as connection:
        found = [
            (line.who, line.method, line.path, line.status) for line in audit.lines(connection)
        ]
    return found[::-1]


# -- an address that logs in once -----------------------------------------------------------


def test_the_printed_address_logs_one_browser_in_as_the_owner(lab: Lab, client: TestClient) -> None:
    code = once(lab)
    answer = client.get(f"/login?code={code}", headers=PAGE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
    assert answer.headers["cache-control"] == "no-store"
    name, *attributes = answer.headers["set-cookie"].split("; ")
    assert name.startswith(f"{cookie_name(lab.settings)}=tl_")
    assert {a.lower() for a in attributes} == {
        "httponly", "samesite=strict", "path=/", "max-age=7776000",
    }  # fmt: skip
    assert client.get(f"{API}/me").json() == {"name": "owner", "role": "owner"}
    assert client.get("/settings/tokens").status_code == 200
    assert all(row.hash != code for row in rows(lab))


def test_it_logs_in_once_only_and_says_how_to_get_another(lab: Lab, client: TestClient) -> None:
    code = once(lab)
    assert client.get(f"/login?code={code}").status_code == 303
    client.cookies.clear()
    again = client.get(f"/login?code={code}", headers=PAGE)
    assert again.status_code == 401
    assert "tricklab login" in again.text
    assert "set-cookie" not in again.headers


def test_it_is_good_for_a_day(lab: Lab, client: TestClient) -> None:
    code = once(lab)
    with writing(lab.engine) as connection:
        connection.execute(update(table).values(expires_at=table.c.expires_at - tokens.DAY - 1))
    assert client.get(f"/login?code={code}").status_code == 401
    once(lab)
    assert len(rows(lab)) == 1, "those that nobody used are gone"


def test_neither_it_nor_a_cookie_will_do_as_a_header(lab: Lab, client: TestClient) -> None:
    code = once(lab)
    assert client.get(f"{API}/me", headers=bearer(code)).status_code == 401
    client.get(f"/login?code={code}")
    cookie = client.cookies[cookie_name(lab.settings)]
    client.cookies.clear()
    assert client.get(f"{API}/me", headers=bearer(cookie)).status_code == 401
    token = made(lab)
    client.cookies[cookie_name(lab.settings)] = token
    assert client.get(f"{API}/me").status_code == 401


# -- the login page -------------------------------------------------------------------------


def test_a_page_leads_to_the_login_and_that_back_to_the_page(lab: Lab, client: TestClient) -> None:
    answer = client.get("/compare?runs=1,2&x=a b", headers=PAGE)
    assert answer.status_code == 303
    form = client.get(answer.headers["location"], headers=PAGE)
    assert 'value="/compare?runs=1,2&amp;x=a%20b"' in form.text
    after = log_in(client, made(lab), next="/compare?runs=1,2&x=a%20b")
    assert after.headers["location"] == "/compare?runs=1,2&x=a%20b"
    assert client.get(f"{API}/me").json() == {"name": "ann", "role": "editor"}


@pytest.mark.parametrize(
    "elsewhere",
    "//evil.example https://evil.example /\\evil.example \\/evil.example javascript:alert(1) "
    "evil /%0d%0a/../.. /\t/evil.example".split(" "),
)
def test_it_never_leads_to_another_server(lab: Lab, client: TestClient, elsewhere: str) -> None:
    location = log_in(client, made(lab), next=elsewhere).headers["location"]
    assert location.startswith("/")
    assert location[1:2] not in ("/", "\\")
    assert "\n" not in location


def test_a_wrong_token_is_told_and_changes_nothing(lab: Lab, client: TestClient) -> None:
    answer = log_in(client, "tl_wrong", next="/queue")
    assert answer.status_code == 401
    assert "No token is like that" in answer.text
    assert 'value="/queue"' in answer.text
    assert "tl_wrong" not in answer.text
    assert "set-cookie" not in answer.headers


def test_the_cookie_goes_by_https_alone_where_the_page_did(lab: Lab, client: TestClient) -> None:
    secure = client.post("https://127.0.0.1/login", data={"token": made(lab)})
    assert "Secure" in secure.headers["set-cookie"]


def test_two_labs_on_one_host_keep_their_cookies_apart(tmp_path_factory: Any) -> None:
    names = {cookie_name(Settings(port=port)) for port in (8321, 8322)}
    assert len(names) == 2


def test_logging_out_ends_this_browser_alone(lab: Lab, client: TestClient) -> None:
    token = made(lab)
    log_in(client, token)
    cookie = client.cookies[cookie_name(lab.settings)]
    answer = client.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    client.cookies[cookie_name(lab.settings)] = cookie
    assert client.get(f"{API}/me").status_code == 401
    client.cookies.clear()
    assert client.get(f"{API}/me", headers=bearer(token)).status_code == 200


def test_a_browser_stays_logged_in_when_the_server_starts_anew(lab: Lab) -> None:
    with client_of(lab.settings) as client:
        log_in(client, made(lab))
        cookies = dict(client.cookies)
    with client_of(lab.settings) as client:
        client.cookies.update(cookies)
        assert client.get(f"{API}/me").json()["name"] == "ann"


# -- tries ----------------------------------------------------------------------------------


def test_after_ten_wrong_tries_an_address_must_wait(
    lab: Lab, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(client, made(lab))
    for _ in range(tries.MOST):
        assert log_in(client, "wrong").status_code == 401
    noted = len(lines(lab))
    answer = log_in(client, "wrong")
    assert answer.status_code == 429
    assert len(lines(lab)) == noted, "nobody fills the log by trying on"
    assert 0 < int(answer.headers["retry-after"]) <= tries.WINDOW_SECONDS + 1
    assert "try again in" in answer.text
    assert client.get(f"{API}/me").status_code == 200, "who is in stays in"
    headers = bearer("wrong")
    client.cookies.clear()
    assert "try again in" in refusal(client.get(f"{API}/me", headers=headers), 429)
    now = tries.time.monotonic()
    monkeypatch.setattr(tries.time, "monotonic", lambda: now + tries.WINDOW_SECONDS + 1)
    assert log_in(client, "wrong").status_code == 401


def test_a_script_with_an_old_token_locks_nobody_out(lab: Lab) -> None:
    settings = lab.settings.model_copy(update={"token": SecretStr(CANARY)})
    token = made(lab)
    with client_of(settings) as client:
        for _ in range(tries.MOST + 1):
            client.get(f"{API}/me", headers=bearer("tl_" + "x" * 43))
        assert client.get(f"{API}/me", headers=bearer(token)).status_code == 200
        assert log_in(client, token).status_code == 303
        client.cookies.clear()
        # this one somebody thought up, so it could be guessed
        assert client.get(f"{API}/me", headers=bearer(CANARY)).status_code == 429
        assert log_in(client, CANARY).status_code == 429
        assert log_in(client, "tl_" + "y" * 43).status_code == 429


def test_wrong_headers_count_as_tries(lab: Lab, client: TestClient) -> None:
    for _ in range(tries.MOST):
        assert client.get(f"{API}/me", headers=bearer("wrong")).status_code == 401
    assert client.get(f"{API}/me", headers=bearer("wrong")).status_code == 429
    assert log_in(client, "wrong").status_code == 429


def test_tries_are_counted_by_address_and_old_ones_forgotten() -> None:
    counted = tries.Tries()
    for number in range(tries.CLIENTS + 10):
        counted.fail(str(number))
    assert len(counted.failures) == tries.CLIENTS
    for _ in range(tries.MOST):
        counted.fail("one")
    assert counted.wait_seconds("one")
    assert not counted.wait_seconds("another")


# -- tokens ---------------------------------------------------------------------------------


def test_a_token_is_stored_by_its_hash_alone(lab: Lab) -> None:
    secret = made(lab)
    assert secret.startswith("tl_")
    assert len(secret) == 46
    assert secret.encode() not in lab.settings.folder.joinpath("tricklab.db").read_bytes()
    assert [row.hash for row in rows(lab)] == [tokens.hash_of(secret)]


@pytest.mark.parametrize("name", ["", " ", "a b", "queue", "Person", "owner", "x" * 65, "ä", "a\n"])
def test_a_token_has_a_name_that_nobody_takes_for_another(lab: Lab, name: str) -> None:
    with pytest.raises(Refused, match="cannot name a token"):
        made(lab, name)
    made(lab, "ann")
    with pytest.raises(Refused, match="there is a token 'ann' already"):
        made(lab, "ann")


def test_revoking_a_token_ends_it_and_every_browser_of_it(lab: Lab, client: TestClient) -> None:
    token, other = made(lab), made(lab, "bob")
    log_in(client, token)
    assert client.get(f"{API}/me").status_code == 200
    with writing(lab.engine) as connection:
        tokens.revoke(connection, tokens.number_of(connection, "ann"))
    # revoked by another process: known here for as long as a token is remembered
    keys.time.sleep(keys.FRESH_SECONDS)
    assert client.get(f"{API}/me").status_code == 401
    client.cookies.clear()
    assert client.get(f"{API}/me", headers=bearer(token)).status_code == 401
    assert client.get(f"{API}/me", headers=bearer(other)).status_code == 200
    with pytest.raises(NotThere), writing(lab.engine) as connection:
        tokens.number_of(connection, "ann")
    assert made(lab, "ann") != token, "the name is free again"


def test_revoking_through_the_server_holds_at_once(lab: Lab, client: TestClient) -> None:
    owner, ann = bearer(made(lab, "boss", Role.OWNER)), made(lab)
    assert client.get(f"{API}/me", headers=bearer(ann)).status_code == 200
    listed = client.get(f"{API}/tokens", headers=owner).json()["tokens"]
    number = next(token["id"] for token in listed if token["name"] == "ann")
    assert client.delete(f"{API}/tokens/{number}", headers=owner).status_code == 204
    assert client.get(f"{API}/me", headers=bearer(ann)).status_code == 401
    assert client.delete(f"{API}/tokens/{number}", headers=owner).status_code == 404


def test_tokens_are_made_and_listed_without_their_secrets(lab: Lab, client: TestClient) -> None:
    owner = bearer(made(lab, "boss", Role.OWNER))
    answer = client.post(f"{API}/tokens", json={"name": "bob", "role": "viewer"}, headers=owner)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    secret = answer.json()["token"]
    assert client.get(f"{API}/me", headers=bearer(secret)).json()["role"] == "viewer"
    listed = client.get(f"{API}/tokens", headers=owner)
    assert secret not in listed.text
    assert tokens.hash_of(secret) not in listed.text
    assert [token["name"] for token in listed.json()["tokens"]] == ["bob", "boss"]
    assert all(token["used_at"] for token in listed.json()["tokens"])
    again = client.post(f"{API}/tokens", json={"name": "bob", "role": "viewer"}, headers=owner)
    assert "revoke it first" in refusal(again, 409)
    nobody = client.post(f"{API}/tokens", json={"name": "x", "role": "king"}, headers=owner)
    assert "role" in refusal(nobody, 422)


def test_the_token_of_the_environment_is_the_owners_until_it_is_another(
    lab: Lab,
) -> None:
    def with_token(secret: str | None) -> Settings:
        token = SecretStr(secret) if secret else None
        return lab.settings.model_copy(update={"token": token})

    with client_of(with_token(CANARY)) as client:
        owner = client.get(f"{API}/me", headers=bearer(CANARY)).json()
        assert owner == {"name": "TRICKLAB_TOKEN", "role": "owner"}
        log_in(client, CANARY)
        cookies = dict(client.cookies)
        number = client.get(f"{API}/tokens").json()["tokens"][-1]["id"]
        assert "environment" in refusal(client.delete(f"{API}/tokens/{number}"), 409)
    for settings, status in (
        (with_token(CANARY), 200),
        (with_token(CANARY + "2"), 401),
        (with_token(CANARY), 200),
        (with_token(None), 401),
    ):
        with client_of(settings) as client:
            assert client.get(f"{API}/me", headers=bearer(CANARY)).status_code == status
    with client_of(with_token(CANARY)) as client:
        client.cookies.update(cookies)
        assert client.get(f"{API}/me").status_code == 401, "browsers of a revoked one stay out"


def test_a_short_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRICKLAB_TOKEN", "hunter2")
    with pytest.raises(ValidationError, match="at least 20") as refused:
        Settings()
    assert "hunter2" not in str(refused.value)


def test_what_a_worker_is_started_with_holds_no_token(lab: Lab) -> None:
    settings = lab.settings.model_copy(update={"token": SecretStr(CANARY)})
    assert settings.as_environment()["TRICKLAB_TOKEN"] == ""
    assert CANARY not in str(settings.as_environment())
    assert CANARY not in repr(settings)


# -- who did what ---------------------------------------------------------------------------


def test_two_people_see_what_their_roles_allow_and_are_named(lab: Lab, client: TestClient) -> None:
    run_id = lab.add(tiny_config())
    viewer, editor = bearer(made(lab, "vera", Role.VIEWER)), bearer(made(lab, "ed"))
    seen = client.get(f"/runs/{run_id}", headers=viewer | PAGE)
    assert seen.status_code == 200
    for control in ("/pause", "/cancel", "/delete", "/describe", "/runs/new"):
        assert f'{control}"' not in seen.text
    assert "/settings/tokens" not in client.get("/settings", headers=viewer | PAGE).text
    assert '/pause"' in client.get(f"/runs/{run_id}", headers=editor | PAGE).text
    refused = client.post(f"{API}/runs/{run_id}/pause", headers=viewer)
    assert refusal(refused, 403) == "vera is a viewer; this takes an editor"
    as_page = client.post(f"/runs/{run_id}/pause", headers=viewer | PAGE)
    assert as_page.status_code == 403
    assert "vera is a viewer" in as_page.text
    assert client.post(f"{API}/runs/{run_id}/pause", headers=editor).status_code == 200
    by = client.get(f"{API}/runs/{run_id}/events", headers=viewer).json()["events"][-1]["by"]
    assert by == "ed"
    assert lines(lab) == [
        ("vera", "POST", f"{API}/runs/{run_id}/pause", 403),
        ("vera", "POST", f"/runs/{run_id}/pause", 403),
        ("ed", "POST", f"{API}/runs/{run_id}/pause", 200),
    ]


def test_the_owner_reads_who_did_what_and_nobody_else(lab: Lab, client: TestClient) -> None:
    log_in(client, "wrong")
    token = made(lab, "boss", Role.OWNER)
    log_in(client, token)
    client.post("/queue/pause", data={"reason": "night"})
    log = client.get(f"{API}/audit").json()["lines"]
    assert [(line["who"], line["path"], line["status"]) for line in log] == [
        ("boss", "/queue/pause", 303),
        ("boss", "/login", 303),
        ("nobody", "/login", 401),
    ]
    older = client.get(f"{API}/audit?limit=1&before={log[0]['id']}").json()["lines"]
    assert older == log[1:2]
    assert client.get(f"{API}/audit?who=nobody").json()["lines"] == log[2:]
    page = client.get("/settings/audit", headers=PAGE)
    assert "/queue/pause" in page.text


def test_the_audit_log_forgets_what_is_very_old(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "KEPT", 5)
    monkeypatch.setattr(audit, "PRUNED_EVERY", 10)
    with writing(lab.engine) as connection:
        for number in range(20):
            line = {"who": "x", "role": "", "address": "", "method": "POST", "status": 200}
            audit.note(connection, path=f"/{number}\0\ud800", **line)
    assert [path for _, _, path, _ in lines(lab)] == [f"/{n}�?" for n in range(15, 20)]


# -- access off -----------------------------------------------------------------------------


def test_with_access_off_everybody_is_the_owner(tmp_path_factory: pytest.TempPathFactory) -> None:
    lab = Lab.at(tmp_path_factory.mktemp("lab"), access="off")
    with client_of(lab.settings) as client:
        assert client.get(f"{API}/me").json() == {"name": "person", "role": "owner"}
        assert "Log out" not in client.get("/runs", headers=PAGE).text


def test_access_is_asked_for_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.delenv("TRICKLAB_ACCESS")
    settings = Settings(folder=tmp_path_factory.mktemp("lab"))
    assert settings.access == "token"
    app = create_app(settings)
    assert TestClient(app, base_url="http://127.0.0.1").get("/readyz").status_code == 401
    app.state.engine.dispose()
