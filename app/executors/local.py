"""Local executor: a child process per run, forked from a warm server that has torch loaded."""

import codecs
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from app.executors.training import train_claimed
from app.queue import Claim
from app.settings import Settings
from trainer.lifeline import die_with_parent

PRELOADED = ("app.cli", "app.executors.training", "sklearn.datasets")


class LocalExecutor:
    """Starts runs as children of one fork server, warmed up once per worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(PRELOADED))

    def warm_up(self) -> None:
        """Start the fork server and wait until torch is loaded there; takes some two seconds."""
        process = self.context.Process(target=int)
        process.start()
        process.join()

    def start(self, claim: Claim, on_output: Callable[[str], None]) -> "RunProcess":
        return RunProcess(self.context, claim, self.settings, on_output)


class RunProcess:
    """The process that trains one run; what it prints goes to `on_output`, a piece at a time."""

    def __init__(
        self,
        context: multiprocessing.context.ForkServerContext,
        claim: Claim,
        settings: Settings,
        on_output: Callable[[str], None],
    ) -> None:
        reader, writer = context.Pipe(duplex=False)
        self.process = context.Process(
            target=run_in_child, args=(claim, settings, writer), name=f"run-{claim.run_id}"
        )
        self.process.start()
        writer.close()
        self.listener = threading.Thread(
            target=listen, args=(reader, on_output), name=f"log-{claim.run_id}", daemon=True
        )
        self.listener.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; whether it has come."""
        self.process.join(seconds)
        return self.process.exitcode is not None

    def finish_listening(self) -> None:
        """Wait for the last words, which may be underway when the process has ended."""
        self.listener.join(timeout=5)

    def kill(self) -> None:
        """End the process and every loader process it started, at once."""
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    @property
    def death(self) -> str:
        """How it ended, where that was not by itself, as in "killed by SIGKILL"; otherwise ""."""
        code = self.process.exitcode
        if not code:
            return ""
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


def run_in_child(claim: Claim, settings: Settings, output: Connection) -> None:
    """The child's main function."""
    # a group of its own, so that killing it reaches its loader processes too
    os.setsid()
    die_with_parent()
    threading.Thread(target=die_with_worker, name="lifeline", daemon=True).start()
    # the fork server makes itself the way to start processes; each loader would load torch anew
    multiprocessing.set_start_method(None, force=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )
    train_claimed(claim, settings)


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
