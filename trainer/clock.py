"""Clock: where the time of a run goes. Training time is apart from everything else."""

import time

TRAINING = ("data", "forward_backward", "optimizer", "recording")
BESIDE = ("evaluation", "probe", "checkpoint", "start")


class Clock:
    """Seconds per activity. On an accelerator these are the host's: work runs on behind them."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((*TRAINING, *BESIDE), 0.0)
        self.last = time.perf_counter()

    def lap(self, activity: str) -> None:
        """The time since the last lap went into this activity."""
        now = time.perf_counter()
        self.seconds[activity] += now - self.last
        self.last = now

    @property
    def train_seconds(self) -> float:
        """Without evaluation, probing and checkpoints; of all attempts of the run together."""
        return sum(self.seconds[activity] for activity in TRAINING)
