"""Layouts: what view, reshape and their like do to shape, strides and memory; or why they cannot.

PyTorch itself is asked, on tensors without memory: no shape is too large for an answer.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from trainer.part import Refused

MOST_AXES = 8
MOST_CALLS = 20
LARGEST = 2**40
"""Elements. PyTorch counts bytes in 63 bits; this leaves room for every type."""
INCOMPATIBLE = "view size is not compatible"
"""How PyTorch begins to say that strides are in the way of a view."""
MOST_NAMED = 3
"""Tensors that an explanation of a failure names."""
CALL = re.compile(r"\s*\.?\s*([a-z_][a-z0-9_]*)\s*\(([^()]*)\)")
SPELLINGS = (
    (re.compile(r"(?:contiguous|to)\(\s*memory_format\s*=\s*torch\.(\w+)\s*\)"), r"\1()"),
    (re.compile(r"\bcontiguous_format\(\)"), "contiguous()"),
    (re.compile(r"view_as\(\s*torch\.\w+\(([^()]*)\)\s*\)"), r"view_as(\1)"),
    (re.compile(r"\(\s*[(\[]([^()\[\]]*)[)\]]\s*\)"), r"(\1)"),
    (re.compile(r"\bflatten\(\s*start_dim\s*="), "flatten("),
)
"""Other ways to write a call, each with the one that is read; among them how calls are shown."""
MEMORY_FORMATS = {
    "channels_last": torch.channels_last,
    "channels_last_3d": torch.channels_last_3d,
}


class Layout(NamedTuple):
    """How the elements of a tensor lie in memory. Strides are counted in elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int = 4

    @classmethod
    def of(cls, tensor: torch.Tensor) -> "Layout":
        return cls(tuple(tensor.shape), tuple(tensor.stride()), tensor.element_size())

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def order(self) -> str:
        """The memory format by PyTorch's name; "strided" for any other."""
        tensor = torch.empty_strided(self.shape, self.strides, device="meta")
        if tensor.is_contiguous():
            return "contiguous"
        ranks = {4: "channels_last", 5: "channels_last_3d"}
        name = ranks.get(len(self.shape), "")
        if name and tensor.is_contiguous(memory_format=MEMORY_FORMATS[name]):
            return name
        return "strided"


class Call(NamedTuple):
    """One call on a tensor, such as view(2, -1): its name and its whole numbers."""

    name: str
    numbers: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.name in MEMORY_FORMATS:
            return f"contiguous(memory_format=torch.{self.name})"
        if self.name == "view_as":
            return f"view_as(torch.empty({listed(self.numbers)}))"
        return f"{self.name}({listed(self.numbers)})"

    def on(self, tensor: torch.Tensor) -> torch.Tensor:
        """What PyTorch makes of it. Raises whatever PyTorch raises."""
        if self.name in MEMORY_FORMATS:
            return tensor.contiguous(memory_format=MEMORY_FORMATS[self.name])
        if self.name == "view_as":
            return tensor.view_as(torch.empty(self.numbers, device="meta"))
        # as one argument: without any number it still means a shape
        takes_shape = self.name in ("view", "reshape", "permute")
        given = (self.numbers,) if takes_shape else self.numbers
        result: torch.Tensor = getattr(tensor, self.name)(*given)
        return result


NAMES = (
    "view",
    "view_as",
    "reshape",
    "permute",
    "transpose",
    "flatten",
    "squeeze",
    "unsqueeze",
    "contiguous",
    *MEMORY_FORMATS,
)


@dataclass(frozen=True)
class Step:
    """What one call did, or the error that it ended in."""

    call: Call
    before: Layout
    after: Layout | None
    """None where it ended in an error."""
    is_shared: bool = False
    """Whether the result lies in the memory of the tensor it was called on."""
    error: str = ""
    """In PyTorch's own words."""
    cause: str = ""
    """The same so that it can be understood; empty where PyTorch's words say it all."""
    way_out: str = ""

    @property
    def copied_bytes(self) -> int:
        if self.after is None or self.is_shared:
            return 0
        return self.after.elements * self.after.itemsize


def parse(text: str) -> tuple[Call, ...]:
    """Calls as one writes them: ".permute(0, 2, 1).view(2, -1)". Raises Refused."""
    for spelling, plain in SPELLINGS:
        text = spelling.sub(plain, text)
    calls, at = [], 0
    while at < len(text.rstrip()):
        found = CALL.match(text, at)
        if not found:
            raise Refused(f"{text[at : at + 30]!r} is no call; write for example .view(2, -1)")
        name, inside = found.groups()
        if name not in NAMES:
            raise Refused(f"there is no {name!r} here; there are {', '.join(NAMES)}")
        calls.append(Call(name, whole_numbers(inside, name)))
        at = found.end()
    if len(calls) > MOST_CALLS:
        raise Refused(f"{len(calls)} calls in one go; at most {MOST_CALLS}")
    return tuple(calls)


