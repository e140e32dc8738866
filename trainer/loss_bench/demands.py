"""What the bench asks of tensors before PyTorch gets them; every refusal names the way out."""

import torch

from trainer.loss_bench.base import MOST_CLASSES, BenchLoss
from trainer.loss_bench.number_text import Unfit, numbers, shape_of


def read(field: str, text: str) -> torch.Tensor:
    try:
        return numbers(text).tensor()
    except ValueError as wrong:
        raise Unfit(field, str(wrong)) from None


def must_be_finite(tensor: torch.Tensor, field: str = "target") -> None:
    if not bool(tensor.isfinite().all()):
        raise Unfit(
            field,
            f"a {field} that is infinite or NaN as float32 makes every loss infinite or NaN; "
            "write a finite number",
        )


def must_be_between(
    tensor: torch.Tensor, lowest: float, highest: float, field: str, way_out: str
) -> None:
    wrong = ~((tensor >= lowest) & (tensor <= highest))
    if bool(wrong.any()):
        raise Unfit(field, f"{tensor[wrong].flatten()[0].item():g} is no probability: {way_out}")


def must_be_probabilities(target: torch.Tensor) -> None:
    if bool((target < 0).any()):
        least = target.min().item()
        raise Unfit("target", f"{least:g} is no probability: write numbers from 0 to 1")


def must_have_few_classes(input: torch.Tensor) -> None:
    if input.shape[1] > MOST_CLASSES:
        raise Unfit(
            "input",
            f"{input.shape[1]} classes, and the bench takes at most {MOST_CLASSES}; leave some out",
        )


def must_stretch(field: str, given: torch.Tensor, input: torch.Tensor) -> None:
    """Refuses a weight that PyTorch cannot broadcast to the input, or by which it would grow."""
    try:
        given.broadcast_to(input.shape)
        fits = True
    except RuntimeError:
        fits = False
    if not fits:
        raise Unfit(
            field,
            f"{field} {shape_of(given.shape)} does not go with inputs {shape_of(input.shape)}; "
            "give it the same shape, or one number per column",
        )


def must_have_one_shape(loss: BenchLoss, input: torch.Tensor, target: torch.Tensor) -> None:
    if input.shape == target.shape:
        return
    found = f"inputs {shape_of(input.shape)} and targets {shape_of(target.shape)}: "
    if loss.family == "distance":
        found += what_broadcasting_does(loss, input, target)
    else:
        found += f"{loss.torch_name} wants one shape for both"
    if input.numel() == target.numel():
        signs = "1;2;3 is a column (3, 1), 1,2,3 a row (3,)"
        raise Unfit("target", f"{found}. Write the targets as {shape_of(input.shape)}: {signs}")
    raise Unfit("target", f"{found}. Give one target for each input, {shape_of(input.shape)}")


def what_broadcasting_does(loss: BenchLoss, input: torch.Tensor, target: torch.Tensor) -> str:
    try:
        shape = (input + target).shape
    except RuntimeError:
        return "they do not fit, and PyTorch stops with an error"
    stretched = input.broadcast_to(shape), target.broadcast_to(shape)
    value = loss.module(loss.arguments(*stretched), "mean")(*stretched).item()
    return (
        f"PyTorch would stretch both to {shape_of(shape)}, compare every input with "
        f"every target and give {value:.4g}, with no more than a warning"
    )
