"""Inquiries whose process hangs, dies, breaks or starves: each ends by name, the next starts."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from lab import Lab, tiny_config
from server import wait_for

from app import endings
from app.executors.local import LocalExecutor
from app.inquiries import desk
from app.inquiries.desk import Errand, State
from app.inquiries.lane import Lane
from app.settings import ROOT, Settings
from trainer.inquiries import Preflight
from trainer.store.database import reading, writing

LIMIT_SECONDS = 12.0
STARTING_SECONDS = 240.0
"""Until a worker has loaded torch, where the machine has much else to do."""


@dataclass
class Desk:
    """A lab whose real worker meets the faults that lie in a folder."""

    lab: Lab
    faults: Path
    worker: psutil.Popen

    def ask(self, fault: str = "") -> int:
        if fault:
            (self.faults / "inquiry.answer").write_text(fault)
        with writing(self.lab.engine) as connection:
            return desk.add(connection, Preflight(config=tiny_config()))

    def cancel(self, number: int) -> None:
        with writing(self.lab.engine) as connection:
            desk.cancel(connection, number)

    def row(self, number: int) -> Any:
        with reading(self.lab.engine) as connection:
            return desk.find(connection, number)

    def ended(self, number: int) -> Any:
        """The inquiry when it is over."""
        wait_for(lambda: self.row(number).ended_at is not None)
        return self.row(number)

    def wait_for_fault(self) -> None:
        wait_for(lambda: (self.faults / "inquiry.answer.struck").exists())
        (self.faults / "inquiry.answer.struck").unlink()


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    lab = Lab.at(tmp_path_factory.mktemp("lab"), inquiry_seconds=LIMIT_SECONDS)
    lab.forget_worker()
    faults = tmp_path_factory.mktemp("faults")
    environment = {
        **os.environ,
        **lab.settings.as_environment(),
        "TRICKLAB_FAILPOINTS": str(faults),
    }
    command = [sys.executable, "-m", "app.cli", "worker", "--device", "cpu"]
    with (lab.settings.folder / "worker.log").open("w") as log:
        process = psutil.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        try:
            found = Desk(lab, faults, process)
            first = found.ask()
            wait_for(lambda: found.row(first).ended_at is not None, STARTING_SECONDS)
            yield found
        finally:
            process.kill()
            process.wait()


def test_one_that_hangs_is_cancelled_within_three_seconds(working: Desk) -> None:
    number = working.ask("hang")
    working.wait_for_fault()
    began = time.monotonic()
    working.cancel(number)
    assert working.ended(number).status == State.CANCELLED
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("fault", "cause", "words"),
    [
        ("hang", "hung", f"no answer after {LIMIT_SECONDS:g} s"),
        ("error", "exception", "an error that a test wanted"),
        ("no-memory", "out of memory", "out of memory: the process had taken"),
        ("crash", "crashed", "was killed by SIGABRT"),
    ],
)
def test_whatever_happens_to_its_process_has_a_name_and_the_next_one_is_answered(
    working: Desk, fault: str, cause: str, words: str
) -> None:
    number = working.ask(fault)
    working.wait_for_fault()
    following = working.ask()
    row = working.ended(number)
    assert (row.status, row.cause) == (State.FAILED, cause)
    assert words in row.reason
    assert working.ended(following).status == State.FINISHED


def test_one_whose_process_is_killed_from_outside_is_answered_all_the_same(working: Desk) -> None:
    number = working.ask("kill")
    working.wait_for_fault()
    row = working.ended(number)
    assert (row.status, row.fence) == (State.FINISHED, 2)


def test_one_that_the_system_tells_to_end_was_not_cancelled(working: Desk) -> None:
    number = working.ask("hang")
    working.wait_for_fault()
    for process in working.worker.children(recursive=True):
        # those of inquiries lead groups of their own
        if os.getpgid(process.pid) == process.pid:
            process.send_signal(signal.SIGTERM)
    row = working.ended(number)
    assert (row.status, row.fence) == (State.FINISHED, 2)


def test_where_an_error_came_from_stands_in_the_log_of_the_worker(working: Desk) -> None:
    working.ended(working.ask("error"))
    said = (working.lab.settings.folder / "worker.log").read_text()
    assert "RuntimeError: an error that a test wanted" in said
    assert 'failpoint("inquiry.answer")' in said


# -- the system ends it for want of memory --------------------------------------------------


def be_killed_for_memory(errand: Errand, settings: Settings) -> None:
    (settings.folder / "counter").write_text("oom_kill 1\n")
    os.kill(os.getpid(), signal.SIGKILL)


def test_one_that_the_system_ends_for_want_of_memory_is_told_so_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab.at(tmp_path)
    (tmp_path / "counter").write_text("oom_kill 0\n")
    monkeypatch.setattr(endings, "COUNTERS", (tmp_path / "counter",))
    monkeypatch.setattr("app.inquiries.lane.answer_claimed", be_killed_for_memory)
    with writing(lab.engine) as connection:
        number = desk.add(connection, Preflight(config=tiny_config()))
    executor = LocalExecutor(lab.settings)
    lane = Lane(lab.engine, lab.settings, executor, lab.worker_id, lambda: False, alone=False)
    assert lane.answer_next()
    with reading(lab.engine) as connection:
        row = desk.find(connection, number)
    assert (row.status, row.cause) == (State.FAILED, "out of memory")
    assert "the machine had none left" in row.reason
