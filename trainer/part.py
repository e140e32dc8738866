"""Part: the pydantic base of everything a person can choose."""

import re
from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

NO_NUMBER = PydanticCustomError("no_number", "true and false are no numbers")


class Part(BaseModel):
    """A piece of a config: immutable, finite, and closed to unknown fields."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        ser_json_inf_nan="strings",
        protected_namespaces=(),
    )

    title: ClassVar[str] = ""

    @model_validator(mode="wrap")
    @classmethod
    def truth_is_no_number(cls, given: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuses JSON's true where a number belongs: pydantic would take it for 1."""
        part = build(given)
        if isinstance(given, dict):
            errors = [
                InitErrorDetails(type=NO_NUMBER, loc=(name,), input=value)
                for name, value in given.items()
                if has_truth(value) and not has_truth(getattr(part, name))
            ]
            if errors:
                raise ValidationError.from_exception_data(cls.__name__, errors)
        return part


def has_truth(value: Any) -> bool:
    return isinstance(value, bool) or (
        isinstance(value, list | tuple) and any(isinstance(item, bool) for item in value)
    )


class Refused(ValueError):
    """A choice cannot be carried out; the text names the thing and the way out."""


def name_of(part: type[Part]) -> str:
    """The name by which configs and addresses call a class that is one of several."""
    return str(part.model_fields["name"].default)


def whole_number(given: Any) -> Any:
    """What a form or an address writes as digits as the number: a choice of numbers needs it."""
    return int(given) if isinstance(given, str) and re.fullmatch(r"\s*\d{1,9}\s*", given) else given
