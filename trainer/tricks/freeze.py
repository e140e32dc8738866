"""freeze: layers that stay as they are while the others learn."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from trainer.part import Refused
from trainer.setup import Setup
from trainer.tricks.base import Claim, Exactness, Stage, Trick
from trainer.tricks.naming import NAMES, layers_with_tensors, named, split, with_weights

# every kind that keeps running statistics has this for a parent; PyTorch has no public name for it
BatchNorm = nn.modules.batchnorm._BatchNorm
MOST_NAMED = 5


class Freeze(Trick):
    """Keep some layers exactly as they are, and train the others.

    A frozen weight gets no gradient, no weight decay and no place in the optimizer, and a frozen
    batch norm normalises with the statistics that it has instead of gathering new ones: otherwise
    it would go on changing, though none of its weights does. When the run ends every frozen
    tensor is compared with what it was before the first step, to the bit.
    """

    title: ClassVar[str] = "Freeze layers"
    stage: ClassVar[Stage] = Stage.MODEL
    exactness: ClassVar[Exactness] = Exactness.DIFFERENT
    claim: ClassVar[Claim] = Claim(
        "train_seconds",
        lower=True,
        source="Yosinski and others, How transferable are features in deep neural networks?, 2014",
    )
    traps: ClassVar[tuple[str, ...]] = (
        "Frozen from the start, fresh layers never learn: freeze what was trained before.",
        "A frozen batch norm in training mode goes on moving its running statistics.",
        "Only layers before the first trained one save their backward pass: freezing the last "
        "layers saves next to nothing.",
        "Freezing a weight whose gradient is zero and not None lets momentum and weight decay "
        "move it on; here gradients of frozen weights are None.",
    )
    name: Literal["freeze"] = "freeze"
    layers: str = Field(
        "",
        max_length=1000,
        pattern=NAMES,
        description="Names or patterns with commas between, such as block1, *.norm; what is inside "
        "a layer is frozen with it. Empty: all but the last layer that has weights.",
    )
    keep_statistics: bool = Field(
        True,
        description="Frozen batch norm uses its running statistics and keeps them, as it does when "
        "evaluating. Off: it goes on with those of the batch.",
    )

    def apply(self, setup: Setup) -> None:
        frozen = self.frozen(setup.model)
        norms = [module for module in frozen.values() if isinstance(module, BatchNorm)]
        for module in frozen.values():
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
        if self.keep_statistics:
            for norm in norms:
                # at every pass: whoever calls model.train() turns all of its layers back
                norm.register_forward_pre_hook(stay_in_eval)
        kept = {path: m for path, m in frozen.items() if self.keeps(m)}
        setup.trick_state[self.name] = untouched = Untouched(setup.model, kept, list(frozen))
        # not yet: starting weights are still to come
        setup.initialise.append(untouched.remember)

    def evidence(self, setup: Setup) -> Mapping[str, Any]:
        untouched = setup.trick_state[self.name]
        assert isinstance(untouched, Untouched)
        weights = list(setup.model.parameters())
        trained = {id(p) for group in setup.optimizer.param_groups for p in group["params"]}
        moved = untouched.moved()
        return {
            "layers": len(untouched.paths),
            "frozen_weights": sum(w.numel() for w in weights if not w.requires_grad),
            "trained_weights": sum(w.numel() for w in weights if w.requires_grad),
            "frozen_in_optimizer": sum(id(w) in trained for w in weights if not w.requires_grad),
            "compared_tensors": len(untouched.before),
            "unchanged": not moved,
            "moved": moved[:MOST_NAMED],
        }

    def unfit(self, model: nn.Module) -> str:
        """Why it has nothing to freeze, or nothing to train, in this model; "" where it has."""
        try:
            self.frozen(model)
        except Refused as reason:
            return str(reason)
        return ""

    def frozen(self, model: nn.Module) -> dict[str, nn.Module]:
        """The layers to freeze that hold tensors, by path. Refuses a pattern that names none."""
        own = layers_with_tensors(model)
        weighted = with_weights(own)
        frozen = named(self.layers, own, self.name)
        if not split(self.layers):
            frozen = {path: module for path, module in own.items() if path != weighted[-1]}
        if not frozen:
            raise Refused("freeze: this model has one layer with weights; it has to learn")
        if set(weighted) <= set(frozen):
            raise Refused("freeze leaves nothing to train; name fewer layers")
        return frozen

    def keeps(self, module: nn.Module) -> bool:
        """Whether all tensors of a frozen layer are to stay; else its weights alone do."""
        return self.keep_statistics or not isinstance(module, BatchNorm)


class Untouched:
    """What the frozen tensors were before the first step; saved with every checkpoint."""

    def __init__(
        self, model: nn.Module, with_buffers: Mapping[str, nn.Module], paths: list[str]
    ) -> None:
        self.model, self.with_buffers, self.paths = model, frozenset(with_buffers), paths
        self.before: dict[str, str] = {}

    def remember(self, setup: Setup) -> None:
        self.before = dict(self.fingerprints())

    def fingerprints(self) -> Iterator[tuple[str, str]]:
        modules = dict(self.model.named_modules())
        for path in self.paths:
            tensors = dict(modules[path].named_parameters(recurse=False))
            if path in self.with_buffers:
                tensors |= dict(modules[path].named_buffers(recurse=False))
            for name, tensor in tensors.items():
                yield f"{path}.{name}", fingerprint(tensor)

    def moved(self) -> list[str]:
        """The frozen tensors of which a bit has changed."""
        return [name for name, now in self.fingerprints() if self.before.get(name) != now]

    def state_dict(self) -> dict[str, Any]:
        return {"before": self.before}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.before = dict(state["before"])


def stay_in_eval(module: nn.Module, inputs: object) -> None:
    module.training = False


def fingerprint(tensor: torch.Tensor) -> str:
    """The SHA-256 of a tensor's bits, shortened; NaN is equal to itself."""
    content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(content.numpy().tobytes()).hexdigest()[:16]
