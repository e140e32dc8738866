"""freeze: layers that stay as they are while the others learn."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from trainer.part import Refused
from trainer.setup import Setup
from trainer.tricks.base import Claim, Exactness, Stage, Trick
from trainer.tricks.frozen import Frozen, thaws
from trainer.tricks.naming import NAMES, layers_with_tensors, named, split, with_weights

MOST_NAMED = 5


class Freeze(Trick):
    """Keep some layers exactly as they are, and train the others.

    A frozen weight gets no gradient, no weight decay and no place in the optimizer, and a frozen
    batch norm normalises with the statistics that it has instead of gathering new ones: otherwise
    it would go on changing, though none of its weights does. Layers can thaw after some epochs:
    they come into the optimizer, which keeps what it knows of the others. Every frozen tensor is
    compared with what it was before the first step, to the bit, when it thaws or the run ends.
    """

    title: ClassVar[str] = "Freeze layers"
    stage: ClassVar[Stage] = Stage.MODEL
    exactness: ClassVar[Exactness] = Exactness.DIFFERENT
    claim: ClassVar[Claim] = Claim(
        "train_seconds",
        lower=True,
        source="Yosinski and others, How transferable are features in deep neural networks?, 2014",
    )
    helps: ClassVar[tuple[str, ...]] = (
        "Few examples, and layers that were trained before on something like them.",
        "First layers frozen save their backward pass, and the memory of what it needs.",
    )
    cost: ClassVar[str] = "What is frozen cannot adapt."
    traps: ClassVar[tuple[str, ...]] = (
        "Frozen from the start, fresh layers never learn: freeze what was trained before.",
        "A frozen batch norm in training mode goes on moving its running statistics.",
        "Only layers before the first trained one save their backward pass: freezing the last "
        "layers saves next to nothing.",
        "Freezing a weight whose gradient is zero and not None lets momentum and weight decay "
        "move it on; here gradients of frozen weights are None.",
        "Thawed while the rate is high, layers forget what they had learned: thaw late in the "
        "schedule, or give deep layers a lower rate.",
    )
    sources: ClassVar[tuple[str, ...]] = (
        "PyTorch tutorials, Transfer Learning for Computer Vision",
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

    unfreeze: Literal["never", "at_once", "from_the_top"] = Field(
        "never",
        description="Whether frozen layers learn later: at_once all of them, from_the_top one "
        "outermost module after the other, the one nearest to the result first.",
    )
    unfreeze_epoch: int = Field(
        1, ge=1, le=100_000, description="After how many epochs the first of them begin to learn."
    )
    unfreeze_every: int = Field(
        1, ge=1, le=100_000, description="Epochs from one module to the next, from the top."
    )

    def apply(self, setup: Setup) -> None:
        layers = self.frozen(setup.model)
        if late := self.too_late(setup.epochs):
            raise Refused(late)
        schedule = thaws(list(layers), self.unfreeze, self.unfreeze_epoch, self.unfreeze_every)
        setup.trick_state[self.name] = frozen = Frozen(
            setup, layers, self.keep_statistics, schedule
        )
        frozen.freeze()
        # not yet: starting weights are still to come
        setup.initialise.append(frozen.remember)
        if schedule:
            setup.on_epoch.append(frozen.thaw_due)

    def evidence(self, setup: Setup) -> Mapping[str, Any]:
        frozen = setup.trick_state[self.name]
        assert isinstance(frozen, Frozen)
        weights = list(setup.model.parameters())
        trained = {id(p) for group in setup.optimizer.param_groups for p in group["params"]}
        moved = frozen.all_moved()
        return {
            "layers": len(frozen.layers),
            "frozen_weights": sum(w.numel() for w in weights if not w.requires_grad),
            "trained_weights": sum(w.numel() for w in weights if w.requires_grad),
            "frozen_in_optimizer": sum(id(w) in trained for w in weights if not w.requires_grad),
            "compared_tensors": len(frozen.before),
            "unchanged": not moved,
            "moved": moved[:MOST_NAMED],
            "thawed": [
                {"layers": thaw.name, "after_epoch": thaw.after_epoch, "after_step": thaw.step}
                for thaw in frozen.thaws
                if thaw.step is not None
            ],
        }

    def too_late(self, epochs: int) -> str:
        """Why nothing would ever thaw in a run of so many epochs; "" where something does."""
        if self.unfreeze == "never" or self.unfreeze_epoch < epochs:
            return ""
        return (
            f"freeze: the run has {epochs} epochs, so nothing learns after {self.unfreeze_epoch}; "
            "choose an earlier unfreeze_epoch, more epochs, or unfreeze never"
        )

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
