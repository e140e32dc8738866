"""BenchLoss: a loss of torch.nn as the bench takes it, with every argument that PyTorch has.

Unlike trainer.losses, which take raw scores only, these take what the classes of torch.nn take:
BCELoss probabilities, NLLLoss and KLDivLoss their logarithms.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from trainer.loss_bench.number_text import as_code
from trainer.part import Part

MOST_CLASSES = 20
Family = Literal["distance", "binary", "classes", "divergence"]
Inputs = Literal["numbers", "probabilities", "logits", "logarithms"]
"""What a loss takes; logarithms are those of probabilities."""
Arguments = Mapping[str, Any]
"""What a class of torch.nn is made with, by name."""


class BenchLoss(Part):
    """A loss with its arguments, what is put in and what is wanted."""

    family: ClassVar[Family]
    torch_name: ClassVar[str]
    """What it is called in torch.nn."""
    inputs_are: ClassVar[Inputs]

    input: str
    target: str
    reduction: Literal["mean", "sum", "none"] = Field(
        "mean", description="What becomes of the values per element."
    )

    @property
    def old_flags(self) -> dict[str, bool]:
        """Those of PyTorch before 0.4.1 that are given."""
        flags = {name: getattr(self, name, None) for name in ("size_average", "reduce")}
        return {name: value for name, value in flags.items() if value is not None}

    @property
    def reduced_by(self) -> str:
        """The reduction that counts: that of the old flags where one is given.

        As torch.nn._reduction.legacy_get_string maps them.
        """
        flags = self.old_flags
        if not flags:
            return self.reduction
        if flags.get("reduce") is False:
            return "none"
        return "sum" if flags.get("size_average") is False else "mean"

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Input and target as PyTorch is to get them. Raises Unfit where it could not use them."""
        raise NotImplementedError

    def arguments(self, input: torch.Tensor, target: torch.Tensor) -> Arguments:
        """All arguments but reduction and old flags that differ from PyTorch's own.

        Raises Unfit where one does not go with the tensors.
        """
        return {}

    def codes(self, arguments: Arguments) -> dict[str, str]:
        """The same as Python."""
        return {
            name: as_code(value) if isinstance(value, torch.Tensor) else repr(value)
            for name, value in arguments.items()
        }

    def module(self, arguments: Arguments, reduction: str = "none") -> torch.nn.Module:
        made = getattr(torch.nn, self.torch_name)(**arguments, reduction=reduction)
        assert isinstance(made, torch.nn.Module)
        return made


class WithOldFlags(BenchLoss):
    """A loss that still takes the flags of PyTorch before 0.4.1."""

    size_average: bool | None = Field(
        None, description="Of PyTorch before 0.4.1: off meant sum. It overrides reduction."
    )
    reduce: bool | None = Field(
        None, description="Of PyTorch before 0.4.1: off meant none, whatever size_average says."
    )
