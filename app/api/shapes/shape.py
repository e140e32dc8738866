"""What the shapes of all answers have in common."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Number = Annotated[
    float | Literal["NaN", "Infinity", "-Infinity"],
    Field(description='A number, or "NaN", "Infinity", "-Infinity".'),
]
Moment = Annotated[float, Field(description="Unix seconds.")]
Document = dict[str, Any]


class Shape(BaseModel):
    """An answer with these fields and no others."""

    model_config = ConfigDict(extra="forbid")
