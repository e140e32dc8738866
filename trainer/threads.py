"""Threads: how many of the CPU torch computes with."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(wanted: int | None) -> Iterator[None]:
    """So many CPU threads of torch inside the block, and as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
