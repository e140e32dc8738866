"""Recorded: the outputs that a run kept of a layer, found by what people ask for."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from sqlalchemy import Connection, select

from app.missing import NotThere, missing
from app.mosaic import planes_of, times_of
from trainer.config import View
from trainer.store.reader import StoredOutput, list_layer_outputs, read_layer_output
from trainer.store.tables import layer_outputs

CHANNELS = "channels"
"""What is kept of a layer unless a run was asked for more: its outputs."""


def recorded_views(connection: Connection, run_id: int) -> list[str]:
    """What of its layers a run kept, as Recording.layer_views names it, in that order."""
    c = layer_outputs.c
    found = connection.execute(select(c.view).where(c.run_id == run_id).distinct()).scalars().all()
    return [view for view in get_args(View) if view in found]


def recorded_layers(
    connection: Connection, run_id: int, view: str = CHANNELS
) -> list[dict[str, Any]]:
    """What was kept of each layer and call: shapes, steps, and the extremes over all of them."""
    layers: dict[tuple[str, int], dict[str, Any]] = {}
    for row in list_layer_outputs(connection, run_id, view):
        facts = {
            "layer": row.layer,
            "call": row.call,
            "dtype": row.dtype,
            "shape": row.shape,
            "full_shape": row.full_shape,
            "lowest": row.low,
            "highest": row.high,
            "steps": [],
            "bytes": 0,
        }
        layer = layers.setdefault((row.layer, row.call), facts)
        layer["steps"].append(row.step)
        layer["bytes"] += row.bytes
        layer["lowest"] = min(layer["lowest"], row.low)
        layer["highest"] = max(layer["highest"], row.high)
    return list(layers.values())


def steps_of(layers: Iterable[Mapping[str, Any]]) -> list[int]:
    """Every step at which any of these layers was recorded, in order."""
    return sorted({step for layer in layers for step in layer["steps"]})


def recorded_steps(
    connection: Connection, run_id: int, layer: str, call: int, view: str = CHANNELS
) -> list[int]:
    """When a layer was recorded, in order. Raises NotThere."""
    steps: dict[tuple[str, int], list[int]] = {}
    for row in list_layer_outputs(connection, run_id, view):
        steps.setdefault((row.layer, row.call), []).append(row.step)
    calls = [number for name, number in steps if name == layer]
    if not calls:
        kept = "recorded layer" if view == CHANNELS else f"recorded {view} of a layer"
        raise missing(kept, layer, dict.fromkeys(name for name, _ in steps))
    if call not in calls:
        raise missing(f"call of layer {layer} numbered", str(call), map(str, calls))
    return sorted(steps[layer, call])


def find(
    connection: Connection,
    run_id: int,
    layer: str,
    step: int | None,
    call: int,
    view: str = CHANNELS,
) -> StoredOutput:
    """The output of a layer at a step, the last one by default. Raises NotThere."""
    # the common case with one query: a film asks for step after step
    output = None
    if step is not None:
        output = read_layer_output(connection, run_id, layer, step, call, view)
    if output is None:
        steps = recorded_steps(connection, run_id, layer, call, view)
        wanted = steps[-1] if step is None else step
        output = read_layer_output(connection, run_id, layer, wanted, call, view)
    if output is None:
        there = ", ".join(map(str, steps))
        raise NotThere(f"layer {layer} was not recorded at step {wanted}; it was at {there}")
    return output


def nearest(steps: Sequence[int], step: int) -> int:
    """The recorded step that is nearest to this one, the earlier of two."""
    return min(steps, key=lambda one: (abs(one - step), one))


def must_have(output: StoredOutput, example: int) -> int:
    kept = len(output.quantised)
    if example >= kept:
        raise NotThere(f"there is no example {example}; there are 0 to {kept - 1}")
    return example


def must_show(output: StoredOutput, example: int, channel: int, time: int) -> None:
    """Whether there is this channel at this time. Raises NotThere."""
    levels = output.quantised[example]
    times, channels = times_of(levels.shape), len(planes_of(levels))
    if time >= times:
        there = f"there are 0 to {times - 1}" if times > 1 else "it is no video"
        raise NotThere(f"layer {output.layer} has no time {time}; {there}")
    if channel >= channels:
        there = f"there are 0 to {channels - 1}" if channels > 1 else "there is only 0"
        raise NotThere(f"layer {output.layer} keeps no channel {channel}; {there}")
