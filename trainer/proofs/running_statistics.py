"""RunningStatistics: what batch norm remembers of small batches, beside that of large ones."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from trainer.config import RunConfig
from trainer.proofs.comparison import error, joined
from trainer.proofs.step import Ground, made_ready, window_of

MOST_WINDOWS = 20
RULES: Mapping[str, Callable[[float, int], float]] = {
    "m": lambda momentum, batches: momentum,
    "m/k": lambda momentum, batches: momentum / batches,
    "1-(1-m)^(1/k)": lambda momentum, batches: float(1 - (1 - momentum) ** (1 / batches)),
}
"""How the momentum for k small batches may follow from m, that of the large batch."""


class Followed(NamedTuple):
    """How well running statistics of small batches follow those of large ones, by one rule."""

    rule: str
    momentum: float
    """Of the first batch norm."""
    mean: float
    """Relative error of all running means, averaged over the windows."""
    variance: float


def follow_statistics(
    config: RunConfig, ground: Ground, sizes: tuple[int, ...]
) -> tuple[Followed, ...]:
    """Show small batches to one copy of the model and large ones to another, and train neither.

    Empty where no layer keeps running statistics with a fixed momentum.
    """
    large = Onlooker(config, ground, lambda momentum: momentum)
    if not large.norms:
        return ()
    windows = max(1, min(MOST_WINDOWS, len(ground.data.train) // sum(sizes)))
    wanted = [large.after((sum(sizes),), number) for number in range(windows)]
    return tuple(
        followed(rule, Onlooker(config, ground, momentum), sizes, wanted)
        for rule, momentum in ((rule, of_rule(rule, len(sizes))) for rule in RULES)
    )


def of_rule(rule: str, batches: int) -> Callable[[float], float]:
    return lambda momentum: RULES[rule](momentum, batches)


def followed(
    rule: str, small: "Onlooker", sizes: tuple[int, ...], wanted: list["Remembered"]
) -> Followed:
    errors = []
    for number, large in enumerate(wanted):
        mine = small.after(sizes, number)
        errors.append((error(mine.mean, large.mean), error(mine.variance, large.variance)))
    means, variances = zip(*errors, strict=True)
    momentum = float(small.norms[0].momentum)
    return Followed(rule, momentum, sum(means) / len(means), sum(variances) / len(variances))


class Remembered(NamedTuple):
    """The running statistics of all batch norms, end to end."""

    mean: torch.Tensor
    variance: torch.Tensor


class Onlooker:
    """A model in training mode that looks at batches and learns nothing from them."""

    def __init__(
        self, config: RunConfig, ground: Ground, momentum: Callable[[float], float]
    ) -> None:
        self.config, self.ground = config, ground
        self.setup = made_ready(config, ground)
        self.setup.place()
        self.setup.start_fresh()
        self.norms: list[Any] = [
            module
            for module in self.setup.model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            and module.momentum is not None
            and module.track_running_stats
        ]
        self.setup.model.eval()
        for norm in self.norms:
            norm.momentum = momentum(norm.momentum)
            # dropout stays off: it would draw other numbers for each
            norm.train()

    @torch.no_grad()
    def after(self, sizes: tuple[int, ...], number: int) -> Remembered:
        """What it remembers after this window too, in batches of these sizes."""
        window = window_of(self.config, self.ground.data, sizes, number * sum(sizes))
        for batch in window:
            self.setup.forward(self.setup, self.setup.ready(batch))
        means = {str(place): norm.running_mean for place, norm in enumerate(self.norms)}
        variances = {str(place): norm.running_var for place, norm in enumerate(self.norms)}
        return Remembered(joined(means, list(means)), joined(variances, list(variances)))
