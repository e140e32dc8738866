"""Memory: the most a run took, and what is left."""

import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import torch


def start_measuring(device: torch.device) -> None:
    """Forget the peak so far, where the device lets us."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int:
    """On CUDA the most that tensors took on the device; elsewhere the process's largest size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # kilobytes, except on macOS, where the same call gives bytes
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory_bytes(device: torch.device) -> int:
    """What an accelerator has left for tensors."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    assert device.type == "mps", f"asked for the memory of {device}"
    return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()


def private_bytes(processes: Sequence[int]) -> int | None:
    """What these processes have in memory and share with nobody; None where nobody tells."""
    pages = [Path(f"/proc/{process}/smaps_rollup") for process in processes]
    try:
        lines = [line.split() for page in pages for line in page.read_text().splitlines()]
    except OSError:
        return None
    return 1024 * sum(int(line[1]) for line in lines if line[0].startswith("Private_"))
