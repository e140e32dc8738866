"""Palette: the colours of layer outputs, the same as static/colours.js has."""

import numpy as np
import numpy.typing as npt

# viridis, Stefan van der Walt and Nathaniel Smith, CC0
STOPS = (
    (68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142),
    (31, 158, 137), (53, 183, 121), (109, 205, 89), (180, 222, 44), (253, 231, 37),
)  # fmt: skip


def palette() -> npt.NDArray[np.uint8]:
    """256 colours (256, 3) from the lowest value to the highest."""
    places = np.linspace(0, len(STOPS) - 1, 256)
    stops = np.array(STOPS, float).T
    mixed = [np.interp(places, np.arange(len(STOPS)), channel) for channel in stops]
    # as JavaScript rounds: halves go up
    return np.floor(np.stack(mixed, 1) + 0.5).astype(np.uint8)


PALETTE = palette()
