"""Mosaic: all channels of one example side by side, as one picture."""

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

GAP = 1
SMALLEST = 240
"""A small mosaic is enlarged, pixel by pixel, to at least this many pixels a side."""

Levels = npt.NDArray[np.uint8]


def planes_of(output: Levels, time: int = 0) -> Levels:
    """One example as planes (count, height, width), as static/mosaic.js has them.

    (F,) is one plane of one row, (L, D) one plane, (C, H, W) a plane for each channel, and of a
    video (C, T, H, W) those at one time are taken.
    """
    if output.ndim == 1:
        return output[np.newaxis, np.newaxis, :]
    if output.ndim == 2:
        return output[np.newaxis]
    if output.ndim == 3:
        return output
    return output.reshape(output.shape[0], -1, *output.shape[-2:])[:, time]


def all_planes(output: Levels) -> Levels:
    """Of a video (C, T, H, W) the planes of every channel and time, (C * T, H, W)."""
    return output.reshape(-1, *output.shape[-2:]) if output.ndim > 3 else output


def times_of(shape: tuple[int, ...]) -> int:
    """How many times an example of this shape has: 1 but for videos."""
    return math.prod(shape[1:-2]) if len(shape) > 3 else 1


def mosaic(output: Levels, time: int = 0) -> Levels:
    """One example as one picture of about equal sides, a gap between its channels."""
    planes = planes_of(output, time)
    count, height, width = planes.shape
    if count == 1:
        only: Levels = planes[0]
        return only
    across = math.ceil(math.sqrt(count * height / width))
    down = math.ceil(count / across)
    picture = np.zeros((down * (height + GAP) - GAP, across * (width + GAP) - GAP), np.uint8)
    for number, plane in enumerate(planes):
        top = number // across * (height + GAP)
        left = number % across * (width + GAP)
        picture[top : top + height, left : left + width] = plane
    return picture


def mosaic_png(output: Levels, time: int = 0) -> bytes:
    """The mosaic as a grey PNG: black is the layer's lowest value, white its highest."""
    picture = enlarged(Image.fromarray(mosaic(output, time)))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def enlarged(picture: Image.Image) -> Image.Image:
    """Every pixel as a square, so that the longer side has at least SMALLEST of them."""
    factor = max(1, -(-SMALLEST // max(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, Image.Resampling.NEAREST)
