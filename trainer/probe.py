"""Probe: looks at layer outputs on a fixed batch, without touching the training."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.hooks import RemovableHandle

from trainer.batch import Batch
from trainer.config import Recording
from trainer.store.writer import LayerOutput

MOST_CHANNELS = 256
MOST_SIDE = 128
"""Larger outputs are kept as their first channels, averaged down to this many pixels a side."""
MOST_FRAMES = 16
"""Longer clips are averaged down in time too; a channel of a clip is kept with no more values than
one of a picture, so its sides are smaller the more frames there are."""


class Place(NamedTuple):
    """Where an output came from: the layer, and which of its calls in one forward pass."""

    layer: str
    call: int

    def __str__(self) -> str:
        return self.layer if self.call == 0 else f"{self.layer}#{self.call + 1}"


Take = Callable[[Place, torch.Tensor], None]


@dataclass(frozen=True)
class Look:
    """What the probe saw at one step: statistics of every layer, and the outputs themselves."""

    step: int
    statistics: Mapping[Place, Mapping[str, float]]
    outputs: tuple[LayerOutput, ...]
    """Only the first of them where all are more than a run may keep: those are over it already."""


class Probe:
    """Runs a fixed batch through the chosen layers at chosen steps.

    Its own forward pass in eval mode, without gradients and with the random generators put
    back: training is the same to the bit whether or not it looks.
    """

    def __init__(self, recording: Recording, layers: Sequence[str], batch: Batch) -> None:
        self.recording = recording
        self.layers = tuple(layers)
        self.batch = batch
        self.input_is_kept = False

    def wants(self, step: int) -> bool:
        """Whether to look after this optimizer step; 0 is before the first."""
        if not self.layers:
            return False
        if self.recording.layer_steps == "log":
            return step & (step - 1) == 0
        return self.recording.layer_steps == "every" and step % self.recording.layers_every == 0

    def wants_end(self) -> bool:
        return bool(self.layers) and self.recording.layer_steps != "never"

    @torch.no_grad()
    def look(self, model: nn.Module, step: int) -> Look:
        """Outputs of the chosen layers for the probe batch, as they are at this step."""
        found: dict[Place, Measured] = {}
        outputs: list[LayerOutput] = []
        room = self.recording.layer_megabytes * 10**6

        def take(place: Place, output: torch.Tensor) -> None:
            nonlocal room
            found[place] = measured(output)
            # made small at once: an in-place operation that follows would overwrite it, and all
            # outputs of a large network on clips do not fit into memory together
            if output.ndim > 1 and room >= 0:
                outputs.append(quantised(place, step, output))
                room -= outputs[-1].levels.nbytes

        with untouched(model), capturing(model, self.layers, take):
            model(self.batch.inputs)
        if not self.input_is_kept:
            outputs.append(quantised(Place("", 0), step, self.batch.inputs, "input"))
            self.input_is_kept = True
        return Look(step, read_back(found), tuple(outputs))


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; every module's own mode and all generators as before, after."""
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng():
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


