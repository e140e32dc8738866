"""Forms: a RunConfig as form fields, and what was typed into them as a config or as errors.

Fields carry dotted names: `loader.batch_size`; `optimizer.name` for a choice and
`optimizer.sgd.momentum` for a parameter of one of its variants; `tricks.seed.on` for a trick's
switch. pydantic's errors come with the same paths, so each stands beside its field.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import ValidationError

from app.catalogue import KINDS, documentation, summary_of
from app.problems import message
from trainer.check import check
from trainer.config import Budget, Recording, RunConfig
from trainer.loader import Loader
from trainer.part import Part, name_of
from trainer.tricks import TRICKS, Stage, Trick

CHOICES = ("task", "model", "loss", "optimizer", "schedule")
GROUPS: Mapping[str, type[Part]] = {"loader": Loader, "recording": Recording, "budget": Budget}
SINGLE = ("seed", "device", "threads")
WHOLE = ""
"""The place of errors that concern no single field."""


@dataclass(frozen=True)
class Input:
    """One field of a form, without a value: all that follows from its declaration."""

    name: str
    label: str
    kind: str
    """number, integer, switch, choice, list or text."""
    description: str
    default: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    is_optional: bool = False


@dataclass(frozen=True)
class Variant:
    """One of the things a choice or a trick can be, with its parameters."""

    name: str
    title: str
    summary: str
    documentation: str
    inputs: tuple[Input, ...]


@dataclass(frozen=True)
class Choice:
    """A field such as the optimizer, of which one variant is taken."""

    name: str
    label: str
    variants: tuple[Variant, ...]


# -- what the form consists of --------------------------------------------------------------


@cache
def choice(name: str) -> Choice:
    return Choice(name, label_of(name), tuple(variant(name, part) for part in KINDS[name]))


@cache
def group(name: str) -> tuple[Input, ...]:
    """The inputs of a part that has no variants; `run` is what stands in the config itself."""
    if name == "run":
        schema = RunConfig.model_json_schema()["properties"]
        return tuple(input_of("", key, schema[key]) for key in SINGLE)
    return inputs(f"{name}.", GROUPS[name])


@cache
def trick_cards() -> tuple[tuple[Stage, tuple[tuple[type[Trick], Variant], ...]], ...]:
    """The tricks by stage."""
    return tuple(
        (stage, cards)
        for stage in Stage
        if (cards := tuple((t, variant("tricks", t)) for t in TRICKS if t.stage == stage))
    )


def variant(name: str, part: type[Part]) -> Variant:
    own = name_of(part)
    return Variant(
        own, part.title, summary_of(part), documentation(part), inputs(f"{name}.{own}.", part)
    )


def inputs(prefix: str, part: type[Part]) -> tuple[Input, ...]:
    schema = part.model_json_schema()["properties"]
    return tuple(input_of(prefix, key, facts) for key, facts in schema.items() if key != "name")


def input_of(prefix: str, key: str, schema: Mapping[str, Any]) -> Input:
    """A field from its JSON schema."""
    one_of = schema.get("anyOf", [])
    is_optional = {"type": "null"} in one_of
    facts = next((kind for kind in one_of if kind != {"type": "null"}), schema)
    kind = "choice" if "enum" in facts else KIND_OF_TYPE[facts["type"]]
    options = tuple(map(str, facts.get("enum", ())))
    if is_optional and kind == "switch":
        # a box is ticked or not; it takes a list to leave a question open
        kind, options = "choice", ("on", "off")
    return Input(
        name=prefix + key,
        label=label_of(key),
        kind=kind,
        description=schema.get("description", ""),
        default=typed(schema.get("default")),
        attributes=bounds(facts) if kind in ("number", "integer") else {},
        options=options,
        is_optional=is_optional,
    )


KIND_OF_TYPE = {
    "number": "number",
    "integer": "integer",
    "boolean": "switch",
    "array": "list",
    "string": "text",
}


def bounds(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The bounds of a number as HTML attributes; those that exclude their limit stay with us."""
    found = {
        "min": schema.get("minimum", schema.get("exclusiveMinimum")),
        "max": schema.get("maximum", schema.get("exclusiveMaximum")),
        "step": schema.get("multipleOf", 1 if schema["type"] == "integer" else "any"),
    }
    return {name: value for name, value in found.items() if value is not None}


def label_of(key: str) -> str:
    return key.replace("_", " ").capitalize()


# -- from a config to values, and back ------------------------------------------------------


def values_of(config: RunConfig) -> dict[str, str]:
    """What the fields of a form hold for this config; other variants hold their defaults."""
    data = config.model_dump(mode="json")
    values = {name: typed(data[name]) for name in SINGLE}
    for name in GROUPS:
        values |= {f"{name}.{key}": typed(value) for key, value in data[name].items()}
    for name in CHOICES:
        values[f"{name}.name"] = data[name]["name"]
        values |= variant_values(name, data[name])
    for trick in data["tricks"]:
        values[f"tricks.{trick['name']}.on"] = "on"
        values |= variant_values("tricks", trick)
    return values


def variant_values(name: str, data: Mapping[str, Any]) -> dict[str, str]:
    own = data["name"]
    return {f"{name}.{own}.{key}": typed(value) for key, value in data.items() if key != "name"}


