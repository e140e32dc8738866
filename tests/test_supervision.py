"""Supervision in its parts: pulses, endings, dropped checkpoints, a locked database, ballast."""

import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from lab import Lab, tiny_config
from sqlalchemy import Engine

from app import disk, endings, queue
from app.disk import Ballast
from app.models import Status
from app.runlog import RunLog
from app.supervision import SLOWEST_TIMES, STARTING_TIMES, Pulse
from trainer.checkpoint import drop_superseded
from trainer.failures import Cause
from trainer.store.database import connect, reading, writing
from trainer.store.reader import read_log

# -- slow, or hung --------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the monotonic clock says; a test moves it."""
    now = [1000.0]
    monkeypatch.setattr("app.supervision.time.monotonic", lambda: now[0])
    return now


def test_a_run_that_stands_still_for_longer_than_it_may_hangs(clock: list[float]) -> None:
    pulse = Pulse(hang_seconds=60)
    assert pulse.feel(1.0, has_begun=True) is None
    clock[0] += 60
    assert pulse.feel(1.0, has_begun=True) is None
    clock[0] += 1
    assert pulse.feel(1.0, has_begun=True) == 61
    assert pulse.feel(2.0, has_begun=True) is None


def test_a_run_that_is_slow_by_nature_gets_more_time(clock: list[float]) -> None:
    pulse = Pulse(hang_seconds=60)
    pulse.feel(1.0, has_begun=True)
    clock[0] += 50
    assert pulse.feel(2.0, has_begun=True) is None
    clock[0] += 50 * SLOWEST_TIMES
    assert pulse.feel(2.0, has_begun=True) is None
    clock[0] += 1
    assert pulse.feel(2.0, has_begun=True) is not None


def test_the_time_before_the_first_step_may_be_longer_and_teaches_nothing(
    clock: list[float],
) -> None:
    pulse = Pulse(hang_seconds=60)
    pulse.feel(1.0, has_begun=False)
    clock[0] += 60 * STARTING_TIMES
    assert pulse.feel(1.0, has_begun=False) is None
    assert pulse.feel(2.0, has_begun=False) is None
    clock[0] += 61
    assert pulse.feel(2.0, has_begun=True) == 61


def test_a_clock_of_others_that_jumps_back_is_a_pulse_too(clock: list[float]) -> None:
    pulse = Pulse(hang_seconds=60)
    pulse.feel(1.8e9, has_begun=True)
    clock[0] += 59
    pulse.feel(1.8e9 - 86_400, has_begun=True)
    clock[0] += 59
    assert pulse.feel(1.8e9 - 86_400, has_begun=True) is None


# -- how a process ended --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exit_code", "from_outside", "words"),
    [
        (-signal.SIGKILL, True, "was killed by SIGKILL"),
        (-signal.SIGTERM, True, "was killed by SIGTERM"),
        (-signal.SIGSEGV, False, "was killed by SIGSEGV"),
        (-signal.SIGABRT, False, "was killed by SIGABRT"),
        (3, False, "ended with exit code 3"),
        (0, False, "ended before its run did"),
    ],
)
def test_a_process_that_was_killed_from_outside_is_told_from_one_that_crashed(
    exit_code: int, from_outside: bool, words: str
) -> None:
    assert endings.was_killed_from_outside(exit_code) == from_outside
    assert endings.death(exit_code) == words
    assert endings.crash(exit_code, "Segmentation fault").reason.endswith("Segmentation fault")


