"""Serving: a peer's own server in a process of its own, asked over HTTP."""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 120.0
SCRIPTS = Path(sys.executable).parent
"""Where the commands of an environment lie."""


@contextmanager
def served(command: Sequence[str], ready: str = "/") -> Iterator[str]:
    """A server started by a command in which PORT stands for a free port; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    words = [str(SCRIPTS / command[0]), *(word.replace("PORT", port) for word in command[1:])]
    # a group of its own: some start processes that outlive them
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: is_up(address + ready) or process.poll() is not None)
        assert process.poll() is None, f"{command[0]} ended at once"
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_up(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def wait_for(happened: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"nothing came of it in {PATIENCE:.0f} s"
        time.sleep(0.05)


def fetch(address: str, content: Any = None) -> bytes:
    """The answer to a GET, or to a POST where there is something to send."""
    body = None if content is None else json.dumps(content).encode()
    asked = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
        return bytes(answer.read())


def milliseconds(ask: Callable[[], object], times: int) -> float:
    """The median of so many answers, after a first one; fewer where each takes long."""
    began = time.perf_counter()
    ask()
    first = time.perf_counter() - began
    taken = []
    for _ in range(max(1, min(times, round(20 / max(first, 1e-3))))):
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)
