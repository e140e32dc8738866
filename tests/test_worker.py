"""The worker: real processes that are stopped, killed and told what to do while they train."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from lab import Lab, tiny_config
from sqlalchemy import select

from app import queue
from app.executors.local import listen
from app.executors.training import train_claimed
from app.models import Asked, Status, workers
from app.settings import ROOT
from trainer.config import RunConfig
from trainer.store.database import reading, writing
from trainer.store.reader import list_checkpoints, read_log

PATIENCE = 90.0


def eventually(is_so: Callable[[], bool], what: str) -> None:
    """Wait until something is so; fails by name when it never comes."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.05)


def command(lab: Lab) -> tuple[list[str], dict[str, str]]:
    arguments = [sys.executable, "-m", "app.cli", "worker", "--device", "cpu"]
    return arguments, {**os.environ, **lab.settings.as_environment(), "OMP_NUM_THREADS": "1"}


@contextmanager
def working(lab: Lab) -> Iterator[psutil.Popen]:
    """A worker inside the block; whatever is left of it is killed at the end."""
    arguments, environment = command(lab)
    with (lab.settings.folder / "worker.log").open("a") as log:
        process = psutil.Popen(arguments, env=environment, cwd=ROOT, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.is_running():
                process.kill()
            process.wait()


def endless(loader_processes: int = 0) -> RunConfig:
    """A config that trains until it is told to end."""
    return tiny_config(
        loader={"batch_size": 36, "workers": loader_processes},
        budget={"epochs": 100_000},
        recording={"checkpoint_seconds": 1},
    )


def status(lab: Lab, run_id: int) -> str:
    return str(lab.run(run_id).status)


def wait_for_status(lab: Lab, run_id: int, wanted: Status) -> None:
    eventually(lambda: status(lab, run_id) == wanted, f"run {run_id} becomes {wanted}")


def wait_for_step(lab: Lab, run_id: int, step: int) -> None:
    eventually(lambda: lab.run(run_id).step >= step, f"run {run_id} reaches step {step}")


def last_checkpoint(lab: Lab, run_id: int) -> int:
    with reading(lab.engine) as connection:
        rows = list_checkpoints(connection, run_id)
    return int(rows[0].step) if rows else 0


def ask(lab: Lab, run_id: int, asked: Asked) -> None:
    with writing(lab.engine) as connection:
        queue.ask(connection, run_id, asked)


def is_dead(process: psutil.Process) -> bool:
    """Whether it runs no more; one that nobody has collected yet is dead too."""
    try:
        return process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


# -- three runs whose worker is killed, and the next one that takes them up -----------------


@dataclass
class Told:
    """What was seen of three runs when their first worker was killed."""

    lab: Lab
    saved_at: int
    children: int
    survivors: int


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Three runs wait; the worker is killed in the middle of the first, after a checkpoint."""
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    lab.add(endless(loader_processes=1))
    lab.add(tiny_config())
    lab.add(tiny_config())
    with working(lab) as process:
        eventually(lambda: last_checkpoint(lab, 1) > 0, "a checkpoint")
        children = process.children(recursive=True)
        process.kill()
        process.wait()
    end = time.monotonic() + 15
    while time.monotonic() < end and not all(map(is_dead, children)):
        time.sleep(0.05)
    survivors = sum(not is_dead(child) for child in children)
    return Told(lab, last_checkpoint(lab, 1), len(children), survivors)


@pytest.fixture(scope="module")
def worker(told: Told) -> Iterator[psutil.Popen]:
    """The next worker, which stays until the end of this file; it takes up the first run again."""
    with working(told.lab) as process:
        # its step may be further than the checkpoint before the new worker has it
        eventually(lambda: told.lab.run(1).attempt == 2, "the first run starts again")
        eventually(lambda: "resumed from" in log_of(told.lab, 1), "it is resumed")
        wait_for_step(told.lab, 1, told.saved_at + 5)
        ask(told.lab, 1, Asked.STOP)
        yield process


@pytest.fixture
def lab(worker: psutil.Popen, told: Told) -> Lab:
    """The lab with its worker, when the three runs are over."""

    def are_over() -> bool:
        return all(Status(status(told.lab, run_id)).is_over for run_id in (1, 2, 3))

    eventually(are_over, "the end of the three runs")
    return told.lab


def test_with_a_killed_worker_all_its_children_die(told: Told) -> None:
    # the fork server, the process of the run, its loader, and what watches over their resources
    assert told.children >= 4
    assert told.survivors == 0


def test_a_worker_killed_while_it_starts_leaves_no_fork_server_loading(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    with working(lab) as process:
        eventually(lambda: bool(fork_servers(process)), "the fork server begins to load")
        (server,) = fork_servers(process)
        process.kill()
        process.wait()
    end = time.monotonic() + 2
    while time.monotonic() < end and not is_dead(server):
        time.sleep(0.02)
    assert is_dead(server)


def fork_servers(worker: psutil.Popen) -> list[psutil.Process]:
    """The worker's fork server, once it has loaded what binds it to the worker."""
    children = [p for p in worker.children() if "forkserver" in " ".join(p.cmdline())]
    return [p for p in children if p.memory_info().rss > 60_000_000]


def test_after_a_kill_the_next_worker_finishes_all_three_runs(lab: Lab) -> None:
    assert [status(lab, run_id) for run_id in (1, 2, 3)] == [Status.FINISHED] * 3
    assert [lab.run(run_id).attempt for run_id in (1, 2, 3)] == [2, 1, 1]
    events = lab.events(1)
    assert [kind for kind, _ in events] == [
        *["queued", "running"] * 2,
        "went on",
        "asked to stop",
        "finished",
    ]
    assert re.fullmatch(r"worker 2 was lost at step \d+; queued again", events[2][1])


def test_a_run_whose_worker_was_killed_has_every_step_once(lab: Lab, told: Told) -> None:
    points = lab.points(1, "train_loss")
    assert points.steps.tolist() == list(range(1, lab.run(1).step + 1))
    assert f"resumed from the checkpoint at step {told.saved_at}" in log_of(lab, 1)


# -- what is asked of a run -----------------------------------------------------------------


def start(lab: Lab, loader_processes: int = 0) -> int:
    """A run that trains until it is told to end, some steps in."""
    run_id = lab.add(endless(loader_processes))
    wait_for_step(lab, run_id, 5)
    assert status(lab, run_id) == Status.RUNNING
    return run_id


def test_a_cancelled_run_ends_soon(lab: Lab) -> None:
    run_id = start(lab)
    asked_at = time.monotonic()
    ask(lab, run_id, Asked.CANCEL)
    wait_for_status(lab, run_id, Status.CANCELLED)
    run = lab.run(run_id)
    assert run.reason == f"cancelled at step {run.step}"
    # it hears within half a second; the rest is a machine with other things to do
    assert time.monotonic() - asked_at < 10


def test_a_paused_run_goes_on_where_it_was_and_a_stopped_one_is_finished(lab: Lab) -> None:
    run_id = start(lab)
    ask(lab, run_id, Asked.PAUSE)
    wait_for_status(lab, run_id, Status.PAUSED)
    paused = lab.run(run_id)
    assert paused.reason == f"paused at step {paused.step}"
    assert last_checkpoint(lab, run_id) == paused.step

    with writing(lab.engine) as connection:
        queue.resume(connection, run_id)
    wait_for_step(lab, run_id, paused.step + 5)
    ask(lab, run_id, Asked.STOP)
    wait_for_status(lab, run_id, Status.FINISHED)
    run = lab.run(run_id)
    assert run.reason == f"stopped at step {run.step}"
    assert run.result["stopped_early"]
    assert run.result["steps"] == run.step
    assert lab.points(run_id, "train_loss").steps.tolist() == list(range(1, run.step + 1))


def test_a_run_whose_process_is_killed_goes_on_from_its_checkpoint(
    lab: Lab, worker: psutil.Popen
) -> None:
    run_id = start(lab, loader_processes=1)
    eventually(lambda: last_checkpoint(lab, run_id) > 0, "a checkpoint")
    (process,) = run_processes(worker)
    loaders = process.children(recursive=True)
    process.kill()
    eventually(lambda: lab.run(run_id).attempt == 2, "the run starts again")
    eventually(lambda: "resumed from" in log_of(lab, run_id), "it is resumed")
    lost = [text for kind, text in lab.events(run_id) if kind == "queued"][1]
    assert re.fullmatch(r"its process was killed by SIGKILL at step \d+; queued again", lost)
    assert loaders
    eventually(lambda: all(map(is_dead, loaders)), "the end of its loader processes")
    ask(lab, run_id, Asked.STOP)
    wait_for_status(lab, run_id, Status.FINISHED)
    steps = lab.points(run_id, "train_loss").steps.tolist()
    assert steps == list(range(1, lab.run(run_id).step + 1))


def test_a_run_that_crashes_fails_with_its_last_words_and_is_not_tried_again(
    lab: Lab, worker: psutil.Popen
) -> None:
    run_id = start(lab)
    eventually(lambda: "epoch 1 of" in log_of(lab, run_id), "a line in the log")
    (process,) = run_processes(worker)
    process.send_signal(signal.SIGSEGV)
    wait_for_status(lab, run_id, Status.FAILED)
    run, last_line = lab.run(run_id), log_of(lab, run_id).splitlines()[-1].strip()
    assert run.cause == "crashed"
    assert run.reason == f"its process was killed by SIGSEGV; its last words: {last_line}"
    assert lab.events(run_id)[-1] == ("failed", run.reason)
    assert run.attempt == 1


def log_of(lab: Lab, run_id: int) -> str:
    with reading(lab.engine) as connection:
        return "".join(chunk.text for chunk in read_log(connection, run_id))


def run_processes(worker: psutil.Popen) -> list[psutil.Process]:
    """Processes under the worker that train: each leads a session of its own."""
    children = worker.children(recursive=True)
    return [child for child in children if os.getsid(child.pid) == child.pid]


def test_a_run_that_cannot_be_trained_fails_with_the_reason_and_the_next_one_starts(
    lab: Lab,
) -> None:
    too_few = {"name": "gradient_accumulation", "steps": 1000}
    refused = lab.add(tiny_config(tricks=(too_few,)))
    elsewhere = lab.add(tiny_config(device="cuda:77"))
    following = lab.add(tiny_config())
    wait_for_status(lab, following, Status.FINISHED)
    run = lab.run(refused)
    assert (run.status, run.cause) == (Status.FAILED, "refused")
    assert run.reason == "tricks.0.steps: an epoch has 4 batches; lower steps or the batch size"
    # another worker may come that has such a device
    assert status(lab, elsewhere) == Status.QUEUED


def test_a_second_worker_on_a_device_is_refused(lab: Lab, worker: psutil.Popen) -> None:
    arguments, environment = command(lab)
    done = subprocess.run(
        arguments, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"tricklab: another worker (process {worker.pid}) works on cpu in "
        f"{lab.settings.folder}; stop it, or choose another device\n"
    )


def test_a_stopped_worker_gives_its_run_back_and_another_goes_on_with_it(
    lab: Lab, worker: psutil.Popen
) -> None:
    # the last of the tests with this worker
    run_id = start(lab)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    given_back = lab.run(run_id)
    why = f"saved at step {given_back.step}; waits to go on"
    assert (given_back.status, given_back.tries, given_back.reason) == ("queued", 0, why)
    assert lab.events(run_id)[-1] == ("queued", why)
    assert last_checkpoint(lab, run_id) == given_back.step
    with reading(lab.engine) as connection:
        own = select(workers.c.ended_at).where(workers.c.process == worker.pid)
        assert connection.execute(own).scalar_one() is not None

    claim = lab.claim(run_id)
    ask(lab, run_id, Asked.STOP)
    train_claimed(claim, lab.settings)
    run = lab.run(run_id)
    assert (run.status, run.attempt) == (Status.FINISHED, 2)
    assert run.step > given_back.step
    assert lab.points(run_id, "train_loss").steps.tolist() == list(range(1, run.step + 1))


def test_a_letter_that_comes_in_two_pieces_is_one_in_the_log() -> None:
    reader, writer = multiprocessing.Pipe(duplex=False)
    told: list[str] = []
    listening = threading.Thread(target=listen, args=(reader, told.append))
    listening.start()
    for piece in (b"snow \xe2\x98", b"\x83 \xff\n"):
        os.write(writer.fileno(), piece)
        time.sleep(0.05)
    writer.close()
    listening.join()
    assert "".join(told) == "snow \N{SNOWMAN} \N{REPLACEMENT CHARACTER}\n"
