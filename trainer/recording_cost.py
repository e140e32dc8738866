"""RecordingCost: what it takes to record layer outputs, told before anything is trained."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from trainer.anatomy import LayerFacts
from trainer.config import Recording
from trainer.flops import Shape
from trainer.probe import small_enough

FLOAT_BYTES = 4


@dataclass(frozen=True)
class RecordingCost:
    """The bytes of chosen layers' outputs: one for each value kept, before compression."""

    layers: int
    examples: int
    """Of the test set, whose outputs are kept."""
    looks: int
    """How often a run of so many steps looks."""
    look_bytes: int
    """Of all chosen layers, each time."""
    input_bytes: int
    """Of the examples themselves: once."""
    run_bytes: int
    """All looks of a run that goes to its last step."""
    most_bytes: int
    """What recording.layer_megabytes allows, after compression."""
    looks_kept: int
    """How many looks are sure to fit into that; compression makes room for more."""
    batch_bytes: int
    """Outputs of the chosen layers for a whole batch, as float32 and with nothing left out."""

    @property
    def ends_early(self) -> bool:
        return self.looks_kept < self.looks


def recording_cost(
    recording: Recording,
    layers: Sequence[LayerFacts],
    input_shape: Shape,
    *,
    steps: int,
    batch_size: int,
    test_examples: int | None = None,
) -> RecordingCost:
    """What these layers cost in a run of so many steps; fewer examples where there are no more."""
    examples = min(recording.layer_examples, test_examples or recording.layer_examples)
    looks = looks_of(recording, steps) if layers else 0
    each = sum(kept_bytes(layer, examples) for layer in layers)
    once = values_kept((examples, *input_shape)) if looks else 0
    most = recording.layer_megabytes * 10**6
    return RecordingCost(
        layers=len(layers),
        examples=examples,
        looks=looks,
        look_bytes=each,
        input_bytes=once,
        run_bytes=looks * each + once,
        most_bytes=most,
        looks_kept=min(looks, max(0, most - once) // each if each else looks),
        batch_bytes=sum(output_bytes(layer, batch_size) for layer in layers),
    )


def kept_bytes(layer: LayerFacts, examples: int) -> int:
    """What one look keeps of a layer, over all its calls: a byte for each value, uncompressed."""
    return sum(values_kept((examples * rows, *shape)) for rows, *shape in layer.outputs if shape)


def output_bytes(layer: LayerFacts, examples: int) -> int:
    """All that a layer gives for so many examples, as float32."""
    return FLOAT_BYTES * examples * sum(map(math.prod, layer.outputs))


@lru_cache(4096)
def values_kept(shape: Shape) -> int:
    """How many values of an output (N, C, …) the probe keeps: it is asked itself."""
    return small_enough(torch.empty(shape, device="meta")).numel()


def looks_of(recording: Recording, steps: int) -> int:
    """How often a run of so many steps looks at its layers, the end included."""
    match recording.layer_steps:
        case "never":
            return 0
        case "end":
            return 1
        case "log":
            is_seen = steps & (steps - 1) == 0
            return 1 + steps.bit_length() + (not is_seen)
        case "every":
            every = recording.layers_every
            return 1 + steps // every + (steps % every > 0)


def step_of(recording: Recording, look: int, steps: int) -> int:
    """The step after which look number 0, 1, … comes."""
    match recording.layer_steps:
        case "log":
            return min(steps, 1 << (look - 1) if look else 0)
        case "every":
            return min(steps, look * recording.layers_every)
        case _:
            return steps


def told_early(cost: RecordingCost, recording: Recording, steps: int) -> str:
    """That the budget may end the recording before the run ends, and the way out; "" if not."""
    if not cost.ends_early:
        return ""
    looks = "1 look" if cost.looks == 1 else f"{cost.looks:,} looks"
    kept = "not even the first is sure to be kept"
    if cost.looks_kept:
        last = step_of(recording, cost.looks_kept - 1, steps)
        kept = f"only those up to step {last:,} are sure to be kept"
    return (
        f"recording: {looks} of {megabytes(cost.look_bytes)} come to {megabytes(cost.run_bytes)} "
        f"before compression, and layer_megabytes allows {recording.layer_megabytes:,} MB: {kept}; "
        "take fewer layers or examples, look less often, or raise layer_megabytes"
    )


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
