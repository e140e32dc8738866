"""Naming: the layers of a model that a person means by names and patterns with commas between."""

import fnmatch
from collections.abc import Mapping

from torch import nn

from trainer.part import Refused

NAMES = r"^[\w.*?\[\]!, -]*$"
"""What may stand in a field of names."""


def layers_with_tensors(model: nn.Module) -> dict[str, nn.Module]:
    """The modules with weights or buffers of their own, by path, in the network's order."""
    return {path: module for path, module in model.named_modules() if has_tensors(module)}


def has_tensors(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False)) or any(
        True for _ in module.buffers(recurse=False)
    )


def with_weights(layers: Mapping[str, nn.Module]) -> list[str]:
    """Of these layers the paths of those that have weights; the last is the model's head."""
    return [path for path, layer in layers.items() if any(True for _ in layer.parameters(False))]


def split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def named(text: str, layers: Mapping[str, nn.Module], trick: str) -> dict[str, nn.Module]:
    """The layers that are named, and those inside them. Refuses a name that means none."""
    patterns = split(text)
    for pattern in patterns:
        if not any(is_inside(path, pattern) for path in layers):
            raise Refused(
                f"{trick}: no layer with weights is named {pattern!r}; there are "
                f"{', '.join(layers)}"
            )
    return {
        path: layer
        for path, layer in layers.items()
        if any(is_inside(path, pattern) for pattern in patterns)
    }


def is_inside(path: str, pattern: str) -> bool:
    """Whether a pattern names a layer or one that it lies in."""
    parts = path.split(".")
    above = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return any(fnmatch.fnmatchcase(one, pattern) for one in above)


def top_of(name: str) -> str:
    """The outermost module that a layer or a weight lies in."""
    return name.partition(".")[0]
