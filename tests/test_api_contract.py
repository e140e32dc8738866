"""Thousands of made-up requests: nothing breaks, and every answer is what the document says."""

from collections.abc import Iterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import httpx2
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from lab import Lab
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from server import API, listening

EXAMPLES = {GenerationMode.POSITIVE: 40, GenerationMode.NEGATIVE: 20}
"""Of each operation. Requests that are wrong on purpose take a while to think of."""
OWNERS = "a-token-of-the-owner-for-tests"
OWNER = {"Authorization": f"Bearer {OWNERS}"}
CHECKS = [
    not_a_server_error,
    response_schema_conformance,
    content_type_conformance,
    status_code_conformance,
]
MADE_UP = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    # of the environment: one that made-up requests cannot revoke
    lab = Lab.at(tmp_path_factory.mktemp("lab"), access="token", token=OWNERS)
    lab.train()
    return lab


@pytest.fixture(scope="module")
def client(lab: Lab) -> Iterator[httpx2.Client]:
    with listening(lab.settings) as client:
        yield client


@pytest.fixture(scope="module")
def operations(client: httpx2.Client) -> list[Any]:
    """Every operation of the API's own document but the event stream, which never ends."""
    document = client.get(f"{API}/openapi.json", headers=OWNER).json()
    del document["paths"][f"{API}/live"]
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=str(client.base_url))
    return [found.ok() for found in schema.get_all_operations()]


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """One connection for all requests, which remembers nothing from one to the next."""
    with requests.Session() as session:
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        yield session


def ask(
    operation: Any, mode: GenerationMode, session: requests.Session, headers: dict[str, str]
) -> tuple[int, list[str]]:
    """Send made-up requests of one operation; how many, and what was wrong with the answers."""
    wrong: list[str] = []
    sent = 0

    @settings(MADE_UP, max_examples=EXAMPLES[mode])
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Case) -> None:
        nonlocal sent
        sent += 1
        # every other one of the run that there is: made-up numbers name none
        if sent % 2 and "run" in (case.path_parameters or {}) and case.method != "DELETE":
            case.path_parameters["run"] = "1"
        try:
            case.call_and_validate(session=session, headers=headers, checks=CHECKS)
        except FailureGroup as failures:
            wrong.extend(f"{operation.label}: {one}" for one in failures.exceptions)

    try:
        send()
    except Unsatisfiable:
        # nothing can be wrong with a request that has no parameters
        assert mode == GenerationMode.NEGATIVE
    return sent, wrong


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_whatever_the_owner_sends_is_answered_as_documented(
    operations: list[Any], session: requests.Session, mode: GenerationMode
) -> None:
    count, wrong = 0, []
    for operation in operations:
        sent, bad = ask(operation, mode, session, OWNER)
        count += sent
        wrong += bad[:2]
    assert wrong == []
    assert count > 1000


@pytest.mark.timeout(600)
def test_whatever_a_stranger_sends_is_refused_alike(
    operations: list[Any], session: requests.Session
) -> None:
    """The same answer to all, so that nobody learns what there is."""
    for operation in operations:
        if operation.path == "/healthz":
            continue

        @settings(MADE_UP, max_examples=EXAMPLES[GenerationMode.POSITIVE])
        @given(case=operation.as_strategy())
        def send(case: Case) -> None:
            answer = case.call(session=session)
            # the second where it made tokens up, too many of them
            assert answer.status_code in (401, 429), case.operation.label
            assert answer.json()["status"] == answer.status_code

        send()
