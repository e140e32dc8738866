"""The walk: every route and method, with every kind of credential, against one written table."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from lab import Lab
from server import client_of

from app.access import tokens
from app.access.admission import cookie_name
from app.access.roles import Role
from app.main import create_app
from trainer.store.database import writing

PUBLIC, VIEWER, EDITOR, OWNER = "public", "viewer", "editor", "owner"

TABLE = """
GET    public  /healthz
GET    public  /login
POST   public  /login
GET    public  /static
POST   viewer  /logout
GET    viewer  /readyz
GET    viewer  /docs
GET    viewer  /assets/{hash}/{name}
GET    viewer  /
GET    viewer  /runs
GET    viewer  /runs/table
POST   editor  /runs/sample
POST   editor  /runs/delete
POST   editor  /runs/archive
POST   editor  /runs/unarchive
GET    editor  /runs/new
POST   editor  /runs/new
POST   editor  /runs/new/check
POST   editor  /runs/new/try
POST   editor  /runs/{run}/prove
POST   editor  /runs/{run}/repeat
GET    viewer  /inquiries/{number}
POST   editor  /inquiries/{number}/cancel
POST   editor  /runs/{run}/pause
POST   editor  /runs/{run}/stop
POST   editor  /runs/{run}/cancel
POST   editor  /runs/{run}/resume
POST   editor  /runs/{run}/retry
POST   editor  /runs/{run}/retry-lighter
POST   editor  /runs/{run}/clone
POST   editor  /runs/{run}/continue
POST   editor  /runs/{run}/archive
POST   editor  /runs/{run}/unarchive
POST   editor  /runs/{run}/describe
POST   editor  /runs/{run}/delete
GET    viewer  /api/v1/inquiries
POST   editor  /api/v1/inquiries
GET    viewer  /api/v1/inquiries/{number}
POST   editor  /api/v1/inquiries/{number}/cancel
GET    viewer  /runs/{run}
GET    viewer  /runs/{run}/header
GET    viewer  /runs/{run}/layers
GET    viewer  /runs/{run}/probe/{example}.png
GET    viewer  /runs/{run}/evidence
GET    viewer  /runs/{run}/results
GET    viewer  /runs/{run}/log
GET    viewer  /runs/{run}/config
GET    viewer  /runs/{run}/environment
GET    viewer  /runs/{run}/timeline
GET    viewer  /runs/{run}/timeline/list
GET    viewer  /compare
GET    viewer  /compare/legend
GET    viewer  /compare/results
GET    viewer  /tricks
GET    viewer  /tricks/{name}
POST   editor  /tricks/{name}/prove
GET    viewer  /lab
GET    viewer  /lab/loss
GET    viewer  /lab/loss/result
GET    viewer  /lab/loader
GET    viewer  /lab/loader/pipeline
POST   editor  /lab/loader/ask
POST   editor  /lab/loader/sweep
GET    viewer  /lab/layers
GET    viewer  /lab/layers/parts
GET    viewer  /lab/shapes
GET    viewer  /lab/shapes/result
GET    viewer  /lab/lessons/{name}
POST   editor  /lab/lessons/{name}/ask
GET    viewer  /queue
GET    viewer  /queue/list
POST   editor  /queue/pause
POST   editor  /queue/resume
POST   editor  /queue/{run}/move
POST   editor  /queue/{run}/priority
GET    viewer  /settings
POST   owner   /settings/clean
POST   owner   /settings/backup
GET    owner   /settings/tokens
POST   owner   /settings/tokens
POST   owner   /settings/tokens/{number}/revoke
GET    owner   /settings/audit
GET    viewer  /api/v1/openapi.json
HEAD   viewer  /api/v1/openapi.json
GET    viewer  /api/v1/me
GET    owner   /api/v1/tokens
POST   owner   /api/v1/tokens
DELETE owner   /api/v1/tokens/{number}
GET    owner   /api/v1/audit
POST   editor  /api/v1/runs
GET    viewer  /api/v1/runs
GET    viewer  /api/v1/runs/{run}
PATCH  editor  /api/v1/runs/{run}
DELETE editor  /api/v1/runs/{run}
GET    viewer  /api/v1/runs/{run}/events
GET    viewer  /api/v1/runs/{run}/log
GET    viewer  /api/v1/runs/{run}/checkpoints
POST   editor  /api/v1/runs/{run}/pause
POST   editor  /api/v1/runs/{run}/stop
POST   editor  /api/v1/runs/{run}/cancel
POST   editor  /api/v1/runs/{run}/resume
POST   editor  /api/v1/runs/{run}/retry
POST   editor  /api/v1/runs/{run}/move
POST   editor  /api/v1/runs/{run}/clone
POST   editor  /api/v1/runs/{run}/retry-lighter
POST   editor  /api/v1/runs/{run}/continue
POST   editor  /api/v1/runs/{run}/archive
POST   editor  /api/v1/runs/{run}/unarchive
GET    viewer  /api/v1/runs/{run}/series
GET    viewer  /api/v1/runs/{run}/series/{name:any}
GET    viewer  /api/v1/curves
GET    viewer  /api/v1/runs/{run}/layers
GET    viewer  /api/v1/runs/{run}/layers/{layer:any}
GET    viewer  /api/v1/runs/{run}/layers/{layer:any}/bytes
GET    viewer  /api/v1/runs/{run}/layers/{layer:any}/film
GET    viewer  /api/v1/runs/{run}/layers/{layer:any}/difference
POST   editor  /api/v1/runs/{run}/features
GET    viewer  /api/v1/tasks
GET    viewer  /api/v1/tasks/{name}
GET    viewer  /api/v1/models
GET    viewer  /api/v1/models/{name}
GET    viewer  /api/v1/models/{name}/layers
GET    viewer  /api/v1/losses
GET    viewer  /api/v1/losses/{name}
GET    viewer  /api/v1/optimizers
GET    viewer  /api/v1/optimizers/{name}
GET    viewer  /api/v1/schedules
GET    viewer  /api/v1/schedules/{name}
GET    viewer  /api/v1/tricks
GET    viewer  /api/v1/tricks/{name}
GET    viewer  /api/v1/recipes
POST   editor  /api/v1/check
GET    viewer  /api/v1/queue
POST   editor  /api/v1/queue/pause
POST   editor  /api/v1/queue/resume
GET    viewer  /api/v1/workers
GET    viewer  /api/v1/storage
POST   owner   /api/v1/storage/clean
GET    viewer  /api/v1/live
"""
NOWHERE = "/nowhere /api /api/v1/nothing /staticky /loginx /healthz2 /settings/tokensx".split()


def rows() -> list[tuple[str, str, str]]:
    """Method, address and role of every line of the table."""
    lines = [line.split() for line in TABLE.strip().splitlines()]
    return [(method, path, role) for method, role, path in lines]


@dataclass
class Door:
    """A lab that asks for tokens, and a client with one of each kind."""

    client: TestClient
    headers: dict[str, dict[str, str]]

    def ask(self, method: str, path: str, credential: str) -> int:
        """The status of the answer; whatever the request itself lacks comes after the gate."""
        self.client.cookies.clear()
        # never the endless stream itself: a parameter it does not know is refused by the route
        query = "?runs=none" if path == "/api/v1/live" else ""
        return self.client.request(
            method, path + query, headers=self.headers[credential]
        ).status_code


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    lab = Lab.at(tmp_path_factory.mktemp("lab"), access="token")
    headers: dict[str, dict[str, str]] = {"none": {}, "bad": bearer(tokens.PREFIX + "x" * 43)}
    with writing(lab.engine) as connection:
        for role in Role:
            headers[role] = bearer(tokens.make(connection, f"the-{role}", role))
            row = tokens.find(
                connection, tokens.hash_of(headers[role]["Authorization"][7:]), tokens.Kind.PROGRAM
            )
            assert row is not None
            cookie = tokens.make_for_browser(connection, row)
            headers[f"{role} in a browser"] = {"Cookie": f"{cookie_name(lab.settings)}={cookie}"}
    with client_of(lab.settings, be_patient) as client:
        yield Door(client, headers)


def be_patient(app: FastAPI) -> None:
    """Count no wrong tries: the walk makes hundreds."""
    app.state.tries.fail = lambda client: None


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_every_route_has_a_line_and_every_line_a_route(lab_routes: set[tuple[str, str]]) -> None:
    assert {(method, path) for method, path, _ in rows()} == lab_routes


@pytest.fixture(scope="module")
def lab_routes(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    app = create_app(Lab.at(tmp_path_factory.mktemp("routes")).settings)
    found = set()
    for route in iter_route_contexts(app.routes):
        methods = getattr(route, "methods", None) or {"GET"}
        found |= {(method, str(route.path)) for method in methods}
    app.state.engine.dispose()
    return found


def address(path: str) -> str:
    """An address of the route at which nothing is, so that nothing comes of being let in."""
    filled = path.replace(":any}", "}").replace("{number}", "999999").replace("{example}", "0")
    for part in ("run", "name", "layer", "hash"):
        filled = filled.replace(f"{{{part}}}", "no-such-thing")
    return filled


LETS_IN = {
    PUBLIC: {"none", "bad", *Role},
    VIEWER: set(Role),
    EDITOR: {Role.EDITOR, Role.OWNER},
    OWNER: {Role.OWNER},
}


@pytest.mark.parametrize("credential", ["none", "bad", *Role, *(f"{r} in a browser" for r in Role)])
def test_whoever_comes_gets_just_as_far_as_the_table_says(door: Door, credential: str) -> None:
    wrong = []
    who = credential.removesuffix(" in a browser")
    for method, path, role in rows():
        if path == "/logout" and credential != "none":
            # it would take the credential of the following lines away
            continue
        status = door.ask(method, address(path), credential)
        turned_away = 403 if who in set(Role) else 401
        if (status == turned_away) is (who in LETS_IN[role]) and path != "/login":
            wrong.append(f"{method} {path}: {status}")
        if status >= 500:
            wrong.append(f"{method} {path} broke: {status}")
    assert not wrong


@pytest.mark.parametrize("path", NOWHERE)
@pytest.mark.parametrize("credential", ["none", "bad"])
def test_what_is_not_there_is_not_told_to_strangers(door: Door, path: str, credential: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
        assert door.ask(method, path, credential) == 401
    assert door.ask("GET", path, "owner") == 404
