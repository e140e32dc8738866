"""Machine: what was measured where, in one line."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "numpy", "sqlalchemy", "fastapi", "uvicorn")


def described(*packages: str) -> str:
    """Processor, cores, system, Python and packages, commit, load and time."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages or PACKAGES)
    return (
        f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {versions}; commit {commit()}; "
        f"load {os.getloadavg()[0]:.1f}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )


def processor() -> str:
    """As Linux names it; elsewhere the architecture."""
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
