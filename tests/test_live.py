"""Live news: the present state first, every change soon after, and an end when the server ends."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from lab import Lab, tiny_config
from server import API, listening, serving, states, wait_for
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from app import labels, queue
from app.live import LOOK_SECONDS, PROGRESS_SECONDS, Live
from app.models import Asked, Status
from trainer.store.database import connect, writing

LIVE = f"{API}/live"
FIELDS = """
activity asked cause device id name progress reason seconds_left status status_meaning step
steps_per_epoch total_steps train_seconds version
""".split()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.at(tmp_path)


@pytest.fixture
def client(lab: Lab) -> Iterator[httpx2.Client]:
    with listening(lab.settings) as client:
        yield client


def act(lab: Lab, action: Callable[..., Any], *arguments: Any, **more: Any) -> None:
    with writing(lab.engine) as connection:
        action(connection, *arguments, **more)


# -- over HTTP ------------------------------------------------------------------------------


def test_the_present_state_comes_first_and_then_every_change(
    lab: Lab, client: httpx2.Client
) -> None:
    one, other = lab.add(tiny_config()), lab.add(tiny_config())
    with client.stream("GET", LIVE, params={"runs": f"{one},{other}"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        news = states(stream)
        assert [(s["id"], s["status"]) for s in (next(news), next(news))] == [
            (one, "queued"),
            (other, "queued"),
        ]
        for action, expected in (
            (lambda c: queue.ask(c, one, Asked.PAUSE), (one, "paused")),
            (lambda c: queue.resume(c, one), (one, "queued")),
            (lambda c: queue.ask(c, other, Asked.CANCEL), (other, "cancelled")),
            (lambda c: labels.rename(c, other, "new name"), (other, "cancelled")),
        ):
            act(lab, action)
            state = next(news)
            assert (state["id"], state["status"]) == expected
        assert state["name"] == "new name"


def test_a_step_is_told_within_a_second_with_progress_and_time_left(
    lab: Lab, client: httpx2.Client
) -> None:
    run_id = lab.add(tiny_config())
    claim = lab.claim(run_id)
    act(lab, queue.report, claim, total_steps=40, steps_per_epoch=4, device="cpu")
    with client.stream("GET", LIVE, params={"runs": str(run_id)}) as stream:
        news = states(stream)
        assert sorted(next(news)) == FIELDS
        for step in (10, 20, 30):
            act(lab, queue.report, claim, step=step, train_seconds=step / 2)
            written = time.monotonic()
            state = next(news)
            assert time.monotonic() - written < 1
            assert (state["step"], state["progress"]) == (step, step / 40)
            assert state["seconds_left"] > 0
        act(lab, queue.conclude, claim, Status.FINISHED)
        state = next(news)
        assert (state["status"], state["progress"], state["seconds_left"]) == ("finished", 1, None)


def test_without_numbers_every_run_that_changes_is_told(lab: Lab, client: httpx2.Client) -> None:
    waiting, running = lab.add(tiny_config()), lab.add(tiny_config())
    claim = lab.claim(running)
    with client.stream("GET", LIVE) as stream:
        news = states(stream)
        assert next(news)["id"] == running
        new = lab.add(tiny_config())
        assert next(news)["id"] == new
        act(lab, queue.ask, waiting, Asked.CANCEL)
        assert next(news)["id"] == waiting
        act(lab, queue.conclude, claim, Status.FAILED, "why")
        assert next(news)["reason"] == "why"


def test_numbers_that_are_not_finite_are_spelled(lab: Lab, client: httpx2.Client) -> None:
    run_id = lab.add(tiny_config())
    act(lab, queue.report, lab.claim(run_id), step=1, total_steps=2, train_seconds=float("inf"))
    with client.stream("GET", LIVE) as stream:
        assert next(states(stream))["train_seconds"] == "Infinity"


def test_streams_end_at_once_when_the_server_is_told_to_end(lab: Lab) -> None:
    run_id = lab.add(tiny_config())
    with serving(lab.settings, "--no-worker") as served:
        # after its warm-up, in the middle of which no process ends well
        served.client.post(f"{API}/check", json={"config": {}})
        with served.client.stream("GET", LIVE, params={"runs": str(run_id)}) as stream:
            news = states(stream)
            assert next(news)["id"] == run_id
            took = served.stop(signal.SIGTERM)
            assert list(news) == []
        assert took < 2
        # what uvicorn leaves to the signal itself, when everything is closed
        assert served.process.returncode == -signal.SIGTERM


# -- the follower itself --------------------------------------------------------------------


def following(lab: Lab, talk: Callable[[Live], Awaitable[None]]) -> None:
    """Run a conversation with a Live in an event loop of its own."""

    async def run() -> None:
        live = Live(lab.engine)
        async with asyncio.timeout(5):
            await talk(live)
        await live.end()

    asyncio.run(run())


@pytest.mark.parametrize("queries", range(1, 8))
def test_a_change_after_any_query_of_a_look_is_told(lab: Lab, queries: int) -> None:
    run_id = lab.add(tiny_config())
    other_engine = connect(lab.settings.database_url)
    asked = 0

    @event.listens_for(lab.engine, "after_cursor_execute")
    def change_in_between(*facts: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == queries:
            with writing(other_engine) as connection:
                queue.ask(connection, run_id, Asked.CANCEL)

    async def talk(live: Live) -> None:
        versions = []
        async for state in live.follow([run_id]):
            versions.append(state.facts["version"])
            if state.facts["status"] == Status.CANCELLED:
                break
        assert versions == sorted(set(versions))

    following(lab, talk)
    other_engine.dispose()


def test_a_slow_page_gets_only_the_newest_state(lab: Lab) -> None:
    run_id = lab.add(tiny_config())
    claim = lab.claim(run_id)

    async def talk(live: Live) -> None:
        news = live.follow([run_id])
        assert (await anext(news)).facts["step"] == 0
        for step in range(1, 6):
            act(lab, queue.report, claim, step=step)
            await asyncio.sleep(LOOK_SECONDS * 1.5)
        await asyncio.sleep(PROGRESS_SECONDS + LOOK_SECONDS)
        assert (await anext(news)).facts["step"] == 5
        await news.aclose()

    following(lab, talk)


def test_many_pages_cost_one_look_and_none_when_they_are_gone(lab: Lab) -> None:
    run_id = lab.add(tiny_config())
    asked: list[str] = []

    @event.listens_for(lab.engine, "before_cursor_execute")
    def count(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        asked.append(statement)

    async def talk(live: Live) -> None:
        pages = [live.follow([run_id]) for _ in range(20)]
        for page in pages:
            assert (await anext(page)).facts["id"] == run_id
        asked.clear()
        await asyncio.sleep(LOOK_SECONDS * 4)
        assert 2 <= len(asked) <= 20
        for page in pages:
            await page.aclose()
        assert not live.followers
        assert live.looking is not None
        await live.looking
        asked.clear()
        await asyncio.sleep(LOOK_SECONDS * 2)
        assert asked == []

    following(lab, talk)


def test_a_database_that_fails_for_a_moment_ends_no_stream(lab: Lab) -> None:
    run_id = lab.add(tiny_config())
    failing = False

    @event.listens_for(lab.engine, "before_cursor_execute")
    def fail(*facts: Any) -> None:
        if failing:
            raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    async def talk(live: Live) -> None:
        nonlocal failing
        news = live.follow([run_id])
        await anext(news)
        failing = True
        await asyncio.sleep(LOOK_SECONDS * 2)
        failing = False
        act(lab, queue.ask, run_id, Asked.PAUSE)
        assert (await anext(news)).facts["status"] == "paused"
        await news.aclose()

    following(lab, talk)


def test_a_page_that_goes_away_is_forgotten(lab: Lab) -> None:
    run_id = lab.add(tiny_config())
    apps: list[FastAPI] = []
    with listening(lab.settings, apps.append) as client:
        live: Live = apps[0].state.live
        with client.stream("GET", LIVE, params={"runs": str(run_id)}) as stream:
            news = states(stream)
            assert next(news)["id"] == run_id
            assert len(live.followers) == 1
        wait_for(lambda: not live.followers, 10)


def test_mere_progress_is_told_now_and_then_and_everything_else_at_once(lab: Lab) -> None:
    run_id = lab.add(tiny_config())
    claim = lab.claim(run_id)
    live = Live(lab.engine)
    assert [state.facts["step"] for state in live.changed()] == [0]
    told = []
    for step in range(1, 9):
        act(lab, queue.report, claim, step=step)
        told += live.changed()
        time.sleep(PROGRESS_SECONDS / 4)
    assert 1 <= len(told) <= 3
    act(lab, queue.report, claim, step=9)
    act(lab, queue.ask, run_id, Asked.PAUSE)
    assert [state.facts["asked"] for state in live.changed()] == ["pause"]
    act(lab, queue.conclude, claim, Status.PAUSED)
    assert [state.facts["status"] for state in live.changed()] == ["paused"]
    assert live.told == {}
