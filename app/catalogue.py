"""Catalogue: everything that can be chosen, described from the one class that defines it."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from app.missing import missing
from trainer.check import fits
from trainer.losses import LOSSES, Loss
from trainer.models import MODELS, Model
from trainer.optimizers import OPTIMIZERS
from trainer.part import Part, name_of
from trainer.schedules import SCHEDULES
from trainer.targets import Kind
from trainer.tasks import TASKS, Task
from trainer.tricks import TRICKS, Trick

KINDS: dict[str, Sequence[type[Part]]] = {
    "task": TASKS,
    "model": MODELS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "trick": TRICKS,
}


def find(kind: str, name: str) -> type[Part]:
    """The class of that kind and name. Raises NotThere with the names there are."""
    for part in KINDS[kind]:
        if name_of(part) == name:
            return part
    raise missing(kind, name, map(name_of, KINDS[kind]))


def summary_of(part: type[Part]) -> str:
    """The first sentence of its documentation."""
    return documentation(part).split("\n\n")[0].replace("\n", " ")


def documentation(part: type[Part]) -> str:
    return inspect.getdoc(part) or ""


def describe(part: type[Part]) -> dict[str, Any]:
    """What a person or a program must know to choose it, as JSON."""
    facts: dict[str, Any] = {
        "name": name_of(part),
        "title": part.title,
        "summary": summary_of(part),
        "documentation": documentation(part),
        "parameters": part.model_json_schema(),
    }
    if issubclass(part, Trick):
        facts |= describe_trick(part)
    if issubclass(part, Loss):
        facts |= {"torch_name": part.torch_name, "suits": [k for k in Kind if k in part.suits]}
    if issubclass(part, Model):
        facts["sizes"] = [vars(size) for size in sizes(part)]
    if issubclass(part, Task):
        facts |= {"source": part.source, **vars(part().facts())}
    return facts


def describe_trick(trick: type[Trick]) -> dict[str, Any]:
    return {
        "stage": trick.stage.name.lower(),
        "exactness": trick.exactness,
        "exactness_meaning": trick.exactness.meaning,
        "claim": vars(trick.claim),
        "owns": sorted(trick.owns),
        "clashes": dict(trick.clashes),
        "helps": list(trick.helps),
        "cost": trick.cost,
        "traps": list(trick.traps),
        "sources": [trick.claim.source, *trick.sources],
    }


@dataclass(frozen=True)
class ModelSize:
    """How many parameters a model has in one of its forms."""

    title: str
    settings: Mapping[str, Any]
    """All of its fields but its name."""
    task: str | None
    """The task it is built for here; None for what a paper built it for."""
    input_shape: tuple[int, ...]
    outputs: int
    parameters: int


@cache
def sizes(model: type[Model]) -> tuple[ModelSize, ...]:
    """A model's size with its defaults for the first task that it fits, and those of its papers.

    Built without a weight, once in a process: the largest take half a second.
    """
    usual = next(task for task in TASKS if fits(model(), task().facts()))
    facts = usual().facts()
    found = [size_of("as it comes", model(), name_of(usual), facts.input_shape, facts.outputs)]
    for one in model.published:
        built = model.model_validate(one.settings)
        found.append(size_of(one.name, built, None, one.input_shape, one.outputs))
    return tuple(found)


def size_of(
    title: str, model: Model, task: str | None, input_shape: tuple[int, ...], outputs: int
) -> ModelSize:
    with torch.device("meta"):
        network = model.build(input_shape, outputs)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    settings = model.model_dump(mode="json", exclude={"name"})
    return ModelSize(title, settings, task, input_shape, outputs, parameters)
