"""Anatomy: the layers of a network as a list, told without allocating a single weight."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from trainer.models import Model
from trainer.tasks import TaskFacts


@dataclass(frozen=True)
class LayerFacts:
    """One module of a network, in the order of the network's own tree."""

    path: str
    kind: str
    output_shape: tuple[int, ...] | None
    """Of one example, without the batch, in the first call; None when it gives no single tensor."""
    parameters: int
    """Its own, not those of the layers inside it."""
    trainable: bool
    is_leaf: bool
    depth: int


def model_anatomy(model: Model, task: TaskFacts) -> tuple[LayerFacts, ...]:
    """The layers of a model on a task's inputs. Raises Refused when they do not fit."""
    return anatomy(weightless(model, task), task.input_shape)


def weightless(model: Model, task: TaskFacts) -> nn.Module:
    """The network on the meta device: every shape, and no memory for a weight."""
    with torch.device("meta"):
        return model.build(task.input_shape, task.outputs)


def anatomy(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[LayerFacts, ...]:
    """The layers of a network that lies on the meta device, in eval mode and without gradients."""
    return layers_of(network, output_shapes(network, input_shape))


def output_shapes(network: nn.Module, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """What each module of a network on the meta device gives for one example, without the batch.

    By path; the network itself is "". One that gives no single tensor is left out; of one that is
    called repeatedly it is the first call.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def note(path: str) -> object:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                shapes.setdefault(path, tuple(output.shape[1:]))

        return hook

    for path, module in network.named_modules():
        module.register_forward_hook(note(path))
    with torch.no_grad():
        network.eval()(torch.zeros(1, *input_shape, device="meta"))
    return shapes


def layers_of(network: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> tuple[LayerFacts, ...]:
    """The layers of a network whose output shapes are known."""
    return tuple(
        LayerFacts(
            path=path,
            kind=type(module).__name__,
            output_shape=shapes.get(path),
            parameters=sum(p.numel() for p in module.parameters(recurse=False)),
            trainable=any(p.requires_grad for p in module.parameters(recurse=False)),
            is_leaf=not any(module.children()),
            depth=path.count("."),
        )
        for path, module in network.named_modules()
        if path
    )


def matching(layers: Sequence[LayerFacts], pattern: str) -> list[LayerFacts]:
    """The layers that a pattern chooses: `*` alone every leaf, otherwise by shell wildcards."""
    if pattern == "*":
        return [layer for layer in layers if layer.is_leaf]
    return [layer for layer in layers if fnmatch.fnmatchcase(layer.path, pattern)]


def chosen_layers(layers: Sequence[LayerFacts], patterns: Sequence[str]) -> list[LayerFacts]:
    """The layers that any of the patterns chooses, in the network's order."""
    wanted = {layer.path for pattern in patterns for layer in matching(layers, pattern)}
    return [layer for layer in layers if layer.path in wanted]
