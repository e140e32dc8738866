"""starting_weights: begin with what another run has learned."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from trainer.part import Refused
from trainer.setup import Setup
from trainer.sources import RunReference
from trainer.tricks.base import Claim, Exactness, Stage, Trick
from trainer.tricks.naming import NAMES, layers_with_tensors, named, with_weights

MOST_NAMED = 20


class StartingWeights(Trick):
    """Begin with the weights and statistics of a finished run, instead of fresh ones.

    Tensors are taken by name, where the shapes agree; what does not fit stays as it was drawn, and
    the evidence names it. They are taken once, before the first step: a run that is resumed does
    not need its source any more.
    """

    title: ClassVar[str] = "Starting weights"
    stage: ClassVar[Stage] = Stage.MODEL
    exactness: ClassVar[Exactness] = Exactness.DIFFERENT
    claim: ClassVar[Claim] = Claim(
        "accuracy",
        lower=False,
        source="Yosinski and others, How transferable are features in deep neural networks?, 2014",
    )
    helps: ClassVar[tuple[str, ...]] = (
        "Few examples, and a run on something similar with many.",
        "To go on from where a run ended with another learning rate, loss or head.",
    )
    cost: ClassVar[str] = "A run to take from, and its checkpoint."
    traps: ClassVar[tuple[str, ...]] = (
        "Weights that match by name and shape can still mean something else: take them from the "
        "same kind of network.",
        "A head of the same shape that learned other classes is worse than a fresh one; it is left "
        "out unless you say otherwise.",
        "A high learning rate washes out what was taken: lower it, or freeze layers at first.",
        "Batch norm brings the statistics of the source's data along.",
    )
    sources: ClassVar[tuple[str, ...]] = (
        "Kornblith, Shlens and Le, Do Better ImageNet Models Transfer Better?, 2019",
    )
    name: Literal["starting_weights"] = "starting_weights"
    source: RunReference = Field(
        "",
        description="A run's number or its name, or recipe:NAME for the newest finished run of "
        "that recipe.",
    )
    layers: str = Field(
        "",
        max_length=1000,
        pattern=NAMES,
        description="Layers to take: names or patterns with commas between, such as block*, "
        "*.norm. Empty: all.",
    )
    new_head: bool = Field(
        True, description="The last layer with weights starts fresh, as other classes need it."
    )

    def apply(self, setup: Setup) -> None:
        self.wanted(setup.model)
        setup.trick_state[self.name] = taken = Taken()
        setup.initialise.append(lambda placed: taken.note(self.take(placed)))

    def evidence(self, setup: Setup) -> Mapping[str, Any]:
        taken = setup.trick_state[self.name]
        assert isinstance(taken, Taken)
        return taken.report

    def unfit(self, model: nn.Module) -> str:
        """Why there is no layer of this model to take weights for; "" where there is one."""
        try:
            self.wanted(model)
        except Refused as reason:
            return str(reason)
        return ""

    def wanted(self, model: nn.Module) -> set[str]:
        """Paths of the layers whose tensors are to be taken. Refuses names that leave none."""
        layers = layers_with_tensors(model)
        head = with_weights(layers)[-1]
        chosen = set(named(self.layers, layers, self.name) if self.layers.strip() else layers)
        if self.new_head:
            chosen.discard(head)
        if not chosen:
            raise Refused(
                f"starting_weights has nothing to take but {head}, which is to start fresh; name "
                "other layers, or switch new_head off"
            )
        return chosen

    @torch.no_grad()
    def take(self, setup: Setup) -> dict[str, Any]:
        """Copy what fits into the model; gives the report. Refuses a source of which none fits."""
        source = setup.trained(self.source)
        wanted, own = self.wanted(setup.model), setup.model.state_dict()
        on_purpose = [name for name in own if name.rpartition(".")[0] not in wanted]
        asked = [name for name in own if name not in set(on_purpose)]
        shared = [name for name in asked if name in source.model]
        loaded = [name for name in shared if own[name].shape == source.model[name].shape]
        skipped = [
            f"{name}: {shape_of(source.model[name])} there, {shape_of(own[name])} here"
            for name in shared
            if own[name].shape != source.model[name].shape
        ]
        weights = {name for name, _ in setup.model.named_parameters()} & set(loaded)
        if not weights:
            raise Refused(
                f"starting_weights: nothing of run {source.run_id} fits this model"
                f"{'; ' + skipped[0] if skipped else ''}; choose a run with the same network"
            )
        for name in loaded:
            if not torch.isfinite(source.model[name]).all():
                raise Refused(
                    f"starting_weights: {name} of run {source.run_id} holds NaN or infinity: it "
                    "diverged; choose another run"
                )
            own[name].copy_(source.model[name])
        return {
            "source": self.source,
            "run": source.run_id,
            "step": source.step,
            "loaded_weights": sum(own[name].numel() for name in weights),
            "loaded": listed(loaded),
            "skipped": listed(skipped),
            "missing": listed([name for name in asked if name not in source.model]),
            "left_out": listed(on_purpose),
            "unused": listed([name for name in source.model if name not in own]),
        }


class Taken:
    """What was taken from where; saved with every checkpoint, as it is only seen once."""

    def __init__(self) -> None:
        self.report: dict[str, Any] = {}

    def note(self, report: dict[str, Any]) -> None:
        self.report = report

    def state_dict(self) -> dict[str, Any]:
        return self.report

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.report = dict(state)


def shape_of(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def listed(names: list[str]) -> dict[str, Any]:
    """How many they are, and the first of them: a large network has thousands."""
    return {"tensors": len(names), "names": names[:MOST_NAMED]}
