"""Presets of the bench of shapes: the founding notes' examples, and what to learn beside them."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

CLIP = "2, 3, 4, 2, 2"
"""A clip in little: examples, channels, frames, rows, columns."""


def preset(title: str, shape: str, calls: str, numbered: str = "memory") -> Mapping[str, str]:
    state = {"shape": shape, "calls": calls, "dtype": "float32", "numbered": numbered}
    return {"title": title, "address": f"/lab/shapes?{urlencode(state)}"}


PRESETS: Mapping[str, Sequence[Mapping[str, str]]] = {
    "From the notes": (
        preset("torch.Tensor(2, 2, 2) seen as 1 × 8", "2, 2, 2", ".view(1, 8)"),
        preset("The size -1 follows from the others", "2, 2, 2", ".view(-1, 4)"),
        preset("As one axis", "2, 2, 2", ".view(8)"),
        preset("view_as: 2 × 4 in the shape of 4 × 2", "2, 4", ".view_as(torch.empty(4, 2))"),
    ),
    "Where view fails": (
        preset("Transposed, then view", "3, 4", ".transpose(0, 1).view(12)"),
        preset("Transposed, then reshape: a copy", "3, 4", ".transpose(0, 1).reshape(12)"),
        preset("contiguous() shows the copy", "3, 4", ".transpose(0, 1).contiguous().view(12)"),
        preset("channels_last, then view(n, -1)", "2, 3, 4, 4", ".channels_last().view(2, -1)"),
    ),
    "channels_last": (
        preset("flatten(1) copies", "2, 3, 4, 4", ".channels_last().flatten(1)"),
        preset("flatten(2): rows and columns", "2, 3, 4, 4", ".channels_last().flatten(2)"),
        preset("One pixel: flatten(1) shares", "2, 8, 1, 1", ".channels_last().flatten(1)"),
    ),
    "Time into the batch of a clip": (
        preset("view: the wrong order", CLIP, ".view(-1, 3, 2, 2)", "start"),
        preset("Transposed first: right", CLIP, ".transpose(1, 2).reshape(-1, 3, 2, 2)", "start"),
        preset(
            "P3D's batch: a copy of 79 MB",
            "16, 3, 16, 160, 160",
            ".transpose(1, 2).reshape(-1, 3, 160, 160)",
        ),
    ),
}
