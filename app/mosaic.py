"""Mosaic: all channels and frames of one example side by side, as one picture."""

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

GAP = 1
SMALLEST = 240
"""A small mosaic is enlarged, pixel by pixel, to at least this many pixels a side."""


def mosaic(channels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(C, H, W) or the frames of clips (C, T, H, W) side by side; (F,) as one row.

    One picture of about equal sides, with a gap between channels and frames.
    """
    if channels.ndim == 1:
        return channels[np.newaxis, :]
    if channels.ndim == 2:
        return channels
    planes = channels.reshape(-1, *channels.shape[-2:])
    count, height, width = planes.shape
    across = math.ceil(math.sqrt(count * height / width))
    down = math.ceil(count / across)
    picture = np.zeros((down * (height + GAP) - GAP, across * (width + GAP) - GAP), np.uint8)
    for number, plane in enumerate(planes):
        top = number // across * (height + GAP)
        left = number % across * (width + GAP)
        picture[top : top + height, left : left + width] = plane
    return picture


def mosaic_png(channels: npt.NDArray[np.uint8]) -> bytes:
    """The mosaic as a grey PNG: black is the layer's lowest value, white its highest."""
    picture = Image.fromarray(mosaic(channels))
    factor = max(1, -(-SMALLEST // max(picture.size)))
    enlarged = picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )
    file = io.BytesIO()
    enlarged.save(file, "PNG")
    return file.getvalue()
