"""Remarks: what somebody who knows PyTorch well would say of these very numbers."""

import math
from collections.abc import Callable

from trainer.loss_bench.bench import Found, Total

Remark = Callable[[Found], str | None]


def remarks(found: Found) -> list[str]:
    """Sentences in the order of their weight: what is not finite first, then what misleads."""
    return [text for remark in REMARKS if (text := remark(found))]


def told(value: float | None) -> str:
    assert value is not None
    return f"{value:.4g}"


def total(found: Found, reduction: str) -> Total:
    return next(one for one in found.totals if one.reduction == reduction)


# -- what is not finite ---------------------------------------------------------------------


def nothing_counts(found: Found) -> str | None:
    if found.loss.family != "classes" or total(found, "mean").divides_by != 0:
        return None
    if found.arguments.get("weight") is None:
        ignored = found.arguments.get("ignore_index", -100)
        return (
            f"Every target is {ignored}, the ignore_index, so the mean is 0 / 0: NaN, and its "
            "gradient as well. In training one such batch ruins every weight; skip it, or use sum "
            "and divide by max(1, targets that count)."
        )
    return "The weights of all targets that count add up to 0, so the mean is 0 / 0: NaN."


def is_not_finite(found: Found) -> str | None:
    if found.elements.isfinite().all():
        return None
    if not found.input.isfinite().all() and found.loss.inputs_are == "logits":
        return (
            "An infinite or missing score makes the loss NaN or infinite: softmax and sigmoid "
            "then subtract infinity from infinity."
        )
    if found.loss.inputs_are == "logarithms":
        return (
            "A logarithm of -inf is a probability of exactly 0: where the target wants that class "
            "the loss is infinite, and 0 · ∞ is NaN. Take log_softmax, which never gives it for "
            "finite scores, instead of softmax().log()."
        )
    if found.input.isfinite().all():
        return "float32 ends at 3.4e38: what is larger becomes infinite."
    return "An input is infinite or NaN, and so is its loss."


# -- what misleads --------------------------------------------------------------------------


def old_flags_override(found: Found) -> str | None:
    flags = found.loss.old_flags
    if not flags:
        return None
    written = " and ".join(f"{name}={value}" for name, value in flags.items())
    chosen, by = found.loss.reduction, found.loss.reduced_by
    silently = f" and silently overrides reduction={chosen!r}" if chosen != by else ""
    return f"{written} means reduction={by!r} today{silently}. PyTorch only warns; drop the flags."


def weights_divide(found: Found) -> str | None:
    if found.loss.family != "classes" or "weight" not in found.arguments:
        return None
    over = told(total(found, "mean").divides_by)
    if found.has_probabilities:
        return (
            f"With probability targets the mean divides by the {over} places and forgets the "
            "weights; with class numbers it would divide by Σ w[y]. Mixup with class weights "
            "changes the size of the loss for that reason alone."
        )
    counted = found.target[found.target != found.arguments.get("ignore_index", -100)].numel()
    return (
        f"The mean divides by Σ w[y] = {over}, not by the {counted} targets that count. Two "
        "batches with other classes in them are therefore averaged differently, and the mean of "
        "their means is not the mean of both: with gradient accumulation divide by the weights of "
        "the whole window."
    )


def element_weights_do_not_divide(found: Found) -> str | None:
    weight = found.arguments.get("weight")
    if found.loss.family != "binary" or weight is None:
        return None
    over = found.input.numel()
    weighed = weight.broadcast_to(found.input.shape).sum().item()
    return (
        f"The mean divides by the {over} elements, not by their weights Σ w = {told(weighed)}: "
        "larger weights make a larger loss and a larger step. CrossEntropyLoss does it the other "
        "way."
    )


def sigmoid_saturates(found: Found) -> str | None:
    if found.loss.torch_name != "BCELoss":
        return None
    if not bool(((found.elements > 50) & ((found.input == 0) | (found.input == 1))).any()):
        return None
    return (
        "A sigmoid beyond about 17 is exactly 1 in float32. PyTorch keeps the logarithm above "
        "-100, so the loss says 100 however wrong the score was, and the sigmoid's own gradient "
        "is 0: such an example teaches nothing. BCEWithLogitsLoss gives the score itself."
    )


def targets_need_no_limits(found: Found) -> str | None:
    target = found.target
    if found.loss.torch_name != "BCEWithLogitsLoss":
        return None
    if bool(((target < 0) | (target > 1)).any()):
        return (
            "Targets may be any number between 0 and 1. PyTorch takes others without a word, but "
            "then the loss has no least value: it falls for ever as the score grows."
        )
    return None


