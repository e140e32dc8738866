"""Anatomy: the layers of a network as a list, told without allocating a single weight."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from trainer.flops import Shape, flops_of
from trainer.models import Model
from trainer.tasks import TaskFacts

MOST_EXAMINED = 16
"""Networks that stay examined; one of 700 modules takes half a second and a few megabytes."""


@dataclass(frozen=True)
class Call:
    """One use of a module in a forward pass of a single example: shapes with the batch.

    None where it is no single tensor. The first axis is longer than 1 where time or patches lie
    in the batch.
    """

    taken: Shape | None
    given: Shape | None


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
    calls: int
    """How often one forward pass uses it."""
    outputs: tuple[tuple[int, ...], ...]
    """What each of its calls gives for a batch of one example, with the batch."""
    flops: int | None
    """Its own operations for one example, in all its calls; None for a kind nobody counted."""


@dataclass(frozen=True)
class Examined:
    """A network on the meta device, and what a forward pass of one example told of it."""

    network: nn.Module
    layers: tuple[LayerFacts, ...]
    output_shape: tuple[int, ...] | None
    """Of the whole network for one example, without the batch."""


def model_anatomy(model: Model, task: TaskFacts) -> tuple[LayerFacts, ...]:
    """The layers of a model on a task's inputs. Raises Refused when they do not fit."""
    return examined(model, task.input_shape, task.outputs).layers


@lru_cache(MOST_EXAMINED)
def examined(model: Model, input_shape: tuple[int, ...], outputs: int) -> Examined:
    """A model for such inputs, built without a weight. Raises Refused when they do not fit.

    The same object for the same question: its network is only to be looked at.
    """
    with torch.device("meta"):
        network = model.build(input_shape, outputs)
    calls = calls_of(network, input_shape)
    given = calls[""][0].given
    return Examined(network, layers_of(network, calls), given and given[1:])


def weightless(model: Model, task: TaskFacts) -> nn.Module:
    """The network on the meta device: every shape, and no memory for a weight."""
    with torch.device("meta"):
        return model.build(task.input_shape, task.outputs)


def anatomy(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[LayerFacts, ...]:
    """The layers of a network that lies on the meta device, in eval mode and without gradients."""
    return layers_of(network, calls_of(network, input_shape))


def calls_of(network: nn.Module, input_shape: tuple[int, ...]) -> dict[str, list[Call]]:
    """The calls of each module of a network on the meta device, for one example.

    By path; the network itself is "". One that is never called is left out.
    """
    calls: dict[str, list[Call]] = {}

    def note(path: str) -> object:
        def hook(module: nn.Module, inputs: object, named: object, output: object) -> None:
            assert isinstance(inputs, tuple)
            assert isinstance(named, dict)
            taken = next(map(shape_of, (*inputs, *named.values())), None)
            calls.setdefault(path, []).append(Call(taken, shape_of(output)))

        return hook

    hooks = [
        module.register_forward_hook(note(path), with_kwargs=True)
        for path, module in network.named_modules()
    ]
    with torch.no_grad():
        network.eval()(torch.zeros(1, *input_shape, device="meta"))
    for hook in hooks:
        hook.remove()
    return calls


def shape_of(value: object) -> Shape | None:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None


def layers_of(network: nn.Module, calls: Mapping[str, Sequence[Call]]) -> tuple[LayerFacts, ...]:
    """The layers of a network whose calls are known."""
    return tuple(
        layer(path, module, calls.get(path, ())) for path, module in network.named_modules() if path
    )


def layer(path: str, module: nn.Module, calls: Sequence[Call]) -> LayerFacts:
    outputs = tuple(call.given for call in calls if call.given is not None)
    counted = [flops_of(module, call.taken, call.given) for call in calls]
    own = [flops for flops in counted if flops is not None]
    return LayerFacts(
        path=path,
        kind=type(module).__name__,
        output_shape=outputs[0][1:] if outputs else None,
        parameters=sum(p.numel() for p in module.parameters(recurse=False)),
        trainable=any(p.requires_grad for p in module.parameters(recurse=False)),
        is_leaf=not any(module.children()),
        depth=path.count("."),
        calls=len(calls),
        outputs=outputs,
        flops=sum(own) if len(own) == len(counted) else None,
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
