"""Environment: what a run was trained with and on, for whoever wants to repeat it."""

import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy
import torch

CPU_FACTS = Path("/proc/cpuinfo")


def device_title(device: torch.device) -> str:
    """What people call the device: the name of its GPU or processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU" if device.type == "mps" else processor()


def processor() -> str:
    if CPU_FACTS.exists():
        for line in CPU_FACTS.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe(device: torch.device) -> dict[str, Any]:
    """Versions, device and commit, as JSON."""
    return {
        "tricklab": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None,  # type: ignore[no-untyped-call]
        "device": str(device),
        "device_title": device_title(device),
        "processor": processor(),
        "host": platform.node(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
    }


def commit() -> str | None:
    """The commit of this program, marked when files were changed; None without git."""
    folder = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