def inputs_are_no_logarithms(found: Found) -> str | None:
    if found.loss.inputs_are != "logarithms" or found.input.dim() < 2:
        return None
    sums = found.by_place(found.input).exp().sum(1)
    worst = float(sums[(sums - 1).abs().argmax()])
    if math.isnan(worst) or abs(worst - 1) < 0.01:
        return None
    return (
        f"exp of one row adds up to {told(worst)}, not to 1: these are no logarithms of "
        "probabilities, and PyTorch does not look. Put log_softmax before the loss."
    )


def targets_do_not_add_up(found: Found) -> str | None:
    is_divergence = found.loss.family == "divergence" and found.target.dim() >= 2
    if not is_divergence and not found.has_probabilities:
        return None
    rows = found.by_place(found.target)
    sums = (rows.exp() if getattr(found.loss, "log_target", False) else rows).sum(1)
    worst = float(sums[(sums - 1).abs().argmax()])
    if abs(worst - 1) < 0.01:
        return None
    return (
        f"The probabilities of one target add up to {told(worst)}, not to 1; PyTorch does not "
        "look and takes them as weights."
    )


def mean_is_no_divergence(found: Found) -> str | None:
    if found.loss.family != "divergence":
        return None
    mean, batchmean = (total(found, name).value for name in ("mean", "batchmean"))
    each = found.input.numel() // len(found.input)
    return (
        f"mean divides by every element and gives {told(mean)}; the divergence is batchmean, "
        f"{told(batchmean)}, which is {each} times as much, as every example has {each} numbers."
    )


# -- what is worth knowing ------------------------------------------------------------------


def smooth_l1_is_huber(found: Found) -> str | None:
    turn = getattr(found.loss, "beta", getattr(found.loss, "delta", None))
    if not turn:
        return None
    if turn == 1:
        return (
            "With 1 SmoothL1Loss and HuberLoss are the same. With any other turn smooth L1 is "
            "Huber divided by it: change it and see."
        )
    is_smooth = found.loss.torch_name == "SmoothL1Loss"
    factor = 1 / turn if is_smooth else turn
    this, other = ("SmoothL1Loss", "HuberLoss") if is_smooth else ("HuberLoss", "SmoothL1Loss")
    mean = total(found, "mean").value
    assert mean is not None
    by = "beta" if is_smooth else "delta"
    sign = "/" if is_smooth else "·"
    return (
        f"{this}({by}={turn:g}) is {other} with the same turn {sign} {turn:g}: "
        f"{mean / factor:.4g} {sign} {turn:g} = {told(mean)}. The slope beyond the turn is "
        f"{'1 whatever beta is' if is_smooth else 'delta'}."
    )


def no_slope_at_the_target(found: Found) -> str | None:
    if found.loss.torch_name != "L1Loss" or not bool((found.input == found.target).any()):
        return None
    return "Where input equals target the absolute value has a corner; PyTorch takes slope 0 there."


def softmax_minus_target(found: Found) -> str | None:
    if found.loss.torch_name != "CrossEntropyLoss":
        return None
    smoothing = getattr(found.loss, "label_smoothing", 0.0)
    if smoothing and "weight" not in found.arguments and not found.has_probabilities:
        return (
            f"With label smoothing the loss never gets to 0: {told(least(found, smoothing))} is "
            "the least, the entropy of the smoothed target."
        )
    if "weight" in found.arguments:
        return None
    return (
        "The gradient of a place is softmax(x) minus its target, divided as the loss is: it adds "
        "up to 0, so what one class gains the others lose."
    )


def least(found: Found, smoothing: float) -> float:
    classes = found.input.shape[1]
    shares = [smoothing / classes] * (classes - 1) + [1 - smoothing + smoothing / classes]
    return -sum(share * math.log(share) for share in shares if share)


def only_the_target_counts(found: Found) -> str | None:
    if found.loss.torch_name != "NLLLoss":
        return None
    return (
        "Only the input of the target's class has a gradient; the others are reached through the "
        "log_softmax before. The two together are CrossEntropyLoss."
    )


def none_needs_a_scalar(found: Found) -> str | None:
    if found.loss.reduced_by != "none":
        return None
    return (
        "backward() needs one number, so with none you reduce yourself; the gradient here is that "
        "of the sum."
    )


REMARKS: tuple[Remark, ...] = (
    nothing_counts,
    is_not_finite,
    old_flags_override,
    weights_divide,
    element_weights_do_not_divide,
    sigmoid_saturates,
    targets_need_no_limits,
    inputs_are_no_logarithms,
    targets_do_not_add_up,
    mean_is_no_divergence,
    smooth_l1_is_huber,
    no_slope_at_the_target,
    softmax_minus_target,
    only_the_target_counts,
    none_needs_a_scalar,
)
