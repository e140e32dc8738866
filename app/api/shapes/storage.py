"""Shapes of what a lab takes on its disk, and of what a clean-up gave back."""

from pydantic import Field

from app.api.shapes.shape import Moment, Shape
from app.cleaning import Cleaning
from app.models import Status


class Taken(Shape):
    """How many there are, and how much they take."""

    count: int
    bytes: int
    is_complete: bool = Field(description="Whether all were counted; false: there are more.")


class LargeRun(Shape):
    """A run and what it takes."""

    id: int
    name: str
    status: Status
    archived_at: Moment | None
    checkpoint_bytes: int
    layer_output_bytes: int
    bytes: int = Field(description="Both together.")


class Storage(Shape):
    """What the lab takes on its disk, and what is left."""

    folder: str
    free_bytes: int
    reserve_bytes: int = Field(description="With less free, no run is started.")
    trouble: str = Field(description="Why no run is started now, where that is so.")
    database_bytes: int = Field(description="With its log; layer outputs and logs are in it.")
    ballast_bytes: int
    checkpoints: Taken = Field(description="A file that two runs share is counted once.")
    layer_outputs: Taken
    logs: Taken
    datasets: Taken
    backups: Taken
    left_overs: Taken = Field(description="Files that belong to no run any more.")
    archived: Taken = Field(description="Archived runs: their checkpoints and layer outputs.")
    largest: list[LargeRun] = Field(description="The runs that take most, the largest first.")


class Freed(Shape):
    """What a clean-up gave back, or with `dry_run` would give back."""

    what: Cleaning
    dry_run: bool
    runs: int = Field(description="How many runs it is about.")
    files: int
    bytes: int = Field(
        description="On the disk. A file that another run has too gives back nothing."
    )
    database_bytes: int = Field(
        description="Inside the database, for what is recorded next: its file stays as large."
    )
    is_complete: bool = Field(description="False: time was up; ask again for the rest.")
