"""Lighter: the same training in less memory."""

from trainer.config import RunConfig
from trainer.part import Refused
from trainer.tricks import GradientAccumulation

MOST_STEPS = 1024


def lighter(config: RunConfig) -> RunConfig:
    """Half the batch (rounded up) and twice the accumulation: as many examples per step.

    Refused where a batch is one example already, or the accumulation at its highest.
    """
    size = config.loader.batch_size
    if size == 1:
        raise Refused("a batch is one example already; choose a smaller network or inputs")
    old = next((t for t in config.tricks if isinstance(t, GradientAccumulation)), None)
    steps = 2 * old.steps if old else 2
    if steps > MOST_STEPS:
        raise Refused(f"gradients are added up over {old.steps if old else 1} batches already")
    # what emulates a larger batch keeps the rate that was tuned for it
    new = (old or GradientAccumulation()).model_copy(update={"steps": steps})
    others = tuple(trick for trick in config.tricks if trick is not old)
    changes = {
        "loader": config.loader.model_copy(update={"batch_size": -(-size // 2)}),
        "tricks": (*others, new),
    }
    return RunConfig.model_validate(config.model_copy(update=changes).model_dump())
