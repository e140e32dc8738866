"""Failure: what went wrong with a run, named, with what helps to mend it."""

import errno
import math
import sqlite3
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from sqlalchemy.exc import DBAPIError

from trainer.layouts import explanation_of
from trainer.part import Refused

LONGEST_TRACEBACK = 40_000
ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = (Path(sys.prefix), Path(sys.base_prefix))


class Cause(StrEnum):
    """The kinds of failure. What the machine did is retried; what the config did is not."""

    REFUSED = "refused"
    EXCEPTION = "exception"
    OUT_OF_MEMORY = "out of memory"
    DIVERGED = "diverged"
    HUNG = "hung"
    DISK_FULL = "disk full"
    CRASHED = "crashed"
    LOST = "lost"

    @property
    def advice(self) -> str:
        return ADVICE[self]


ADVICE = {
    Cause.REFUSED: "The config cannot be carried out here. Clone the run and change what is named.",
    Cause.EXCEPTION: "Code of the training raised an error. The frame nearest to your own code "
    "comes first below.",
    Cause.OUT_OF_MEMORY: "A smaller batch needs less memory. With gradient accumulation the "
    "optimizer still sees as many examples per step.",
    Cause.DIVERGED: "Mostly the learning rate is too high: try a third of it, or a longer "
    "warm-up. Clone the run to change it.",
    Cause.HUNG: "Nothing moved for a long time. With 0 loader processes an error in the data "
    "shows itself; a slow step needs a higher TRICKLAB_HANG_SECONDS.",
    Cause.DISK_FULL: "Free some space, under Settings for one, then resume: the run goes on from "
    "its last checkpoint.",
    Cause.CRASHED: "Native code ended the process. The last lines of the log may tell where; "
    "retrying goes on from the last checkpoint.",
    Cause.LOST: "Its process or worker was lost again and again without getting further. See "
    "whether the machine ends processes, for want of memory for one; then retry.",
}


@dataclass(frozen=True)
class Failure:
    """A named failure: one sentence for people, and details as JSON for pages and programs."""

    cause: Cause
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


class Diverged(Exception):
    """The training loss is no longer a finite number."""

    def __init__(self, step: int, loss: float, last_finite: Mapping[str, float] | None) -> None:
        self.step, self.loss, self.last_finite = step, loss, last_finite
        before = ""
        if last_finite:
            before = f"; at step {last_finite['step']:g} it was {last_finite['train_loss']:.4g}"
        became = "NaN" if math.isnan(loss) else "infinite"
        super().__init__(f"the training loss became {became} at step {step}{before}")


class DiskShort(Exception):
    """There is not enough room for what a run is going to write."""


def failure_of(error: BaseException, facts: Mapping[str, Any]) -> Failure:
    """Name what was raised. `facts` are known of the run: step, peak_memory_bytes, …"""
    if isinstance(error, Refused):
        return Failure(Cause.REFUSED, one_line(error))
    if isinstance(error, Diverged):
        details = {"step": error.step, "loss": error.loss, "last_finite": error.last_finite}
        return Failure(Cause.DIVERGED, one_line(error), details)
    if is_out_of_memory(error):
        peak = facts.get("peak_memory_bytes", 0) / 1e6
        reason = f"out of memory: the process had taken {peak:,.0f} MB at its peak"
        return Failure(Cause.OUT_OF_MEMORY, reason, {**facts, **told(error)})
    if isinstance(error, DiskShort):
        return Failure(Cause.DISK_FULL, one_line(error), facts)
    if is_disk_full(error):
        reason = "the disk is full; the run can go on from its last checkpoint"
        return Failure(Cause.DISK_FULL, reason, {**facts, "said": one_line(error)})
    text = one_line(error)
    kind = type(error).__name__
    return Failure(Cause.EXCEPTION, f"{kind}: {text}" if text else kind, {**facts, **told(error)})


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # the CPU's allocator has no error of its own
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def is_disk_full(error: BaseException) -> bool:
    if isinstance(error, DBAPIError) and error.orig is not None:
        return is_disk_full(error.orig)
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # PostgreSQL's disk_full
    return getattr(error, "sqlstate", "") == "53100"


def told(error: BaseException) -> dict[str, Any]:
    """The error's type, its traceback, and its frames, those of the person's own code first.

    Where more is known of the error than it says, an explanation too.
    """
    text = "".join(traceback.format_exception(error))
    explanation = explanation_of(error)
    return {
        **({"explanation": explanation} if explanation else {}),
        "type": type(error).__name__,
        "message": str(error)[:4000],
        "frames": sorted(frames_of(error), key=lambda frame: WHOSE.index(frame["whose"])),
        "traceback": text[-LONGEST_TRACEBACK:],
    }


WHOSE = ("yours", "Tricklab's", "a library's")


def frames_of(error: BaseException) -> Iterator[dict[str, Any]]:
    """Every frame of a traceback, the innermost first."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        yield {
            "file": frame.filename,
            "line": frame.lineno,
            "function": frame.name,
            "code": frame.line or "",
            "whose": whose(frame.filename),
        }


def whose(file: str) -> str:
    """Whose code a file holds: a library's, Tricklab's own, or that of whoever uses it."""
    path = Path(file)
    if "site-packages" in path.parts or not path.is_absolute():
        return "a library's"
    if path.is_relative_to(ROOT / "trainer") or path.is_relative_to(ROOT / "app"):
        return "Tricklab's"
    if any(path.is_relative_to(folder / "lib") for folder in LIBRARIES):
        return "a library's"
    return "yours"


def one_line(error: BaseException) -> str:
    if isinstance(error, DBAPIError) and error.orig is not None:
        # without the statement and its values, which may be long
        error = error.orig
    return " ".join(str(error).split())[:1000]
