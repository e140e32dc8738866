"""layerwise_learning_rate: layers learn at rates of their own, lower the deeper they lie."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator
from torch import nn

from trainer.part import Refused
from trainer.setup import Setup
from trainer.tricks.base import Claim, Exactness, Stage, Trick
from trainer.tricks.naming import is_inside, layers_with_tensors, named, split, top_of

MOST_NAMED = 20


class LayerwiseLearningRate(Trick):
    """Let layers learn more slowly the farther they are from the result.

    The outermost modules are counted from the last one down: it keeps the full rate, the one
    before it gets the decay, the next the decay squared. What the first layers have learned is
    general and needs little change; a fresh head needs much. The recorded learning rate is the
    full one.
    """

    title: ClassVar[str] = "Learning rate by depth"
    stage: ClassVar[Stage] = Stage.OPTIMIZER
    exactness: ClassVar[Exactness] = Exactness.DIFFERENT
    claim: ClassVar[Claim] = Claim(
        "accuracy",
        lower=False,
        source="Howard and Ruder, Universal language model fine-tuning for text classification, "
        "2018",
    )
    helps: ClassVar[tuple[str, ...]] = (
        "With starting weights: deep layers keep what they know, the head learns fast.",
    )
    cost: ClassVar[str] = "One more number to choose."
    traps: ClassVar[tuple[str, ...]] = (
        "For layers that start fresh, a lower rate is only slower: begin with trained weights.",
        "A small decay over many modules leaves the first ones all but frozen.",
        "AdamW's weight decay is multiplied by the rate, so deep layers are pulled less too.",
    )
    sources: ClassVar[tuple[str, ...]] = (
        "Clark and others, ELECTRA, 2020, section 3.1, for a decay by depth",
    )
    name: Literal["layerwise_learning_rate"] = "layerwise_learning_rate"
    decay: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Factor of the rate from one outermost module to the one before it.",
    )
    factors: str = Field(
        "",
        max_length=1000,
        pattern=r"^[\w.*?\[\]!=, -]*$",
        description="Layers with a factor of their own instead, with commas between, such as "
        "head=2, *.norm=0.5; of several that fit the last counts.",
    )

    @field_validator("factors")
    @classmethod
    def are_patterns_with_numbers(cls, text: str) -> str:
        parsed(text)
        return text

    def apply(self, setup: Setup) -> None:
        learning = [name for name, p in setup.model.named_parameters() if p.requires_grad]
        factors = self.factors_of(setup.model, {*learning, *setup.learns_later})
        setup.parameter_rules.append(lambda name, parameter: {"lr_factor": factors[name]})

    def evidence(self, setup: Setup) -> Mapping[str, Any]:
        paths = {id(p): name.rpartition(".")[0] for name, p in setup.model.named_parameters()}
        return {
            "groups": [
                {
                    "layers": sorted({paths[id(p)] for p in group["params"]})[:MOST_NAMED],
                    "weights": sum(p.numel() for p in group["params"]),
                    "factor": group["lr_factor"],
                    "peak_rate": group["peak_lr"],
                    "last_rate": group["lr"],
                }
                for group in setup.optimizer.param_groups
            ],
        }

    def unfit(self, model: nn.Module, learning: Iterable[str]) -> str:
        """Why it would change nothing for these parameters; "" where it changes something."""
        try:
            self.factors_of(model, learning)
        except Refused as reason:
            return str(reason)
        return ""

    def factors_of(self, model: nn.Module, learning: Iterable[str]) -> dict[str, float]:
        """What each parameter's rate is multiplied by. Refuses where that is 1 for all."""
        layers = layers_with_tensors(model)
        own = parsed(self.factors)
        for pattern in own:
            named(pattern, layers, self.name)
        tops = list(dict.fromkeys(top_of(name) for name, _ in model.named_parameters()))
        factors = {name: self.decay ** tops[::-1].index(top_of(name)) for name in learning}
        for name in factors:
            for pattern, factor in own.items():
                if is_inside(name.rpartition(".")[0], pattern):
                    factors[name] = factor
        if all(factor == 1 for factor in factors.values()):
            raise Refused(
                "layerwise_learning_rate changes nothing: every layer that learns keeps the full "
                "rate; choose a decay below 1, or name factors, or let more layers learn than "
                "freeze does"
            )
        return factors


def parsed(text: str) -> dict[str, float]:
    """Patterns with their factors. Raises ValueError for what is no pattern=number."""
    found = {}
    for part in split(text):
        pattern, _, number = (piece.strip() for piece in part.partition("="))
        try:
            factor = float(number)
        except ValueError:
            factor = math.nan
        if not pattern or not 0 < factor <= 1000:
            raise ValueError(
                f"{part!r} is no layer=factor with a factor above 0 and up to 1000, such as "
                "head=2; to leave layers as they are, use freeze"
            )
        found[pattern] = factor
    return found
