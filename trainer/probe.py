"""Probe: looks at layer outputs on a fixed batch, without touching the training."""

import math
import zlib
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
        found: dict[Place, torch.Tensor] = {}
        outputs: list[LayerOutput] = []
        room = self.recording.layer_megabytes * 10**6

        def take(place: Place, output: torch.Tensor) -> None:
            nonlocal room
            found[place] = statistics(output)
            # made small at once: an in-place operation that follows would overwrite it, and all
            # outputs of a large network on clips do not fit into memory together
            if output.ndim > 1 and room >= 0:
                outputs.append(quantised(place, step, output))
                room -= len(outputs[-1].payload)

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


def read_back(found: Mapping[Place, torch.Tensor]) -> dict[Place, dict[str, float]]:
    """The statistics of every output by name; one read-back for all of them."""
    if not found:
        return {}
    rows = torch.stack(list(found.values())).tolist()
    return {
        place: dict(zip(STATISTICS, row, strict=True))
        for place, row in zip(found, rows, strict=True)
    }


def statistics(output: torch.Tensor) -> torch.Tensor:
    """mean, spread, lowest, highest, share of zeros, share of dead channels of one output.

    (N, C, …) -> (6,) float32 on its device. A channel is dead when all it gives is zero; what has
    no axis of channels is one.
    """
    values = output.float()
    others = [axis for axis in range(values.ndim) if axis != 1]
    low, high = values.amin(others), values.amax(others)
    mean = values.mean()
    # on the CPU twice as fast as std() and as == 0, which no vector instructions serve
    spread = (values - mean).square_().mean().sqrt()
    zeros = 1 - values.bool().sum() / values.numel()
    dead = ((low == 0) & (high == 0)).float().mean()
    return torch.stack([mean, spread, low.min(), high.max(), zeros, dead])


def quantised(place: Place, step: int, output: torch.Tensor, view: str = "channels") -> LayerOutput:
    """An output (N, C, …) as bytes between its lowest and highest finite value."""
    values = small_enough(output.float())
    finite = values[values.isfinite()]
    low, high = (finite.min(), finite.max()) if finite.numel() else (values.new_zeros(()),) * 2
    span = high - low
    scaled = (values - low) / span * 255 if float(span) > 0 else torch.zeros_like(values)
    levels = scaled.nan_to_num(0, 255, 0).round().clamp(0, 255).to(torch.uint8)
    return LayerOutput(
        layer=place.layer,
        call=place.call,
        step=step,
        shape=tuple(levels.shape),
        full_shape=tuple(output.shape),
        dtype=str(output.dtype).removeprefix("torch."),
        low=float(low),
        high=float(high),
        payload=zlib.compress(levels.cpu().numpy().tobytes(), 1),
        view=view,
    )


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
