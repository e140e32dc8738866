"""Part: the pydantic base of everything a person can choose."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


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


class Refused(ValueError):
    """A choice cannot be carried out; the text names the thing and the way out."""
