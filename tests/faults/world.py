"""World: a lab with real workers, and the ways to hurt them."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from lab import Lab
from sqlalchemy import select

from app import queue
from app.models import Asked, Status, run_events, runs
from app.settings import ROOT, Settings
from trainer.config import RunConfig
from trainer.store.database import reading, writing

PATIENCE = 120.0
"""Seconds after which something counts as never going to happen; for busy machines."""


def eventually(is_so: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait until the answer is true; the answer. Fails by name when it never is."""
    end = time.monotonic() + seconds
    while not (answer := is_so()):
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)
    return answer


@dataclass
class Hurt:
    """A worker's process, with all that trains under it."""

    process: psutil.Popen
    folder: Path

    def family(self) -> list[psutil.Process]:
        """The worker and everything below it, in whichever process group."""
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def trainers(self) -> list[psutil.Process]:
        """The processes that train: each leads a session of its own."""
        leaders = []
        for process in self.family()[1:]:
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(process.pid) == process.pid:
                    leaders.append(process)
        return leaders

    def send(self, number: signal.Signals) -> None:
        """A signal to the worker and to everything below it."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def stands_still(self) -> bool:
        """Whether every thread has obeyed a SIGSTOP, or is gone."""
        for process in self.family():
            for thread in Path(f"/proc/{process.pid}/task").glob("*/stat"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    # the command in brackets before the state may hold anything
                    state = thread.read_text().rpartition(") ")[2][0]
                    if state not in "TtZX":
                        return False
        return True

    def kill_trainer(self) -> bool:
        """Kill the group of the run in hand; whether there was one."""
        for process in self.trainers():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
                return True
        return False

    def kill(self) -> None:
        """Kill the worker alone: what it started must end by itself."""
        self.process.kill()
        self.process.wait()

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None


@dataclass
class World:
    """A lab in a folder, its workers, and a folder of faults that strike them."""

    lab: Lab
    faults: Path
    chance: random.Random
    hurts: list[Hurt] = field(default_factory=list)

    @classmethod
    def at(cls, folder: Path, seed: int = 0, **settings: Any) -> "World":
        chosen = {
            "access": "off",
            "lease_seconds": 5.0,
            "max_attempts": 50,
            "reserve_megabytes": 1,
            **settings,
        }
        lab = Lab.at(folder / "lab", **{"ballast_megabytes": 0, **chosen})
        lab.forget_worker()
        faults = folder / "faults"
        faults.mkdir()
        return cls(lab, faults, random.Random(seed))

    @property
    def settings(self) -> Settings:
        return self.lab.settings

    def start_worker(self, folder: Path | None = None, **settings: Any) -> Hurt:
        """A worker; in a folder of its own it is to the others as on another machine."""
        chosen = self.settings.model_copy(update=settings)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            shared = self.settings.folder / "runs"
            shared.mkdir(exist_ok=True)
            if not (folder / "runs").exists():
                (folder / "runs").symlink_to(shared)
            url = self.settings.database_url
            chosen = chosen.model_copy(update={"folder": folder, "database": url})
        environment = {
            **os.environ,
            **chosen.as_environment(),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "TRICKLAB_FAILPOINTS": str(self.faults),
        }
        log = (chosen.folder / "worker.log").open("a")
        with log:
            process = psutil.Popen(
                [sys.executable, "-m", "app", "worker", "--device", "cpu"],
                env=environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        hurt = Hurt(process, chosen.folder)
        self.hurts.append(hurt)
        return hurt

    @contextlib.contextmanager
    def working(self, **settings: Any) -> Iterator[Hurt]:
        """A worker inside the block."""
        try:
            yield self.start_worker(**settings)
        finally:
            self.end()

    def end(self) -> None:
        """Kill whatever is left."""
        for hurt in self.hurts:
            family = hurt.family()
            hurt.send(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                hurt.process.wait(10)
            psutil.wait_procs(family, timeout=10)
        self.hurts.clear()

    # -- faults -----------------------------------------------------------------------------

    def lay(self, point: str, action: str = "kill-group", passes: int = 0) -> None:
        """Let a fault strike at the next passing of a point, or some passings later."""
        temporary = self.faults / f".{point}"
        temporary.write_text(f"{action} {passes}")
        temporary.rename(self.faults / point)

    def has_struck(self, point: str) -> bool:
        return (self.faults / f"{point}.struck").exists()

    def clear(self) -> None:
        """Take away every fault that lies or has struck."""
        for file in self.faults.iterdir():
            file.unlink(missing_ok=True)

    # -- runs -------------------------------------------------------------------------------

    def status(self, run_id: int) -> Status:
        return Status(self.lab.run(run_id).status)

    def wait_for(self, run_id: int, *statuses: Status) -> Status:
        eventually(
            lambda: self.status(run_id) in statuses,
            f"run {run_id} becomes {' or '.join(statuses)}, it is {self.lab.run(run_id).reason!r}",
        )
        return self.status(run_id)

    def wait_for_step(self, run_id: int, step: int) -> None:
        eventually(lambda: self.lab.run(run_id).step >= step, f"run {run_id} reaches step {step}")

    def ask(self, run_id: int, asked: Asked) -> None:
        with writing(self.lab.engine) as connection:
            queue.ask(connection, run_id, asked)

    def history(self, run_id: int) -> list[str]:
        """When the run changed, how, by whom and why."""
        of_run = select(run_events).where(run_events.c.run_id == run_id)
        with reading(self.lab.engine) as connection:
            events = connection.execute(of_run.order_by(run_events.c.id)).all()
        return [f"{e.at - events[0].at:.1f} s {e.kind} by {e.by}: {e.text}" for e in events]

    def unfinished(self) -> int:
        waiting = runs.c.status.in_([Status.QUEUED, Status.RUNNING])
        with reading(self.lab.engine) as connection:
            return len(connection.execute(select(runs.c.id).where(waiting)).all())

    def add(self, config: RunConfig) -> int:
        return self.lab.add(config)


def problems_of(lab: Lab) -> list[str]:
    """What SQLite finds wrong with the database; nothing, one hopes."""
    with reading(lab.engine) as connection:
        found = connection.exec_driver_sql("PRAGMA integrity_check").all()
        dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    return [str(row[0]) for row in found if row[0] != "ok"] + [str(row) for row in dangling]