@contextmanager
def capturing(model: nn.Module, layers: Sequence[str], take: Take) -> Iterator[None]:
    """Have `take` called with what these layers give in forward passes inside the block.

    It is called before anything else sees the output, which may be overwritten afterwards.
    """
    handles: list[RemovableHandle] = []
    modules = dict(model.named_modules())

    def hook_for(layer: str) -> object:
        calls = 0

        def hook(module: nn.Module, inputs: object, output: object) -> None:
            nonlocal calls
            if isinstance(output, torch.Tensor):
                take(Place(layer, calls), output.detach())
            calls += 1

        return hook

    try:
        for layer in layers:
            handles.append(modules[layer].register_forward_hook(hook_for(layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()


STATISTICS = ("mean", "spread", "lowest", "highest", "zeros", "dead")


class Measured(NamedTuple):
    """What is measured of one output where it lies; what follows from it waits for all others.

    A layer has a handful of numbers: worked out one by one on the device they took as long as
    finding them.
    """

    low: torch.Tensor
    """Of each channel, (C,) float32."""
    high: torch.Tensor
    mean: torch.Tensor
    spread: torch.Tensor
    filled: torch.Tensor
    """How many values are not zero, int32 or int64."""
    values: int


def measured(output: torch.Tensor) -> Measured:
    """Extremes, mean, spread and zeros of an output (N, C, …); what has no channels is one."""
    values = output.float()
    others = [axis for axis in range(values.ndim) if axis != 1]
    low, high = values.amin(others), values.amax(others)
    mean = values.mean()
    # on the CPU twice as fast as std() and as == 0, which no vector instructions serve
    spread = (values - mean).square_().mean().sqrt()
    # a third of the time of a sum of 64-bit numbers
    counted = torch.int32 if values.numel() < 2**31 else torch.int64
    filled = values.bool().sum(dtype=counted)
    return Measured(low.reshape(-1), high.reshape(-1), mean, spread, filled, values.numel())


def read_back(found: Mapping[Place, Measured]) -> dict[Place, dict[str, float]]:
    """The statistics of every output by name: STATISTICS; a few read-backs for all of them.

    A channel is dead when all it gives is zero.
    """
    if not found:
        return {}
    of_all = list(found.values())
    sizes = [len(one.low) for one in of_all]
    lows, highs = (
        torch.split(torch.cat([getattr(one, name) for one in of_all]).cpu(), sizes)
        for name in ("low", "high")
    )
    means, spreads, filled = (
        torch.stack([getattr(one, name) for one in of_all]).tolist()
        for name in ("mean", "spread", "filled")
    )
    rows = []
    for place, one in enumerate(of_all):
        low, high = lows[place].numpy(), highs[place].numpy()
        dead = ((low == 0) & (high == 0)).mean()
        zeros = 1 - filled[place] / one.values
        extremes = float(low.min()), float(high.max())
        rows.append((means[place], spreads[place], *extremes, zeros, float(dead)))
    return {
        place: dict(zip(STATISTICS, row, strict=True))
        for place, row in zip(found, rows, strict=True)
    }


def quantised(place: Place, step: int, output: torch.Tensor, view: str = "channels") -> LayerOutput:
    """An output (N, C, …) as bytes between its lowest and highest finite value."""
    values = small_enough(output.float())
    low, high, are_finite = extremes(values)
    # into memory of its own: what was not made small is the output itself
    scaled = values - low
    # the smallest spans have no inverse
    scaled = scaled.div_(high - low).mul_(255) if high > low else scaled.zero_()
    if not are_finite:
        scaled = scaled.nan_to_num(0, 255, 0)
    return LayerOutput(
        layer=place.layer,
        call=place.call,
        step=step,
        full_shape=tuple(output.shape),
        dtype=str(output.dtype).removeprefix("torch."),
        low=low,
        high=high,
        levels=scaled.round_().clamp_(0, 255).to(torch.uint8).cpu().numpy(),
        view=view,
    )


def extremes(values: torch.Tensor) -> tuple[float, float, bool]:
    """The lowest and the highest finite value, zeros where there is none; and if all are finite."""
    if not values.numel():
        return 0.0, 0.0, True
    low, high = torch.stack([values.amin(), values.amax()]).tolist()
    if math.isfinite(low) and math.isfinite(high):
        return low, high, True
    finite = values[values.isfinite()]
    if not finite.numel():
        return 0.0, 0.0, False
    return float(finite.min()), float(finite.max()), False


def small_enough(values: torch.Tensor) -> torch.Tensor:
    """(N, C, …) with at most so many channels, and pictures and clips of at most so many pixels."""
    values = values[:, :MOST_CHANNELS]
    if values.ndim == 4 and max(values.shape[2:]) > MOST_SIDE:
        height, width = (min(size, MOST_SIDE) for size in values.shape[2:])
        return F.adaptive_avg_pool2d(values, (height, width))
    if values.ndim == 5:
        frames, height, width = values.shape[2:]
        frames = min(frames, MOST_FRAMES)
        side = math.isqrt(MOST_SIDE**2 // frames)
        size = (frames, min(height, side), min(width, side))
        if size != values.shape[2:]:
            return F.adaptive_avg_pool3d(values, size)
    return values