def whole_numbers(text: str, of: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if parts[-1] == "":
        # nothing at all, or a comma at the end
        parts.pop()
    if not all(re.fullmatch(r"-?[0-9]{1,13}", part) for part in parts):
        raise Refused(f"{of}({text}) takes whole numbers with commas between")
    if len(parts) > MOST_AXES:
        raise Refused(f"{of} has {len(parts)} numbers; at most {MOST_AXES}")
    return tuple(int(part) for part in parts)


def explain(
    shape: Sequence[int], calls: Sequence[Call], dtype: torch.dtype = torch.float32
) -> tuple[Step, ...]:
    """Each call on the result of the one before, up to the first that fails.

    Raises Refused where the shape is none to begin with.
    """
    # strides count the other sizes also where one is 0
    elements = math.prod(max(size, 1) for size in shape)
    if len(shape) > MOST_AXES or any(size < 0 for size in shape) or elements > LARGEST:
        raise Refused(
            f"{tuple(shape)} is no shape to explain: at most {MOST_AXES} sizes, none of them "
            f"negative, and {LARGEST:,} elements"
        )
    tensor, steps = torch.empty(tuple(shape), dtype=dtype, device="meta"), []
    for call in calls:
        before = Layout.of(tensor)
        try:
            result = call.on(tensor)
        except (RuntimeError, IndexError, TypeError) as error:
            steps.append(failed(call, before, str(error)))
            break
        shared = result.untyped_storage()._cdata == tensor.untyped_storage()._cdata
        steps.append(Step(call, before, Layout.of(result), shared))
        tensor = result
    return tuple(steps)


def failed(call: Call, before: Layout, error: str) -> Step:
    cause, way_out = "", ""
    if call.name in ("view", "view_as", "reshape"):
        cause, way_out = why_not(before, call.numbers)
    return Step(call, before, None, error=error, cause=cause, way_out=way_out)


def why_not(layout: Layout, wanted: Sequence[int]) -> tuple[str, str]:
    """Why a layout cannot be viewed in a shape, and what to do; empty where it can be."""
    open_sizes = [axis for axis, size in enumerate(wanted) if size == -1]
    if len(open_sizes) > 1:
        return (
            f"{len(open_sizes)} sizes are -1, and only one can follow from the others",
            "write out all of them but one",
        )
    if any(size < -1 for size in wanted):
        return "a size is negative; only -1 has a meaning, which follows from the others", ""
    known = math.prod(size for size in wanted if size != -1)
    fits = known and layout.elements % known == 0 if open_sizes else known == layout.elements
    if not fits:
        return (
            f"{listed(layout.shape, ' x ')} are {layout.elements:,} elements, and "
            f"{listed(wanted, ' x ')} "
            + ("do not divide them" if open_sizes else f"would be {known:,}"),
            "neither view nor reshape drops, adds or repeats elements; change a size, or select or "
            "pad first",
        )
    sizes = [layout.elements // known if size == -1 else size for size in wanted]
    if torn := torn_axis(layout, sizes):
        return across(layout, sizes, torn), instead(layout)
    return "", ""


class Torn(NamedTuple):
    """A new axis that would run from one old axis into the next, which does not follow it."""

    new: int
    outer: int
    """The old axis on which the new one would have to go on after each turn of the next."""
    needed: int
    """The stride that the outer axis would need."""


def torn_axis(layout: Layout, sizes: Sequence[int]) -> Torn | None:
    """The innermost new axis that no single stride serves; None where all have one.

    The old axes fall into runs that lie one after the other in memory; every new axis has to lie
    inside one run. As PyTorch decides it: at::detail::computeStride in aten/src/ATen/TensorUtils.
    """
    if layout.elements == 0:
        return None
    new, run, filled = len(sizes) - 1, 1, 1
    step = layout.strides[-1] if layout.strides else 1
    for axis in reversed(range(len(layout.shape))):
        run *= layout.shape[axis]
        outer = axis - 1
        goes_on = axis > 0 and (layout.shape[outer] == 1 or layout.strides[outer] == run * step)
        if goes_on:
            continue
        while new >= 0 and (filled < run or sizes[new] == 1):
            filled *= sizes[new]
            new -= 1
        if filled != run:
            return Torn(new + 1, outer, run * step)
        if axis > 0:
            step, run, filled = layout.strides[outer], 1, 1
    return None


def across(layout: Layout, sizes: Sequence[int], torn: Torn) -> str:
    outer, inner = torn.outer, torn.outer + 1
    return (
        f"axis {torn.new} of the new shape, {sizes[torn.new]:,} long, would run across axes "
        f"{outer} and {inner} of {listed(layout.shape, ' x ')}, which do not follow one another in "
        f"memory: "
        f"to go on after axis {inner} a step along axis {outer} would have to skip "
        f"{torn.needed:,} elements, and it skips {layout.strides[outer]:,}"
    )


def instead(layout: Layout) -> str:
    copy = f"reshape does it with a copy of {layout.elements * layout.itemsize:,} bytes"
    if layout.order.startswith("channels_last"):
        return (
            f"the tensor is {layout.order}: use flatten(1) or reshape instead of view ({copy}), or "
            "pool to one pixel first, which needs none"
        )
    return f"{copy}; call contiguous() first to see where that copy is made"


def listed(numbers: Sequence[object], between: str = ", ") -> str:
    return between.join(str(number) for number in numbers)


def explanation_of(error: BaseException) -> str:
    """Of a view that failed, the tensors at hand whose strides may be why; of all else nothing.

    What is at hand are the variables where it was called: PyTorch does not say which tensor it was.
    """
    if not isinstance(error, RuntimeError) or INCOMPATIBLE not in str(error):
        return ""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    at_hand = frame.tb_frame.f_locals.items() if frame is not None else ()
    odd = [
        f"{name} is {listed(layout.shape, ' x ')} with strides {listed(layout.strides)} "
        f"({layout.order})"
        for name, value in at_hand
        if isinstance(value, torch.Tensor) and value.layout == torch.strided
        if (layout := Layout.of(value)).order != "contiguous"
    ]
    found = f": {'; '.join(odd[:MOST_NAMED])}" if odd else ""
    return (
        "view() never copies, so every new axis must lie inside axes that follow one another in "
        f"memory, and here one does not{found}. Use flatten() or reshape(), which copy where they "
        "have to, or call contiguous() before view()."
    )
