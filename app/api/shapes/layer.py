"""Shapes of layers, and of what they gave."""

from typing import Any

from pydantic import Field

from app.api.shapes.shape import Shape


class RecordedLayer(Shape):
    """A layer that was looked at, and when."""

    layer: str
    call: int = Field(description="Which use of a layer used repeatedly.")
    dtype: str
    shape: list[int] = Field(
        description="What is kept: examples, channels, (frames of clips,) height, width."
    )
    full_shape: list[int] = Field(description="What the layer gave.")
    lowest: float = Field(description="Of all examples at all steps.")
    highest: float
    steps: list[int]
    bytes: int


class RecordedLayers(Shape):
    layers: list[RecordedLayer]
    steps: list[int]
    bytes: int


class LayerOutput(Shape):
    """What a layer gave for one example at one step."""

    layer: str
    call: int
    step: int
    example: int
    examples: int
    shape: list[int] = Field(
        description="Of the values: channels, (frames of clips,) height, width."
    )
    full_shape: list[int] = Field(description="Of what the layer gave for all examples.")
    low: float = Field(description="Values are kept in 255 steps from low to high.")
    high: float
    values: list[Any]


class LayerDifference(Shape):
    """What a layer gave for one example, less what it gave elsewhere."""

    layer: str
    call: int
    step: int
    example: int
    against_run: int
    against_step: int
    most: float = Field(description="The largest of all differences, whatever its sign.")
    relative: float | None = Field(
        description="Length of the difference over that of the other; null if that is all zeros."
    )
    cosine: float | None = Field(description="Between both; null if either is all zeros.")
    shape: list[int]
    values: list[Any]


class Features(Shape):
    """What a layer of a run gave for chosen examples of its task."""

    run: int
    step: int = Field(description="Of the checkpoint that was taken.")
    layer: str
    call: int
    split: str
    examples: list[int]
    targets: list[Any]
    shape: list[int] = Field(description="Examples first, then what the layer gives for each.")
    dtype: str
    values: list[Any]
    beside_run: int | None = Field(description="The run that was trained meanwhile.")


class Layer(Shape):
    """One module of a network."""

    path: str
    kind: str
    output_shape: list[int] | None
    parameters: int
    trainable: bool
    is_leaf: bool
    depth: int
    calls: int = Field(description="How often one forward pass uses it.")
    outputs: list[list[int]] = Field(
        description="What each call gives for a batch of one example, with the batch."
    )
    flops: int | None = Field(
        description="Its own operations for one example, a multiplication and an addition as 2; "
        "null for a kind that nobody counted."
    )


class Layers(Shape):
    layers: list[Layer]


class RecordingCost(Shape):
    """What recording the chosen layers takes: bytes before compression."""

    layers: int
    examples: int
    looks: int = Field(description="How often a run to its last step looks.")
    look_bytes: int = Field(description="Kept at each look: a byte for each value.")
    input_bytes: int = Field(description="The examples themselves, once.")
    run_bytes: int
    most_bytes: int = Field(description="What layer_megabytes allows, after compression.")
    looks_kept: int = Field(description="How many are sure to fit; compression makes room.")
    batch_bytes: int = Field(description="Whole outputs for a training batch, as float32.")
