"""Film: what a layer gave for one example over the steps of training, as pictures in a row."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from sqlalchemy import Connection

from app.mosaic import Levels, enlarged, mosaic
from app.palette import PALETTE
from app.recorded import CHANNELS
from trainer.store.reader import StoredOutput, read_layer_output

MOST_FRAMES = 64
MOST_PIXELS = 16_000_000
"""Of all pictures of an animation together; with more they are made smaller."""
MOST_SIDE = 4096
"""Of one picture: WebP has none of more than 16,383 pixels."""
FRAME_MS = 450
"""How long each picture is shown, as on the page."""


@dataclass(frozen=True)
class Frame:
    """One example at one step, in levels between low and high."""

    step: int
    low: float
    high: float
    levels: Levels


def chosen_steps(steps: Sequence[int], most: int = MOST_FRAMES) -> list[int]:
    """At most so many of these steps, evenly spread, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    places = np.linspace(0, len(steps) - 1, most).round().astype(int)
    return [steps[place] for place in places]


def frames(
    connection: Connection,
    run_id: int,
    like: StoredOutput,
    steps: Sequence[int],
    example: int,
    view: str = CHANNELS,
) -> Iterator[Frame]:
    """One example of a layer and call at these steps, where its shape is that of this output.

    One output at a time is in memory: they are large.
    """
    for step in steps:
        output = read_layer_output(connection, run_id, like.layer, step, like.call, view)
        if output is not None and output.quantised.shape == like.quantised.shape:
            yield frame_of(output, example)


def frame_of(output: StoredOutput, example: int) -> Frame:
    # a copy: a view would keep every example of every step in memory
    return Frame(output.step, output.low, output.high, output.quantised[example].copy())


def animation(film: Sequence[Frame], time: int = 0) -> bytes:
    """The mosaic of every frame as an animated WebP, in the page's colours.

    All share one scale, from the lowest to the highest value of the film, so that what does not
    change does not flicker.
    """
    low, high = min(one.low for one in film), max(one.high for one in film)
    pictures = [
        picture(rescaled(one.levels, one.low, one.high, low, high), len(film), time) for one in film
    ]
    file = io.BytesIO()
    # the quickest of its methods: others take ten times as long to save a tenth
    how = {"duration": FRAME_MS, "loop": 0, "lossless": True, "method": 0, "quality": 0}
    pictures[0].save(file, "WEBP", save_all=True, append_images=pictures[1:], **how)
    return file.getvalue()


def picture(levels: Levels, frames: int, time: int) -> Image.Image:
    """One frame in colours; what lies between the channels is transparent."""
    channels = smaller(mosaic(levels, time), frames)
    inside = smaller(mosaic(np.full_like(levels, 255), time), frames)
    return enlarged(Image.fromarray(np.dstack([PALETTE[channels], inside])))


def smaller(grey: Levels, frames: int) -> Levels:
    """The picture, at most as large as so many frames may be, each pixel a mean of those it was."""
    height, width = grey.shape
    room = (MOST_PIXELS / frames / (height * width)) ** 0.5
    share = min(1.0, room, MOST_SIDE / max(height, width))
    if share == 1:
        return grey
    size = (max(1, int(width * share)), max(1, int(height * share)))
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX))


def rescaled(levels: Levels, low: float, high: float, lowest: float, highest: float) -> Levels:
    """Levels between low and high as levels between lowest and highest."""
    span = highest - lowest
    values = low + np.arange(256) / 255 * (high - low)
    table = (values - lowest) / span * 255 if span > 0 else np.zeros(256)
    found: Levels = table.round().clip(0, 255).astype(np.uint8)[levels]
    return found
