"""FailureBlock: what went wrong with a run, as its page tells it, with what can be done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from app.models import Status
from trainer.config import RunConfig
from trainer.failures import Cause
from trainer.lighter import lighter
from trainer.part import Refused
from trainer.tricks import GradientAccumulation

Frame = Mapping[str, Any]

TITLES: Mapping[str, str] = {
    Cause.REFUSED: "Refused",
    Cause.EXCEPTION: "An error in the code",
    Cause.OUT_OF_MEMORY: "Out of memory",
    Cause.DIVERGED: "Diverged",
    Cause.HUNG: "Hung",
    Cause.DISK_FULL: "Disk full",
    Cause.CRASHED: "Crashed",
    Cause.LOST: "Lost again and again",
}
FRAMES_SHOWN = 3
"""Frames that stand in the open; the others are folded away with the traceback."""


@dataclass(frozen=True)
class FailureBlock:
    """One failure in words. Its actions depend on its cause; see templates/run/failure.html."""

    cause: str
    title: str
    sentence: str
    advice: str
    frames: Sequence[Frame]
    more_frames: Sequence[Frame]
    traceback: str
    moments: Sequence[Mapping[str, Any]]
    """The last finite values of a run that diverged, and what came after."""
    offer: str
    """What a retry in less memory would change; empty where none is possible."""
    no_offer: str
    """Why none is."""


def failure_block(run: Mapping[str, Any]) -> FailureBlock | None:
    """What to tell of a run that failed or lacks disk space; None where nothing went wrong."""
    cause = run["cause"]
    if run["status"] != Status.FAILED and not cause:
        return None
    details = run["failure"] or {}
    shown, folded = split_frames(details.get("frames", ()), cause)
    offer, no_offer = lighter_offer(run["config"]) if cause == Cause.OUT_OF_MEMORY else ("", "")
    return FailureBlock(
        cause=cause,
        title=TITLES.get(cause, "Failed"),
        sentence=sentence(run["reason"], cause),
        advice=details.get("explanation") or run["advice"],
        frames=shown,
        more_frames=folded,
        traceback=details.get("traceback", ""),
        moments=moments(details) if cause == Cause.DIVERGED else (),
        offer=offer,
        no_offer=no_offer,
    )


def sentence(reason: str, cause: str) -> str:
    """The reason as a sentence of its own: the title has named the cause already."""
    said = reason.removeprefix(f"{cause}: ") if cause else reason
    # the names of errors and fields keep their small letters
    starts_with_a_word = said.partition(" ")[0].isalpha()
    return said[:1].upper() + said[1:] if starts_with_a_word else said


def split_frames(frames: Sequence[Frame], cause: str) -> tuple[Sequence[Frame], Sequence[Frame]]:
    """Those of the person's own code, and all others; of an error at least the nearest one."""
    own = sum(frame["whose"] == "yours" for frame in frames)
    shown = min(own or (cause == Cause.EXCEPTION), FRAMES_SHOWN)
    return frames[:shown], frames[shown:]


def moments(details: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    diverged = {"title": "Diverged", "step": details.get("step"), "train_loss": details.get("loss")}
    last = details.get("last_finite")
    return ([{"title": "Last finite", **last}] if last else []) + [diverged]


def lighter_offer(config: Mapping[str, Any]) -> tuple[str, str]:
    """What half the batch and twice the accumulation are in figures, or why they cannot be."""
    try:
        old = RunConfig.model_validate(config)
        new = lighter(old)
    except (Refused, ValidationError) as error:
        return "", str(error)
    sizes = f"batch {old.loader.batch_size} → {new.loader.batch_size}"
    return f"{sizes}, accumulation {accumulation(old)} → {accumulation(new)}", ""


def accumulation(config: RunConfig) -> int:
    """How many batches are added up for one optimizer step."""
    return next((t.steps for t in config.tricks if isinstance(t, GradientAccumulation)), 1)
