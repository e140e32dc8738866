"""Shapes: what each answer of the API contains, for its documentation.

The answers are sent without passing through these classes; the tests hold them against each
other.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.models import Asked, Status

Number = Annotated[
    float | Literal["NaN", "Infinity", "-Infinity"],
    Field(description='A number, or "NaN", "Infinity", "-Infinity".'),
]
Moment = Annotated[float, Field(description="Unix seconds.")]
Document = dict[str, Any]


class Shape(BaseModel):
    """An answer with these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class Summary(Shape):
    """A series without its points."""

    name: str
    layer: str = Field(description="Empty for a metric of the run itself.")
    unit: str
    points: int
    nonfinite: int = Field(description="How many points are NaN or infinite.")
    first_step: int
    last_step: int
    first: Number
    last: Number
    lowest: Number = Field(description="Of the finite values; NaN where there is none.")
    lowest_step: int
    highest: Number = Field(description="Of the finite values; NaN where there is none.")
    highest_step: int
    total: Number = Field(description="Sum of the finite values.")


class Run(Shape):
    """A run: everything but its points, layer outputs and log."""

    id: int
    name: str
    recipe: str
    note: str
    config: Document
    status: Status
    status_meaning: str
    reason: str = Field(description="Why the run is where it is.")
    asked: Asked = Field(description="What the run will do at its next step.")
    priority: int
    attempt: int = Field(description="How often it was started so far.")
    worker_id: int | None
    parent_id: int | None = Field(description="The run it was cloned from.")
    created_at: Moment
    started_at: Moment | None
    ended_at: Moment | None
    step: int
    total_steps: int | None
    steps_per_epoch: int | None
    progress: float | None = Field(description="Share of the steps that is done.")
    train_seconds: float = Field(description="Training only: no evaluation, no recording.")
    seconds_left: float | None
    samples_per_second: Number | None = Field(description="Training examples, while training.")
    device: str
    environment: Document | None
    result: Document | None
    evidence: Document | None = Field(description="What each trick actually did.")
    tricks: list[str]
    metrics: dict[str, Summary]
    version: int = Field(description="Grows with every change.")


class RunPage(Shape):
    """Some runs, how many there are in all, and where the next page begins."""

    runs: list[Run]
    total: int
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


class Event(Shape):
    """Something that happened to a run."""

    id: int
    run_id: int
    at: Moment
    kind: str
    by: str
    text: str


class Events(Shape):
    events: list[Event]


class Log(Shape):
    text: str
    last: int = Field(description="The `after` of the next answer.")
    more: bool = Field(description="Whether there is more already.")


class Checkpoint(Shape):
    """A checkpoint that is kept."""

    step: int
    file: str
    bytes: int
    sha256: str
    created_at: Moment


class Checkpoints(Shape):
    checkpoints: list[Checkpoint]


class SeriesList(Shape):
    series: list[Summary]


class Points(Summary):
    """A series with its points, to the last bit."""

    run: int
    steps: list[int]
    values: list[Number]
    times: list[Moment]
    next: int | None = Field(description="The `after` of the next answer; null on the last.")


class Curve(Summary):
    """A series as a chart draws it: some of its points, extremes kept."""

    run: int
    steps: list[int]
    values: list[Number]
    times: list[Moment]
    smoothed: list[Number] | None = Field(
        None, description="Smoothed over every point; only where smoothing was asked for."
    )


class Curves(Shape):
    curves: list[Curve]


class RecordedLayer(Shape):
    """A layer that was looked at, and when."""

    layer: str
    call: int = Field(description="Which use of a layer used repeatedly.")
    dtype: str
    shape: list[int] = Field(description="What is kept: examples, channels, height, width.")
    full_shape: list[int] = Field(description="What the layer gave.")
    steps: list[int]


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
    shape: list[int] = Field(description="Of the values: channels, height, width.")
    full_shape: list[int] = Field(description="Of what the layer gave for all examples.")
    low: float = Field(description="Values are kept in 255 steps from low to high.")
    high: float
    values: list[Any]


class Layer(Shape):
    """One module of a network."""

    path: str
    kind: str
    output_shape: list[int] | None
    parameters: int
    trainable: bool
    is_leaf: bool
    depth: int


class Layers(Shape):
    layers: list[Layer]


class Part(Shape):
    """Something that can be chosen."""

    name: str
    title: str
    summary: str
    documentation: str
    parameters: Document = Field(description="The JSON schema of its parameters.")


class Task(Part):
    source: str
    input_shape: list[int]
    outputs: int
    classes: list[str]
    train_examples: int
    test_examples: int


class Claim(Shape):
    measure: str
    lower: bool = Field(description="Whether a lower value is the better one.")
    source: str


class Trick(Part):
    stage: str
    exactness: str
    exactness_meaning: str
    claim: Claim
    owns: list[str]
    clashes: dict[str, str]
    traps: list[str]


class Recipe(Shape):
    """A ready-made config."""

    name: str
    title: str
    purpose: str
    config: Document


class Recipes(Shape):
    recipes: list[Recipe]


class FieldError(Shape):
    """What is wrong with a field, and what was given."""

    field: str
    message: str
    given: Any


class Facts(Shape):
    """What a run will be like."""

    parameters: int
    train_examples: int
    test_examples: int
    batches_per_epoch: int
    steps_per_epoch: int
    total_steps: int
    layers: list[Layer]
    recorded_layers: int
    warnings: list[str]


class Checked(Shape):
    problems: list[FieldError]
    facts: Facts | None


class Worker(Shape):
    """A worker that has not ended."""

    id: int
    host: str
    process: int
    device: str
    device_title: str
    started_at: Moment
    seen_at: Moment
    ended_at: Moment | None
    is_alive: bool
    run: int | None = Field(description="The run in hand.")


class Workers(Shape):
    workers: list[Worker]
