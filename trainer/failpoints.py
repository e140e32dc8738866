"""Failpoints: named places where the fault tests make something go wrong. Free when off.

Off unless TRICKLAB_FAILPOINTS names a folder. A fault is a file in it, named like the point, with
an action and how often the point is to be passed before: `kill 2`. It strikes once, in whichever
process gets there first, and is renamed to `<point>.struck`. The file `clock` holds seconds by
which every clock that leases look at is wrong.
"""

import errno
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

FOLDER = os.environ.get("TRICKLAB_FAILPOINTS", "")


def failpoint(name: str) -> None:
    """Pass a named place. Does nothing at all unless faults are wanted."""
    if FOLDER:
        strike(Path(FOLDER) / name)


def wall_clock() -> float:
    """Unix seconds, wrong by as much as a fault test wants."""
    return time.time() + clock_error() if FOLDER else time.time()


def strike(fault: Path) -> None:
    try:
        action, _, passes = fault.read_text().partition(" ")
        if int(passes or 0) > 0:
            fault.write_text(f"{action} {int(passes) - 1}")
            return
        fault.rename(fault.with_suffix(fault.suffix + ".struck"))
    except (OSError, ValueError):
        # none there, being written at this moment, or taken by another process
        return
    ACTIONS[action]()


def clock_error() -> float:
    try:
        return float((Path(FOLDER) / "clock").read_text())
    except (OSError, ValueError):
        return 0.0


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_group() -> None:
    os.killpg(0, signal.SIGKILL)


def freeze() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def hang() -> None:
    while True:
        time.sleep(1)


def crash() -> None:
    os.abort()


def error() -> None:
    raise RuntimeError("an error that a test wanted")


def no_space() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def no_memory() -> None:
    # here, as whoever only opens the database passes failpoints too, and torch takes two seconds
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


ACTIONS: Mapping[str, Callable[[], None]] = {
    "kill": kill,
    "kill-group": kill_group,
    "freeze": freeze,
    "hang": hang,
    "crash": crash,
    "error": error,
    "no-space": no_space,
    "no-memory": no_memory,
}
