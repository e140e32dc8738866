"""BatchPicture: examples as small pictures or rows of numbers, before and after tricks."""

import base64
from typing import Any

import torch
from torch.nn import functional

from trainer.batch import Batch
from trainer.tasks import Examples

LARGEST_SIDE = 64
MOST_NUMBERS = 32
"""Of an example that is no picture."""


def batch_pictures(
    prepared: Batch, ready: Batch, stored: Examples, most: int
) -> list[dict[str, Any]]:
    """The first examples of a batch: as prepared and, where tricks changed it, as ready.

    Of pictures (N, C, H, W) each is bytes in base64, of the rest numbers as the model gets them.
    """
    is_changed = ready.inputs is not prepared.inputs
    assert ready.examples is not None
    before, after = (batch.inputs[:most].float().cpu() for batch in (prepared, ready))
    if before.dim() == 4:
        # the scale of the stored bytes, found again: normalising is a straight line
        scale = Scale(prepared, stored)
        shown = [
            {"before": scale.picture(old)} | ({"after": scale.picture(new)} if is_changed else {})
            for old, new in zip(before, after, strict=True)
        ]
    else:
        shown = [{"numbers": one.flatten()[:MOST_NUMBERS].tolist()} for one in after]
    return [
        {"example": int(example), **one}
        for example, one in zip(ready.examples[:most], shown, strict=True)
    ]


class Scale:
    """From what a model gets back to stored bytes, and from those to 0 … 255."""

    def __init__(self, prepared: Batch, stored: Examples) -> None:
        assert prepared.examples is not None
        there = stored.inputs[prepared.examples].float()
        here = prepared.inputs.float().cpu()
        low, high = there.argmin(), there.argmax()
        span = float(there.max() - there.min()) or 1.0
        self.slope = float(here.flatten()[high] - here.flatten()[low]) / span or 1.0
        self.origin = float(here.flatten()[low]) - self.slope * float(there.min())
        self.highest = float(stored.inputs.max()) or 1.0

    def picture(self, image: torch.Tensor) -> dict[str, Any]:
        """A picture (C, H, W) as the model gets it, as bytes with their shape."""
        pixels = (image - self.origin) / self.slope * (255 / self.highest)
        pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1]
        if (longest := max(pixels.shape[1:])) > LARGEST_SIDE:
            factor = LARGEST_SIDE / longest
            pixels = functional.interpolate(pixels[None], scale_factor=factor, mode="area")[0]
        values = pixels.round().clamp(0, 255).to(torch.uint8)
        return {
            "shape": list(values.shape),
            "bytes": base64.b64encode(values.numpy().tobytes()).decode(),
        }
