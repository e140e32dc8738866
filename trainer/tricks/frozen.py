"""Frozen: layers of a placed model that do not learn, what they were, and when they thaw."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from trainer.setup import Setup
from trainer.tricks.naming import top_of

# every kind that keeps running statistics has this for a parent; PyTorch has no public name for it
BatchNorm = nn.modules.batchnorm._BatchNorm


@dataclass
class Thaw:
    """Layers that begin to learn together, after so many epochs."""

    name: str
    paths: tuple[str, ...]
    after_epoch: int
    step: int | None = None
    """The optimizer step after which it happened; None while it has not."""


def thaws(paths: list[str], unfreeze: str, first_epoch: int, every_epochs: int) -> tuple[Thaw, ...]:
    """When layers begin to learn: never, all at once, or module by module from the last one on."""
    if unfreeze == "never":
        return ()
    if unfreeze == "at_once":
        return (Thaw("all", tuple(paths), first_epoch),)
    tops = reversed(dict.fromkeys(map(top_of, paths)))
    return tuple(
        Thaw(top, tuple(p for p in paths if top_of(p) == top), first_epoch + number * every_epochs)
        for number, top in enumerate(tops)
    )


@dataclass
class Frozen:
    """What is frozen now and what was; saved with every checkpoint."""

    setup: Setup
    layers: Mapping[str, nn.Module]
    """All that were frozen at the start, by path."""
    keep_statistics: bool
    thaws: tuple[Thaw, ...]
    before: dict[str, str] = field(default_factory=dict)
    """The fingerprints of frozen tensors when training began."""
    moved: list[str] = field(default_factory=list)
    """What a thawed layer had moved by before it was to."""
    hooks: dict[str, RemovableHandle] = field(default_factory=dict)

    def freeze(self) -> None:
        for path, layer in self.layers.items():
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(False)
            if self.keep_statistics and isinstance(layer, BatchNorm):
                # at every pass: whoever calls model.train() turns all of its layers back
                self.hooks[path] = layer.register_forward_pre_hook(stay_in_eval)
        thawing = {path for thaw in self.thaws for path in thaw.paths}
        self.setup.learns_later |= {
            f"{path}.{name}"
            for path in thawing
            for name, _ in self.layers[path].named_parameters(recurse=False)
        }

    def remember(self, setup: Setup) -> None:
        self.before = self.fingerprints(list(self.layers))

    # -- thawing ----------------------------------------------------------------------------

    def thaw_due(self, setup: Setup, epochs: int) -> None:
        """Thaw what is due after so many epochs."""
        for thaw in self.thaws:
            if thaw.step is None and thaw.after_epoch <= epochs:
                self.moved += self.changed(thaw.paths)
                self.thaw(thaw, epochs * setup.steps_per_epoch)

    def thaw(self, thaw: Thaw, step: int) -> None:
        """Let layers learn from this step on; what the optimizer knows of the others stays."""
        thaw.step = step
        parameters = []
        for path in thaw.paths:
            if hook := self.hooks.pop(path, None):
                hook.remove()
            for name, parameter in self.layers[path].named_parameters(recurse=False):
                parameter.requires_grad_(True)
                parameters.append((f"{path}.{name}", parameter))
        self.setup.train_also(parameters, step)

    @property
    def still(self) -> list[str]:
        """Paths of the layers that are frozen still."""
        thawed = {path for thaw in self.thaws if thaw.step is not None for path in thaw.paths}
        return [path for path in self.layers if path not in thawed]

    # -- what they were ---------------------------------------------------------------------

    def fingerprints(self, paths: list[str] | tuple[str, ...]) -> dict[str, str]:
        """Of every tensor that is to stay: not of statistics that may go on."""
        found: dict[str, str] = {}
        for path in paths:
            layer = self.layers[path]
            tensors: dict[str, torch.Tensor] = dict(layer.named_parameters(recurse=False))
            if self.keep_statistics or not isinstance(layer, BatchNorm):
                tensors |= dict(layer.named_buffers(recurse=False))
            found |= {f"{path}.{name}": fingerprint(tensor) for name, tensor in tensors.items()}
        return found

    def changed(self, paths: list[str] | tuple[str, ...]) -> list[str]:
        """The tensors of these layers of which a bit is not as it was at the start."""
        now = self.fingerprints(paths)
        return [name for name, mark in now.items() if self.before.get(name) != mark]

    def all_moved(self) -> list[str]:
        """Every tensor that changed while it was frozen."""
        return self.moved + self.changed(self.still)

    # -- over a pause -----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        done = [
            [number, thaw.step] for number, thaw in enumerate(self.thaws) if thaw.step is not None
        ]
        return {"before": self.before, "moved": self.moved, "thawed": done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Also thaws again what was, in the same order: the optimizer's groups depend on it."""
        self.before = dict(state["before"])
        # of a checkpoint before there was thawing, neither is there
        self.moved = list(state.get("moved", ()))
        for number, step in state.get("thawed", ()):
            self.thaw(self.thaws[number], step)


def stay_in_eval(module: nn.Module, inputs: object) -> None:
    module.training = False


def fingerprint(tensor: torch.Tensor) -> str:
    """The SHA-256 of a tensor's bits, shortened; NaN is equal to itself."""
    content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(content.numpy().tobytes()).hexdigest()[:16]
