"""Answer: runs one task of a peer and says what it measured, as a line of JSON."""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

Task = Callable[..., dict[str, Any]]


def answer(package: str, **tasks: Task) -> None:
    """Do the task named on the command line with its arguments, and print what came of it."""
    name, arguments = sys.argv[1], json.loads(sys.argv[2])
    out = os.dup(1)
    # what a tool prints is not its answer
    os.dup2(2, 1)
    facts = tasks[name](**arguments)
    with os.fdopen(out, "w") as file:
        file.write(json.dumps({"version": version(package), "facts": facts}) + "\n")


def recorded(points: int, record: Callable[[int, float], object], close: Task) -> dict[str, Any]:
    """Record so many points one by one; what that took."""
    # what the tool has put there before the first value
    before = size_of(Path.cwd())
    began, cpu = time.perf_counter(), time.thread_time()
    for step in range(points):
        record(step, 1.0 / (step + 1))
    calling = time.thread_time() - cpu
    close()
    seconds = time.perf_counter() - began
    return {
        "points": points,
        "seconds": seconds,
        "calling_seconds": calling,
        "bytes": size_of(Path.cwd()) - before,
    }


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
