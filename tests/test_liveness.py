"""Liveness: who counts as alive, whatever the clocks say, and what becomes of the others' runs."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, tiny_config
from sqlalchemy import Row, insert, select, update

from app import queue
from app.devices import DeviceLock
from app.liveness import Liveness
from app.locks import Occupied, ProcessLock, is_held
from app.models import Status, workers
from app.presence import Presence, lock_path
from app.queue import ClaimLost
from trainer.part import Refused
from trainer.store.database import reading, writing

DAY = 86_400.0
LEASE = 0.5
"""Short, so that a test can wait for its end; the second look takes two fifths of it."""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.at(tmp_path, lease_seconds=LEASE)


HOLDING = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A lock held by another process, which is killed at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.kill()


def worker_with(lab: Lab, token: str, seen_at: float) -> int:
    with writing(lab.engine) as connection:
        result = connection.execute(
            insert(workers).values(
                token=token, host="x", process=1, device="cpu", started_at=0.0, seen_at=seen_at
            )
        )
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def claimed_by(lab: Lab, worker_id: int) -> queue.Claim:
    run_id = lab.add(tiny_config())
    with writing(lab.engine) as connection:
        claim = queue.claim(connection, worker_id, run_id)
    assert claim is not None
    return claim


def seen(lab: Lab, worker_id: int, seconds_ago: float) -> None:
    with writing(lab.engine) as connection:
        own = update(workers).where(workers.c.id == worker_id)
        connection.execute(own.values(seen_at=time.time() - seconds_ago))


def row(lab: Lab, worker_id: int) -> Row[Any]:
    with reading(lab.engine) as connection:
        return connection.execute(select(workers).where(workers.c.id == worker_id)).one()


def eventually(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


# -- locks ----------------------------------------------------------------------------------


def test_a_lock_is_free_as_soon_as_its_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.lock"
    assert not is_held(path)
    with held_elsewhere(path) as holder:
        assert is_held(path)
        with pytest.raises(Occupied):
            ProcessLock(path).__enter__()
        holder.kill()
        holder.wait()
        assert not is_held(path)


def test_asking_after_a_lock_of_ones_own_does_not_lose_it(tmp_path: Path) -> None:
    # POSIX frees a lock when its process closes the file anywhere
    path = tmp_path / "a.lock"
    asking = "import sys; from pathlib import Path; from app.locks import is_held; "
    asking += "print(is_held(Path(sys.argv[1])))"
    with ProcessLock(path, "me"):
        assert is_held(path)
        with pytest.raises(Occupied, match="this process"):
            ProcessLock(path).__enter__()
        answer = subprocess.run(
            [sys.executable, "-c", asking, str(path)], capture_output=True, text=True, check=True
        )
        assert answer.stdout == "True\n"
    assert not is_held(path)


def test_a_devices_lock_is_for_one_process_and_names_its_holder(tmp_path: Path) -> None:
    with DeviceLock(tmp_path, "cpu") as lock:
        path = lock.lock.path
        assert path.read_text() == str(os.getpid())
    with held_elsewhere(path):
        assert not lock.is_free()
        assert DeviceLock(tmp_path, "cuda:0").is_free()
        with pytest.raises(Refused, match=r"another worker .* works on cpu in .*; stop it, or"):
            lock.__enter__()
    assert lock.is_free()


# -- signs of life --------------------------------------------------------------------------


def test_a_presence_gives_signs_while_it_lasts_and_leaves_no_lock(lab: Lab) -> None:
    with Presence(lab.engine, lab.settings, "cpu") as here:
        first = row(lab, here.worker_id)
        assert (first.process, first.device, first.ended_at) == (os.getpid(), "cpu", None)
        assert is_held(lock_path(lab.settings.folder, first.token))
        eventually(lambda: row(lab, here.worker_id).seen_at > first.seen_at)
    assert row(lab, here.worker_id).ended_at is not None
    assert not lock_path(lab.settings.folder, first.token).exists()


def test_a_worker_that_was_taken_for_lost_learns_of_it(lab: Lab) -> None:
    with Presence(lab.engine, lab.settings, "cpu") as here:
        assert not here.is_disowned
        with writing(lab.engine) as connection:
            own = update(workers).where(workers.c.id == here.worker_id)
            connection.execute(own.values(ended_at=time.time()))
        eventually(lambda: here.is_disowned)


# -- who is lost ----------------------------------------------------------------------------


def test_a_killed_worker_of_this_folder_is_lost_at_once_whatever_the_clock_says(lab: Lab) -> None:
    token = "0" * 32
    with held_elsewhere(lock_path(lab.settings.folder, token)) as holder:
        worker_id = worker_with(lab, token, time.time() + DAY)
        claim = claimed_by(lab, worker_id)
        liveness = Liveness(lab.engine, lab.settings)
        assert liveness.look() == []
        holder.kill()
        holder.wait()
        assert liveness.look() == [claim.run_id]
    run = lab.run(claim.run_id)
    assert run.status == Status.QUEUED
    assert run.reason == f"worker {worker_id} was lost at step 0; queued again"
    assert row(lab, worker_id).trouble == "was lost"
    assert not lock_path(lab.settings.folder, token).exists()
    with pytest.raises(ClaimLost), writing(lab.engine) as connection:
        queue.report(connection, claim, step=1)


def test_a_silent_worker_elsewhere_is_lost_after_its_lease_and_a_second_look(lab: Lab) -> None:
    worker_id = worker_with(lab, "of another machine", time.time())
    claim = claimed_by(lab, worker_id)
    liveness = Liveness(lab.engine, lab.settings)
    seen(lab, worker_id, LEASE - 0.3)
    assert liveness.look() == []
    seen(lab, worker_id, LEASE + 1)
    assert liveness.look() == [], "it may be the clock that moved"
    time.sleep(LEASE / 2)
    assert liveness.look() == [claim.run_id]
    assert liveness.look() == []


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_clock_that_jumps_makes_no_living_worker_lose_its_run(
    lab: Lab, jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    monkeypatch.setattr("trainer.failpoints.FOLDER", str(faults))
    with Presence(lab.engine, lab.settings, "cpu") as here:
        claim = claimed_by(lab, here.worker_id)
        liveness = Liveness(lab.engine, lab.settings)
        (faults / "clock").write_text(str(jump))
        end = time.monotonic() + 3 * LEASE
        while time.monotonic() < end:
            assert liveness.look() == []
            time.sleep(0.02)
        assert abs(row(lab, here.worker_id).seen_at - time.time() - jump) < 10, "signs go on"
        assert lab.run(claim.run_id).status == Status.RUNNING


def test_a_worker_that_was_silent_when_the_clock_was_put_back_is_found_all_the_same(
    lab: Lab,
) -> None:
    worker_id = worker_with(lab, "of another machine", time.time() + DAY)
    claim = claimed_by(lab, worker_id)
    liveness = Liveness(lab.engine, lab.settings)
    assert liveness.look() == []
    time.sleep(LEASE / 2)
    assert liveness.look() == [claim.run_id]


def test_a_run_whose_workers_row_has_ended_is_given_back(lab: Lab) -> None:
    claim = lab.claim(lab.add(tiny_config()))
    with writing(lab.engine) as connection:
        own = update(workers).where(workers.c.id == lab.worker_id)
        connection.execute(own.values(ended_at=time.time()))
    assert Liveness(lab.engine, lab.settings).look() == [claim.run_id]


def test_a_worker_that_can_look_does_not_take_itself_for_lost(lab: Lab) -> None:
    worker_id = worker_with(lab, "of another machine", time.time() - DAY)
    claim = claimed_by(lab, worker_id)
    own = Liveness(lab.engine, lab.settings, row(lab, worker_id).token)
    others = Liveness(lab.engine, lab.settings)
    assert own.look() == others.look() == []
    time.sleep(LEASE / 2)
    assert own.look() == []
    assert others.look() == [claim.run_id]
