"""PartForm: one choosable part by itself as form fields, and what was typed into them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from app import forms
from app.forms import Input
from trainer.part import Part

P = TypeVar("P", bound=Part)


@dataclass(frozen=True)
class PartForm(Generic[P]):
    """A form for one part: its values as typed, and the part or the errors by field."""

    inputs: tuple[Input, ...]
    values: Mapping[str, str]
    part: P | None
    errors: Mapping[str, str]

    def value(self, of: Input) -> str:
        return self.values.get(of.name, of.default)

    def error(self, name: str) -> str:
        return self.errors.get(name, "")


def part_form(part: type[P], typed: Mapping[str, str]) -> PartForm[P]:
    """What was typed for a part. A field that is missing keeps its default, one that is none of
    its fields is left out: addresses carry other things as well."""
    inputs = forms.inputs("", part)
    known = {one.name: one for one in inputs}
    values = {name: value for name, value in typed.items() if name in known}
    given: dict[str, Any] = {name: forms.read(known[name], text) for name, text in values.items()}
    try:
        return PartForm(inputs, values, part.model_validate(given), {})
    except ValidationError as invalid:
        return PartForm(inputs, values, None, forms.by_field(invalid.errors(), known))
