"""Catalogue: everything that can be chosen, described from the one class that defines it."""

import inspect
from collections.abc import Sequence
from typing import Any

from app.missing import missing
from trainer.losses import LOSSES, Loss
from trainer.models import MODELS
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
