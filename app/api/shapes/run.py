"""Shapes of runs, their events, logs and checkpoints."""

from collections.abc import Mapping

from pydantic import Field

from app.api.shapes.series import Metric, PartialMetric
from app.api.shapes.shape import Document, Moment, Number, Shape, partial
from app.models import Asked, Status


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
    cause: str = Field(description="The kind of its failure, such as out of memory; or empty.")
    failure: Document | None = Field(description="What is known of it: traceback, step, peak, …")
    advice: str = Field(description="What helps against such a failure.")
    asked: Asked = Field(description="What the run will do at its next step.")
    priority: int
    attempt: int = Field(description="How often it was started so far.")
    worker_id: int | None
    parent_id: int | None = Field(description="The run it was made from.")
    created_at: Moment
    started_at: Moment | None
    ended_at: Moment | None
    archived_at: Moment | None
    activity: str = Field(description="What its process does, while it trains.")
    moved_at: Moment | None = Field(description="When it last got on.")
    step: int
    total_steps: int | None
    steps_per_epoch: int | None
    progress: float | None = Field(description="Share of the steps that is done.")
    train_seconds: float = Field(description="Training only: no evaluation, no recording.")
    seconds_left: float | None
    samples_per_second: Number | None = Field(description="Training examples, while training.")
    wanted_device: str
    device: str
    environment: Document | None
    result: Document | None
    evidence: Document | None = Field(description="What each trick actually did.")
    tricks: list[str]
    main_metric: str = Field(description="The metric by which it is called better or worse.")
    metrics: Mapping[str, Metric]
    version: int = Field(description="Grows with every change.")


class RunPage(Shape):
    """Some runs, how many there are in all, and where the next page begins."""

    runs: list[Run]
    total: int
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


@partial("id")
class PartialRun(Run):
    """What was asked for of a run."""

    metrics: Mapping[str, PartialMetric]


class PartialRunPage(Shape):
    """Some runs with the fields that were asked for."""

    runs: list[PartialRun]
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
