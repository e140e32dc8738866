"""Remarks: what can be learned from a call that PyTorch carried out without a word."""

import math
from collections.abc import Iterator, Sequence

from trainer.layouts import MEMORY_FORMATS, Step, listed, why_not

RESHAPING = ("view", "view_as", "reshape")


def remarks(step: Step) -> tuple[str, ...]:
    """Sentences about the memory of a call that worked; none where its figures say it all."""
    return () if step.after is None else tuple(of_memory(step, step.after.shape))


def trap(step: Step) -> str:
    """What a call did although, by its sizes, another thing may have been meant; or nothing."""
    if step.after is None or step.call.name not in RESHAPING:
        return ""
    before, after = step.before.shape, step.after.shape
    if axis := folded_axis(before, after):
        return not_folded(before, after, axis)
    if are_exchanged(before, after):
        return (
            f"{listed(before, ' x ')} became {listed(after, ' x ')}, and no axis was exchanged "
            "for another: the elements still come in the same order and are cut into rows "
            "elsewhere. transpose and permute exchange axes."
        )
    return ""


def of_memory(step: Step, after: tuple[int, ...]) -> Iterator[str]:
    """Why it was a copy, or why it was none."""
    name, order = step.call.name, step.before.order
    if name in ("reshape", "flatten"):
        if step.is_shared:
            yield "Here it is a view: every new axis lies inside old ones that follow one another."
        else:
            cause, _ = why_not(step.before, after)
            yield f"No view can do this, so {name} copies without saying so: {cause}."
        if order.startswith("channels_last"):
            yield of_channels_last(order)
    elif name == "contiguous" or name in MEMORY_FORMATS:
        if step.is_shared:
            yield "It lies in that order already: this gives back the same tensor."
        else:
            yield "A copy in the new order; strides of later calls begin anew from it."
    elif name in ("permute", "transpose") and step.before.strides != (
        step.after.strides if step.after else ()
    ):
        yield "No element moves: the strides change places, and the walk jumps instead."


def of_channels_last(order: str) -> str:
    pixels, inner = ("frame, row and column", 3) if order.endswith("3d") else ("row and column", 2)
    return (
        f"Of a {order} tensor flatten(1) is free only with one channel or one pixel; flatten(2), "
        f"which joins {pixels} alone, always is: in memory those {inner} axes follow one another, "
        "and the channels are what lies between."
    )


def folded_axis(before: Sequence[int], after: Sequence[int]) -> int:
    """The axis whose size went into the first axis past others that hold elements; 0 for none."""
    for axis in range(2, len(before)):
        first, *rest = (*before[:axis], *before[axis + 1 :])
        passes = math.prod(before[1:axis]) > 1 and before[axis] > 1
        if passes and [first * before[axis], *rest] == list(after):
            return axis
    return 0


def not_folded(before: Sequence[int], after: Sequence[int], axis: int) -> str:
    order = [0, axis, *(other for other in range(1, len(before)) if other != axis)]
    moved = f"transpose(1, {axis})" if axis == 2 else f"permute({listed(order)})"
    return (
        f"By its sizes this folds axis {axis} ({before[axis]} long) into axis 0, and by its "
        f"elements it does not: they would have to pass what lies between, and none moves. Each "
        f"row holds the next {math.prod(after[1:]):,} elements of the walk, whatever they belong "
        f"to. {moved}.reshape({listed((-1, *after[1:]))}) folds it."
    )


def are_exchanged(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether the sizes are the same in another order; those of 1 say nothing."""
    old, new = ([size for size in shape if size != 1] for shape in (before, after))
    return old != new and sorted(old) == sorted(new)
