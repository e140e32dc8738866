"""Local executor: a child process per run, forked from a warm server that has torch loaded."""

import codecs
import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from app.executors import fork_server
from app.executors.training import heed_termination
from app.settings import Settings
from trainer.lifeline import die_with_parent
from trainer.streams import start_generators_anew

Work = Callable[[Any, Settings], None]
"""What a process does with its claim: an importable function."""

STATES = threading.Lock()
"""Held where multiprocessing looks how a child ended, as it does of all when one is started: of two
threads that look at once, one reads the end and the other finds nothing, which counts as 255."""


class LocalExecutor:
    """Starts work as children of one fork server, warmed up once per worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.context = fork_server.context()

    def warm_up(self) -> None:
        """Start the fork server and wait until torch is loaded there; takes some two seconds."""
        process = self.context.Process(target=int)
        process.start()
        process.join()

    def start(
        self,
        work: Work,
        claim: Any,
        name: str,
        on_output: Callable[[str], None],
    ) -> "ChildProcess":
        """Have a claim worked on in a process of its own."""
        return ChildProcess(self.context, work, claim, self.settings, name, on_output)


class ChildProcess:
    """The process that works on one claim; what it prints goes to `on_output`, piece by piece."""

    def __init__(
        self,
        context: multiprocessing.context.ForkServerContext,
        work: Work,
        claim: Any,
        settings: Settings,
        name: str,
        on_output: Callable[[str], None],
    ) -> None:
        reader, writer = context.Pipe(duplex=False)
        self.process = context.Process(
            target=run_in_child, args=(work, claim, settings, writer), name=name
        )
        with STATES:
            self.process.start()
        writer.close()
        self.listener = threading.Thread(
            target=listen, args=(reader, on_output), name=f"log-{name}", daemon=True
        )
        self.listener.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; whether it has come."""
        multiprocessing.connection.wait([self.process.sentinel], seconds)
        return self.exit_code is not None

    def finish_listening(self) -> None:
        """Wait for the last words, which may be underway when the process has ended."""
        self.listener.join(timeout=5)

    def terminate(self) -> None:
        """Interrupt it, so that it can still conclude itself."""
        self.send(os.kill, signal.SIGTERM)

    def kill(self) -> None:
        """End the process and every loader process it started, at once.

        When it has ended already this ends what it left behind.
        """
        self.send(os.killpg, signal.SIGKILL)

    def send(self, how: Callable[[int, int], None], number: signal.Signals) -> None:
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            how(self.process.pid, number)

    @property
    def name(self) -> str:
        return self.process.name

    def memory_bytes(self) -> int:
        """What it has in memory now; 0 when it is gone."""
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    @property
    def exit_code(self) -> int | None:
        """As of multiprocessing: minus the signal's number where one killed it."""
        with STATES:
            return self.process.exitcode


def run_in_child(work: Work, claim: Any, settings: Settings, output: Connection) -> None:
    """The child's main function."""
    # a group of its own, so that killing it reaches its loader processes too
    os.setsid()
    die_with_parent()
    be_first_to_go()
    threading.Thread(target=die_with_worker, name="lifeline", daemon=True).start()
    # the fork server makes itself the way to start processes; each loader would load torch anew
    multiprocessing.set_start_method(None, force=True)
    start_generators_anew()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    heed_termination()
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )
    work(claim, settings)


def be_first_to_go() -> None:
    """Where memory runs out, let the system end this run and not the worker or somebody else."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def die_with_worker() -> None:
    """Wait for the death of the worker, then end this process and its loaders.

    To the kernel the parent is the fork server, which stays as long as one of its children does.
    """
    worker = multiprocessing.parent_process()
    assert worker is not None
    worker.join()
    os.killpg(0, signal.SIGKILL)


def listen(reader: Connection, on_output: Callable[[str], None]) -> None:
    """Pass on what the child prints until it has closed its end."""
    # a letter of several bytes may come in two pieces
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    while piece := os.read(reader.fileno(), 1 << 16):
        on_output(decoder.decode(piece))
    reader.close()
