"""Shapes of the queue and of those who train."""

from pydantic import Field

from app.api.shapes.run import Run
from app.api.shapes.shape import Moment, Shape


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
    trouble: str = Field(description="Why it claims nothing, where that is so.")
    silent_seconds: float = Field(description="Seconds since its last sign of life.")
    is_alive: bool = Field(description="Whether it gave a sign within a lease.")
    run: int | None = Field(description="The run in hand.")


class Workers(Shape):
    workers: list[Worker]


class Waiting(Shape):
    """A run that waits."""

    id: int
    name: str
    recipe: str
    priority: int
    position: int = Field(description="1 is trained next.")
    wanted_device: str
    created_at: Moment
    step: int = Field(description="From where it goes on.")
    total_steps: int | None
    attempt: int = Field(description="How often it was started so far.")
    reason: str = Field(description="Why it waits again, where it was started before.")
    tricks: list[str]
    waits_for: str = Field(
        description="What must happen before a worker takes it; empty where it is a matter of turn."
    )


class Queue(Shape):
    """Whether runs are given out, which come next, and who trains."""

    paused_at: Moment | None = Field(description="Since when no run is given out.")
    paused_reason: str
    waiting: list[Waiting] = Field(description="In the order they are trained in; at most 500.")
    waiting_total: int
    running: list[Run]
    workers: list[Worker]
