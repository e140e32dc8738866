"""Sources: what other runs have learned, for a run that begins with it or learns from it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open

from trainer.part import Part, Refused

BY_RECIPE = "recipe:"
IS_REFERENCE = "a reference to another run"

RunReference = Annotated[str, Field(max_length=200, pattern=r"^[^/?#\x00-\x1f]*$"), IS_REFERENCE]
"""A run's number, its name, or `recipe:NAME` for the newest finished run of that recipe."""


class Sources(Protocol):
    """Where the checkpoints of other runs are found."""

    def checkpoint_of(self, reference: str) -> Path:
        """The newest whole checkpoint of a finished run. Raises Refused with the way out."""


@dataclass(frozen=True)
class Trained:
    """What a run had learned when its checkpoint was saved."""

    run_id: int
    step: int
    config: Mapping[str, Any]
    """As JSON: `RunConfig.model_validate` makes a config of it, and that builds the model."""
    model: Mapping[str, torch.Tensor]
    """Weights and buffers by name, on the CPU."""


def load_trained(path: Path) -> Trained:
    """Read a checkpoint as a source. Raises Refused when it is damaged or too old for that."""
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["tricklab"])
            names = [name for name in file.keys() if name.startswith("model.")]  # noqa: SIM118
            model = {name.removeprefix("model."): file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise Refused(
            f"the checkpoint {path} cannot be read ({error}); choose another run"
        ) from error
    if "config" not in state:
        raise Refused(
            f"the checkpoint {path} was saved by an older Tricklab and does not say which model it "
            "holds; train that run on for an epoch (tricklab continue), or train it again"
        )
    return Trained(state["run"], state["progress"]["step"], state["config"], model)


def trained_by(sources: Sources, reference: str) -> Trained:
    """What the run has learned that a person named. Raises Refused with the way out."""
    if not reference.strip():
        raise Refused(NO_REFERENCE)
    return load_trained(sources.checkpoint_of(reference.strip()))


NO_REFERENCE = "name a run by its number or its name, or write recipe:NAME for the newest of those"


def references(part: Part, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every reference to another run in a config, with the path of its field."""
    for name, field in type(part).model_fields.items():
        value, path = getattr(part, name), f"{prefix}{name}"
        if IS_REFERENCE in field.metadata:
            yield path, value
        for place, inner in placed_parts(path, value):
            yield from references(inner, f"{place}.")


def placed_parts(path: str, value: object) -> Iterator[tuple[str, Part]]:
    """The parts that a field holds: itself, or the members of a tuple by their number."""
    if isinstance(value, Part):
        yield path, value
    elif isinstance(value, tuple):
        for number, member in enumerate(value):
            if isinstance(member, Part):
                yield f"{path}.{number}", member