def typed(value: Any) -> str:
    """A value as a person would type it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value)


def config_data(values: Mapping[str, str]) -> dict[str, Any]:
    """What was typed as the nested data of a config, still to be validated.

    A field the form knows and the request lacks keeps its default; one the form does not know
    is left to the validation, which refuses it by name.
    """
    data: dict[str, Any] = {name: filled(name, group_values(values, name)) for name in GROUPS}
    data |= filled("run", {key: values[key] for key in SINGLE if key in values})
    for name in CHOICES:
        if own := values.get(f"{name}.name"):
            data[name] = {"name": own} | filled(f"{name}.{own}", group_values(values, name, own))
    data["tricks"] = [
        {"name": own} | filled(f"tricks.{own}", group_values(values, "tricks", own))
        for own in chosen_tricks(values)
    ]
    return data


def chosen_tricks(values: Mapping[str, str]) -> list[str]:
    """The names of the tricks that are switched on, known or not."""
    parts = [(name.split("."), value) for name, value in values.items()]
    return [
        path[1]
        for path, value in parts
        if len(path) == 3 and path[0] == "tricks" and path[2] == "on" and value == "on"
    ]


def group_values(values: Mapping[str, str], *path: str) -> dict[str, str]:
    """The values right under this path, without those deeper down."""
    prefix = ".".join(path) + "."
    found = {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(prefix)
    }
    return {key: value for key, value in found.items() if "." not in key and key != "on"}


def filled(path: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Typed values of one part as data: nothing for an empty optional field, lists split."""
    known = {known.name.rpartition(".")[2]: known for known in inputs_at(path)}
    return {key: read(known.get(key), value) for key, value in values.items()}


def inputs_at(path: str) -> tuple[Input, ...]:
    """The inputs of a group, or of one variant of a choice; none where there is no such thing."""
    name, _, own = path.partition(".")
    if not own:
        return group(name)
    kind = "trick" if name == "tricks" else name
    for part in KINDS[kind]:
        if name_of(part) == own:
            return inputs(f"{name}.{own}.", part)
    return ()


def read(known: Input | None, value: str) -> Any:
    if known is None:
        return value
    if known.kind == "list":
        return value.replace(",", " ").split()
    if known.is_optional and not value.strip():
        return None
    return value.strip() if known.kind in ("number", "integer") else value


# -- what was typed, judged -----------------------------------------------------------------


@dataclass(frozen=True)
class Filled:
    """A form that a person filled in: what was typed, and the config or the errors of it."""

    values: Mapping[str, str]
    config: RunConfig | None
    errors: Mapping[str, str]

    def value(self, of: Input) -> str:
        return self.values.get(of.name, of.default)

    def chosen(self, name: str) -> str:
        return self.values.get(f"{name}.name") or choice(name).variants[0].name

    def error(self, name: str) -> str:
        return self.errors.get(name, "")

    def is_on(self, trick: str) -> bool:
        return self.values.get(f"tricks.{trick}.on") == "on"


def of_config(config: RunConfig) -> Filled:
    """A form as somebody would have filled it to get this config."""
    return Filled(values_of(config), config, {})


def of_items(items: Iterable[tuple[str, Any]]) -> Filled:
    """A form as it was sent. Of several values for one name the last wins: a switch that is off
    sends only the hidden value before it."""
    values = {name: value for name, value in items if isinstance(value, str)}
    try:
        config = RunConfig.model_validate(config_data(values))
    except ValidationError as invalid:
        return Filled(values, None, by_field(invalid.errors()))
    errors = {field_name(problem.field, config): problem.message for problem in check(config)}
    return Filled(values, None if errors else config, errors)


def by_field(errors: Sequence[Any], known: Container[str] | None = None) -> dict[str, str]:
    """pydantic's errors under the names of the fields that show them: those known."""
    known = field_names() if known is None else known
    found: dict[str, str] = {}
    for error in errors:
        place = field_of(error, known)
        said = message(error)
        if place == WHOLE and error["loc"]:
            said = f"{'.'.join(map(str, error['loc']))}: {said}"
        found[place] = f"{found[place]}; {said}" if place in found else said
    return found


def field_of(error: Mapping[str, Any], known: Container[str]) -> str:
    """The field that an error belongs to."""
    # positions in lists are no part of a name: a trick is found by its own, a pattern by its list
    path = [part for part in error["loc"] if isinstance(part, str)]
    if error["type"].startswith("union_tag"):
        path.append("name")
    name = ".".join(path)
    return name if name in known else WHOLE


@cache
def field_names() -> frozenset[str]:
    """The names of all fields that can show an error."""
    known = [found for name in (*GROUPS, "run") for found in group(name)]
    for name in CHOICES:
        known += [found for one in choice(name).variants for found in one.inputs]
    for trick in TRICKS:
        known += variant("tricks", trick).inputs
    names = {found.name for found in known} | {f"{name}.name" for name in CHOICES}
    return frozenset(names | {f"tricks.{name_of(trick)}.on" for trick in TRICKS})


def field_name(path: str, config: RunConfig) -> str:
    """The field for a path that `trainer.check` gave: tricks by name, variants by theirs."""
    first, *rest = path.split(".")
    if first == "tricks":
        own = config.tricks[int(rest[0])].name
        return f"tricks.{own}.{'on' if rest[1] == 'name' else rest[1]}"
    if first in CHOICES and rest != ["name"]:
        return ".".join([first, getattr(config, first).name, *rest])
    return path
