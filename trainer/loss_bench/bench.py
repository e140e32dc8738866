"""Found: a loss of a few numbers taken apart: its elements, gradient, totals and PyTorch call."""

import math
from dataclasses import dataclass

import torch

from trainer.loss_bench.base import Arguments, BenchLoss
from trainer.loss_bench.number_text import as_rows, place


@dataclass(frozen=True)
class Total:
    """What one reduction makes of the elements."""

    reduction: str
    value: float | None
    """None where it keeps them all."""
    divides_by: float | None
    how: str
    """What that is, in words."""
    is_chosen: bool


@dataclass(frozen=True)
class Found:
    """Everything that follows from a loss and its numbers. All in float32, as in training."""

    loss: BenchLoss
    input: torch.Tensor
    target: torch.Tensor
    arguments: Arguments
    elements: torch.Tensor
    """As reduction="none" gives them: the shape of the input, without classes where it has any."""
    gradient: torch.Tensor
    """Of the reduced loss, for each input; of none the gradient of the sum."""
    totals: tuple[Total, ...]
    at: int
    """The chosen input, counted in order."""

    @property
    def is_over_classes(self) -> bool:
        return self.loss.family == "classes"

    @property
    def has_probabilities(self) -> bool:
        """Whether targets are the probability of each class."""
        return self.is_over_classes and self.target.is_floating_point()

    @property
    def spot(self) -> tuple[int, int]:
        """The chosen input as place and class; the class is 0 where there are none."""
        if not self.is_over_classes:
            return self.at, 0
        inner = math.prod(self.input.shape[2:])
        example, rest = divmod(self.at, self.input.shape[1] * inner)
        label, pixel = divmod(rest, inner)
        return example * inner + pixel, label

    @property
    def chosen(self) -> Total:
        return next(total for total in self.totals if total.is_chosen)

    @property
    def value(self) -> float:
        """The loss of the chosen element, before any reduction."""
        return float(self.elements.flatten()[self.spot[0]])

    @property
    def place(self) -> str:
        return place(self.at, self.input.shape)

    def by_place(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor (N, C, …) as one row per place: (places, C)."""
        return tensor.movedim(1, -1).reshape(-1, tensor.shape[1])

    @property
    def call(self) -> str:
        """Python that gives the same, to be pasted."""
        codes = self.loss.codes(self.arguments)
        flags = self.loss.old_flags
        codes |= {name: repr(value) for name, value in flags.items()}
        if self.loss.reduction != "mean" or flags:
            codes["reduction"] = repr(self.loss.reduction)
        arguments = ", ".join(f"{name}={code}" for name, code in codes.items())
        backward = "loss.sum().backward()" if self.chosen.value is None else "loss.backward()"
        today = f"  # today: reduction={self.loss.reduced_by!r}" if flags else ""
        return "\n".join(
            [
                "import torch",
                "",
                f"input = {as_rows(self.input)}.requires_grad_()",
                f"target = {as_rows(self.target)}",
                f"loss_fn = torch.nn.{self.loss.torch_name}({arguments}){today}",
                "loss = loss_fn(input, target)",
                backward,
                "print(loss, input.grad)",
            ]
        )


def find(loss: BenchLoss, at: int = 0) -> Found:
    """Take a loss apart, looking closer at one input. Raises Unfit where PyTorch could not."""
    input, target = loss.tensors()
    arguments = loss.arguments(input, target)
    wanted = input.clone().requires_grad_()
    value = reduced(loss, arguments, wanted, target, loss.reduced_by)
    (gradient,) = torch.autograd.grad(value.sum(), wanted)
    elements = reduced(loss, arguments, input, target, "none")
    return Found(
        loss=loss,
        input=input,
        target=target,
        arguments=arguments,
        elements=elements,
        gradient=gradient,
        totals=totals(loss, arguments, input, target),
        at=min(max(at, 0), input.numel() - 1),
    )


def reduced(
    loss: BenchLoss,
    arguments: Arguments,
    input: torch.Tensor,
    target: torch.Tensor,
    reduction: str,
) -> torch.Tensor:
    """PyTorch's own value."""
    if loss.family == "divergence" and reduction == "mean":
        # the same number, without the warning that it is no mathematical mean
        return reduced(loss, arguments, input, target, "none").mean()
    value: torch.Tensor = loss.module(arguments, reduction)(input, target)
    return value


def totals(
    loss: BenchLoss, arguments: Arguments, input: torch.Tensor, target: torch.Tensor
) -> tuple[Total, ...]:
    """What each reduction gives, in the order none, mean, sum."""
    names = ["none", "mean", "sum"]
    if loss.family == "divergence":
        names.insert(2, "batchmean")
    found = []
    for name in names:
        value = None if name == "none" else reduced(loss, arguments, input, target, name).item()
        over, how = divisor(loss, arguments, input, target, name)
        found.append(Total(name, value, over, how, name == loss.reduced_by))
    return tuple(found)


def divisor(
    loss: BenchLoss,
    arguments: Arguments,
    input: torch.Tensor,
    target: torch.Tensor,
    reduction: str,
) -> tuple[float | None, str]:
    """What a reduction divides the sum by, and what that is."""
    if reduction == "none":
        return None, "nothing: every value is kept"
    if reduction == "sum":
        return 1.0, "nothing"
    if reduction == "batchmean":
        return float(len(input)), "the examples: the first axis"
    if loss.family != "classes":
        weighs = "weight" in arguments or "pos_weight" in arguments
        return float(input.numel()), "all elements" + (", whatever they weigh" if weighs else "")
    return class_divisor(arguments, input, target)


def class_divisor(
    arguments: Arguments, input: torch.Tensor, target: torch.Tensor
) -> tuple[float, str]:
    weight = arguments.get("weight")
    if target.is_floating_point():
        places = float(target.numel() // target.shape[1])
        return places, "the places" + (", whatever they weigh" if weight is not None else "")
    counted = target[target != arguments.get("ignore_index", -100)]
    if weight is None:
        return float(counted.numel()), "the targets that count"
    return weight[counted].sum().item(), "Σ w[y]: the weights of the targets that count"
