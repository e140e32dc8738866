"""Endings: what it means that the process of a run ended, or had to be ended, without a word."""

import signal
from collections.abc import Mapping
from pathlib import Path

from trainer.failures import Cause, Failure

BY_THE_MACHINE = {
    signal.SIGKILL,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
}
"""Signals that come from outside: the run is not to blame and is tried again."""

COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


def was_killed_from_outside(exit_code: int | None) -> bool:
    return exit_code is not None and exit_code < 0 and -exit_code in BY_THE_MACHINE


def death(exit_code: int | None) -> str:
    """How a process ended, in words."""
    if exit_code is not None and exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}" if exit_code else "ended before its run did"


def crash(exit_code: int | None, last_words: str) -> Failure:
    words = f"; its last words: {last_words[:300]}" if last_words else ""
    return Failure(
        Cause.CRASHED, f"its process {death(exit_code)}{words}", {"exit_code": exit_code}
    )


def starved(peak_bytes: int) -> Failure:
    """The system ended it because memory had run out."""
    reason = (
        "out of memory: the machine had none left and ended the process, which was at "
        f"{peak_bytes / 1e6:,.0f} MB"
    )
    return Failure(Cause.OUT_OF_MEMORY, reason, {"peak_memory_bytes": peak_bytes})


def hang(seconds: float, step: int, activity: str) -> Failure:
    reason = f"hung: nothing moved for {seconds:.0f} s at step {step}, while it was {activity}"
    return Failure(Cause.HUNG, reason, {"step": step, "seconds": seconds, "activity": activity})


def memory_kills() -> Mapping[Path, int]:
    """How many processes the system has ended for want of memory, by each counter there is."""
    return {path: count for path in COUNTERS if (count := oom_kills(path)) is not None}


def oom_kills(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    counts = dict(line.split() for line in lines if len(line.split()) == 2)
    return int(counts["oom_kill"]) if "oom_kill" in counts else None
