"""ExplorerForm: which network is looked at, and how it would be recorded, as typed into fields.

The names are those of a new run's form, so that an address of one serves the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from app import forms
from app.catalogue import KINDS
from app.forms import Input, Variant
from app.shapes_shown import shape_of
from trainer.config import Recording
from trainer.models import Model
from trainer.part import Part, Refused, name_of
from trainer.tasks import Task
from trainer.tricks import Freeze

P = TypeVar("P", bound=Part)

OWN = "shape"
"""In the place of a task: a shape that a person types."""
MOST_ELEMENTS = 2**31
MOST_AXES = 5
RECORDED = ("layers", "layer_examples", "layer_steps", "layers_every", "layer_megabytes")
"""Fields of Recording that say what layers cost."""
FIRST = {"model": "resnet20", "task": "digits"}
"""What is looked at before anything is chosen."""
FREEZE = "tricks.freeze.layers"
FREEZE_ON = "tricks.freeze.on"
PICK = "pick"
"""Carried by each ticked layer."""


class Wanted(Part):
    """What is asked beside the config's own fields."""

    shape: str = Field(
        "3, 16, 160, 160",
        max_length=100,
        description="Of one example, without the batch: channels first, as in 3, 32, 32.",
    )
    outputs: int = Field(
        10, ge=1, le=1_000_000, description="Scores that the model gives: classes, mostly."
    )
    find: str = Field(
        "",
        max_length=200,
        description="Words that stand in a name or a kind, or patterns such as stage?.*.conv2.",
    )
    steps: int = Field(1000, ge=1, le=10**9, description="Optimizer steps of the run.")
    batch: int = Field(
        16, ge=1, le=65_536, description="Examples whose outputs would lie in memory at once."
    )


@dataclass(frozen=True)
class ExplorerForm:
    """What was typed, and what it asks for or the errors by field."""

    values: Mapping[str, str]
    picks: tuple[str, ...]
    model: Model | None = None
    task: Task | None = None
    """None where a shape was typed, or something is wrong."""
    wanted: Wanted | None = None
    recording: Recording | None = None
    freeze: Freeze | None = None
    errors: Mapping[str, str] = field(default_factory=dict)

    def value(self, of: Input) -> str:
        return self.values.get(of.name, of.default)

    def error(self, name: str) -> str:
        return self.errors.get(name, "")

    def chosen(self, name: str) -> str:
        """Which model or task is chosen."""
        return self.values.get(f"{name}.name") or FIRST[name]

    @property
    def patterns(self) -> tuple[str, ...]:
        """What was typed as layers to record, without those ticked."""
        return tuple(self.values.get("recording.layers", "").replace(",", " ").split())

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example. Raises Refused."""
        if self.task:
            return self.task.facts().input_shape
        assert self.wanted is not None
        return bounded(shape_of(self.wanted.shape))

    @property
    def outputs(self) -> int:
        assert self.wanted is not None
        return self.task.facts().outputs if self.task else self.wanted.outputs


def variants(name: str) -> tuple[Variant, ...]:
    """The models or the tasks, and last of these a shape of one's own."""
    found = forms.choice(name).variants
    if name == "task":
        own = tuple(one for one in beside() if one.name in ("shape", "outputs"))
        return (*found, Variant(OWN, "A shape of your own", "", "", own))
    return found


def beside() -> tuple[Input, ...]:
    return forms.inputs("", Wanted)


def recording_inputs() -> tuple[Input, ...]:
    """The fields of recording but that of the layers, which begins empty here."""
    names = {f"recording.{name}" for name in RECORDED if name != "layers"}
    return tuple(one for one in forms.group("recording") if one.name in names)


def explorer_form(items: Sequence[tuple[str, str]]) -> ExplorerForm:
    """The form as an address has it. A field that is missing keeps its default."""
    values = {name: value for name, value in items if name != PICK}
    picks = tuple(dict.fromkeys(value for name, value in items if name == PICK))
    errors: dict[str, str] = {}
    form = ExplorerForm(values, picks)
    own_shape = form.chosen("task") == OWN
    found: dict[str, Any] = {
        "model": chosen_part("model", form, errors),
        "task": None if own_shape else chosen_part("task", form, errors),
        "wanted": part(Wanted, (), typed_beside(values), errors),
        "recording": recording(form, errors),
        "freeze": freeze(values, errors),
    }
    return ExplorerForm(values, picks, **found, errors=errors)


def typed_beside(values: Mapping[str, str]) -> dict[str, Any]:
    known = {one.name: one for one in beside()}
    return {name: forms.read(known[name], values[name]) for name in known if name in values}


def chosen_part(name: str, form: ExplorerForm, errors: dict[str, str]) -> Part | None:
    """The model or the task that is chosen, with its parameters."""
    own = form.chosen(name)
    kind = next((one for one in KINDS[name] if name_of(one) == own), None)
    if kind is None:
        errors[f"{name}.name"] = f"there is no {own[:40]!r} here; choose one of the list"
        return None
    path = f"{name}.{own}"
    known = {one.name.rpartition(".")[2] for one in forms.inputs_at(path)}
    typed = forms.filled(path, forms.group_values(form.values, name, own))
    return part(kind, (name, own), {key: typed[key] for key in typed if key in known}, errors)


def recording(form: ExplorerForm, errors: dict[str, str]) -> Recording | None:
    typed = forms.filled("recording", forms.group_values(form.values, "recording"))
    given = {name: typed[name] for name in RECORDED if name in typed and name != "layers"}
    given["layers"] = [*form.patterns, *form.picks]
    return part(Recording, ("recording",), given, errors)


def freeze(values: Mapping[str, str], errors: dict[str, str]) -> Freeze | None:
    """The trick where it is switched on, or names were typed for it."""
    text = values.get(FREEZE, "")
    if values.get(FREEZE_ON) != "on" and not text.strip():
        return None
    return part(Freeze, ("tricks", "freeze"), {"layers": text}, errors)


def part(
    kind: type[P], path: tuple[str, ...], given: Mapping[str, Any], errors: dict[str, str]
) -> P | None:
    """A part of these values, or None: then what is wrong stands among the errors."""
    try:
        return kind.model_validate(given)
    except ValidationError as invalid:
        known = forms.field_names() | {one.name for one in beside()}
        placed = [{**error, "loc": (*path, *error["loc"])} for error in invalid.errors()]
        errors |= forms.by_field(placed, known)
        return None


def bounded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that an example may have. Raises Refused."""
    if not 1 <= len(shape) <= MOST_AXES:
        raise Refused(f"an example has one to {MOST_AXES} axes, as in 3, 32, 32")
    if min(shape) < 1:
        raise Refused("an example has no axis of size 0")
    elements = 1
    for size in shape:
        elements *= size
    if elements > MOST_ELEMENTS:
        raise Refused(f"{elements:,} numbers for an example; at most {MOST_ELEMENTS:,}")
    return shape
