"""Random streams: one generator per purpose, so that switching a trick shifts no other stream."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def stream_seed(seed: int, *purpose: str | int) -> int:
    """The 63-bit seed of one purpose: the first 8 bytes of SHA-256 of "seed/purpose/…", halved."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose, independent of the process-wide one."""
    return torch.Generator().manual_seed(stream_seed(seed, *purpose))


@contextmanager
def process_stream(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed torch's process-wide CPU generator inside the block and put its state back after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, *purpose))
        yield
