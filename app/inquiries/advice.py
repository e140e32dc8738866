"""Advice: what helps where a question found no answer."""

from collections.abc import Mapping

from trainer.failures import Cause

ADVICE: Mapping[str, str] = {
    Cause.REFUSED: "Change what is named, and ask again.",
    Cause.EXCEPTION: "Code of the training raised an error; the log of the worker says where.",
    Cause.OUT_OF_MEMORY: "A smaller batch needs less memory; so does waiting until nothing else "
    "is trained on this device.",
    Cause.HUNG: "Ask for less, such as fewer steps, or raise TRICKLAB_INQUIRY_SECONDS. With 0 "
    "loader processes an error in the data shows itself.",
    Cause.CRASHED: "Native code ended the process; the log of the worker has its last lines.",
    Cause.LOST: "Its process or worker was lost again and again. See whether the machine ends "
    "processes, for want of memory for one; then ask again.",
}


def advice(cause: str) -> str:
    """What helps against a kind of failure; "" where there was none."""
    return ADVICE.get(cause, "")
