"""Shapes of inquiries."""

from pydantic import Field

from app.api.shapes.shape import Document, Moment, Number, Shape
from app.inquiries.desk import State


class Inquiry(Shape):
    """A question, and what is known of its answer."""

    id: int
    kind: str
    request: Document = Field(description="What was asked.")
    status: State
    reason: str = Field(description="Why there is no answer.")
    cause: str = Field(description="The kind of its failure, or empty.")
    by: str
    run_id: int | None = Field(description="The run it is about.")
    wanted_device: str
    device: str
    worker_id: int | None
    beside_run: int | None = Field(
        description="The run that was trained on the device meanwhile: times are longer."
    )
    created_at: Moment
    started_at: Moment | None
    ended_at: Moment | None
    share: Number = Field(description="How much is done, from 0 to 1.")
    doing: str
    advice: str = Field(description="What helps where there is no answer.")
    answer: Document | None = Field(description="So far, while it is being answered.")


class Inquiries(Shape):
    """Some questions without their answers, and where the next page begins."""

    inquiries: list[Inquiry]
    next: int | None = Field(description="The `before` of the next page; null on the last.")
