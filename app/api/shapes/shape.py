"""What the shapes of all answers have in common."""

from collections.abc import Callable
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


def partial(*always: str) -> Callable[[type[Shape]], type[Shape]]:
    """Of the decorated shape's fields, all but these may be missing. None may be null for it."""

    def decorate(shape: type[Shape]) -> type[Shape]:
        for name, field in shape.model_fields.items():
            if name not in always:
                # made, not given: the document would show null as what it is otherwise
                field.default_factory = type(None)
        shape.model_rebuild(force=True)
        return shape

    return decorate
