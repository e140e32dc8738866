"""Clock: where the time of a run goes. Training time is apart from everything else."""

import time

TRAINING = ("data", "copy", "forward", "backward", "optimizer", "recording")
BESIDE = ("evaluation", "probe", "checkpoint", "start")

FOLLOWS = {
    "data": "copying to the device",
    "copy": "forward pass",
    "forward": "backward pass",
    "backward": "optimizer step",
    "optimizer": "recording",
}
"""What a run is about to do when an activity of its step is over; waiting for data, otherwise."""


class Clock:
    """Seconds per activity. On an accelerator these are the host's: work runs on behind them."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((*TRAINING, *BESIDE), 0.0)
        self.last = time.perf_counter()
        self.done = ""
        self.turned_to = "starting"

    def lap(self, activity: str) -> None:
        """The time since the last lap went into this activity."""
        now = time.perf_counter()
        self.seconds[activity] += now - self.last
        self.last = now
        self.done = activity

    def turn_to(self, doing: str) -> None:
        """Leave the steps for something beside them, such as evaluating, until the next lap."""
        self.lap("recording")
        self.done, self.turned_to = "", doing

    @property
    def doing(self) -> str:
        """What is being done now, in words. May be asked from another thread."""
        return FOLLOWS.get(self.done, "waiting for data") if self.done else self.turned_to

    @property
    def seconds_since(self) -> float:
        """How long that has been going on."""
        return time.perf_counter() - self.last

    @property
    def train_seconds(self) -> float:
        """Without evaluation, probing and checkpoints; of all attempts of the run together."""
        # by what it is not: checkpoints of earlier versions name activities of their own
        return sum(s for activity, s in self.seconds.items() if activity not in BESIDE)