def test_what_the_system_ended_for_want_of_memory_is_counted(tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 2\noom_kill 3\n")
    assert endings.oom_kills(events) == 3
    events.write_text("low 0\n")
    assert endings.oom_kills(events) is None
    assert endings.oom_kills(tmp_path / "absent") is None
    assert endings.starved(5_000_000).cause == Cause.OUT_OF_MEMORY


# -- who may write, and what may go ---------------------------------------------------------


def test_the_log_of_a_process_whose_run_was_taken_over_is_not_written(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    old = lab.claim(lab.add(tiny_config()))
    with writing(lab.engine) as connection:
        queue.requeue(connection, old.run_id, old.fence, "frozen", 9)
    for claim, text in ((old, "from the grave\n"), (lab.claim(old.run_id), "alive\n")):
        log = RunLog(lab.engine, claim)
        log.add(text)
        log.flush()
    with reading(lab.engine) as connection:
        assert [chunk.text for chunk in read_log(connection, old.run_id)] == ["alive\n"]


def test_only_checkpoints_that_nobody_needs_are_dropped(tmp_path: Path) -> None:
    names = {
        "step-000000005-2.safetensors": "of an earlier claim, not kept",
        "step-000000010-2.safetensors": "kept",
        "step-000000015-2.safetensors": "of an earlier claim, later than all kept",
        "step-000000008-3.safetensors": "of this claim, older than what is kept",
        "step-000000020-3.safetensors": "kept",
        "step-000000025-3.safetensors": "of this claim: its row is on its way",
        "step-000000030-4.safetensors": "of a later claim",
        ".step-000000007-2.safetensors": "half of one, of an earlier claim",
        ".step-000000025-3.safetensors": "half of one, being written",
        "step-000000004.safetensors": "of the first format",
    }
    for name in names:
        (tmp_path / name).touch()
    drop_superseded(tmp_path, [n for n, what in names.items() if what == "kept"], fence=3)
    left = {path.name for path in tmp_path.iterdir()}
    assert {names[name] for name in names.keys() - left} == {
        "of an earlier claim, not kept",
        "of an earlier claim, later than all kept",
        "of this claim, older than what is kept",
        "half of one, of an earlier claim",
        "of the first format",
    }


def test_a_training_goes_on_while_the_database_is_locked_and_records_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.executors.training.connect", quick_to_give_up)
    lab = Lab.at(tmp_path)
    run_id = lab.add(tiny_config(budget={"epochs": 60}))
    training = threading.Thread(target=lab.train_claimed, args=(run_id,))
    training.start()
    while not lab.run(run_id).step:
        time.sleep(0.01)
    locked = sqlite3.connect(tmp_path / "tricklab.db", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    time.sleep(1.5)
    at_lock = lab.run(run_id).step
    locked.execute("ROLLBACK")
    locked.close()
    training.join()
    run = lab.run(run_id)
    assert (run.status, run.reason) == (Status.FINISHED, "")
    assert at_lock < run.step == run.total_steps
    assert lab.points(run_id, "train_loss").steps.tolist() == list(range(1, 241))


def quick_to_give_up(url: str) -> Engine:
    return connect(url, busy_seconds=0.1)


# -- the disk -------------------------------------------------------------------------------


def test_the_ballast_takes_real_room_and_gives_it_back(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path, ballast_megabytes=3, reserve_megabytes=0)
    ballast = Ballast(lab.settings)
    ballast.take_on()
    stored = ballast.path.stat()
    assert stored.st_size == 3_000_000
    assert stored.st_blocks * 512 >= 3_000_000, "a file with holes would give nothing back"
    ballast.throw_off()
    assert not ballast.path.exists()
    ballast.throw_off()


def test_no_ballast_is_taken_on_where_that_would_use_up_the_reserve(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path, ballast_megabytes=3, reserve_megabytes=10**6)
    Ballast(lab.settings).take_on()
    assert not Ballast(lab.settings).path.exists()
    said = disk.trouble(lab.settings)
    assert said.startswith("the disk is nearly full: ")
    assert said.endswith("runs are started from 1,000,000 MB on")
    assert disk.trouble(lab.settings.model_copy(update={"reserve_megabytes": 0})) == ""


def test_a_run_that_needs_more_room_than_there_is_does_not_begin(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path, reserve_megabytes=10**6)
    run = lab.run(lab.train(tiny_config()))
    assert (run.status, run.cause, run.step) == (Status.PAUSED, "disk full", 0)
    assert "are free in" in run.reason
    assert "lower recording.layer_megabytes" in run.reason
