"""Random streams: one generator per purpose, so that switching a trick shifts no other stream."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch


def stream_seed(seed: int, *purpose: str | int) -> int:
    """The 63-bit seed of one purpose: the first 8 bytes of SHA-256 of "seed/purpose/…", halved."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose, independent of the process-wide one."""
    return torch.Generator().manual_seed(stream_seed(seed, *purpose))


def start_generators_anew() -> None:
    """Seed every process-wide generator from the system's randomness.

    A forked process has the generators of the one it was forked from: without this, runs that
    nobody seeded would draw the same numbers and look repeatable.
    """
    torch.seed()
    np.random.seed()
    random.seed()


@contextmanager
def process_stream(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed torch's process-wide CPU generator inside the block and put its state back after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, *purpose))
        yield


def sample_draws(
    seed: int, epoch: int, examples: torch.Tensor, purpose: str, count: int
) -> torch.Tensor:
    """Random numbers of each example: whole ones, uniform over 0 … 2**63 - 1.

    examples (N,) int64 on the host -> (N, count) int64 on the host. A function of (seed, epoch,
    example, purpose, column) alone: no generator is advanced, so it does not matter which other
    examples are asked for, in which order, by which process, or how many columns.
    """
    key = np.uint64(stream_seed(seed, "sample", purpose, epoch))
    # a scramble for the example and one more for the column: sums of the two would coincide
    of_example = scrambled(examples.numpy().astype(np.uint64) * STRIDE + key)
    columns = np.arange(1, count + 1, dtype=np.uint64) * STRIDE
    draws = scrambled(of_example[:, None] + columns) >> np.uint64(1)
    return torch.from_numpy(draws.view(np.int64))


STRIDE = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio, odd: its multiples are far apart, and none comes twice."""


def scrambled(counters: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Each counter as a random number, one to one; wraps around at 2**64.

    SplitMix64's: Steele, Lea and Flood (2014), Fast Splittable Pseudorandom Number Generators,
    with the constants of Stafford's mix 13.
    """
    mixed = (counters ^ (counters >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
