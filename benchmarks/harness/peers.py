"""Peers: other tools, each asked in a process of its own, in an environment of their own.

Their requirements and ours would not go into one environment; `make peers` makes theirs.
"""

import json
import os
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness import ROOT

PYTHON = ROOT / ".venv-peers" / "bin" / "python"
HERE = ROOT / "benchmarks"
PATIENCE = 600.0


@dataclass(frozen=True)
class Answer:
    """What a peer measured of itself, or why it did not."""

    name: str
    version: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}".strip()

    def __bool__(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Peers:
    """Asks peers; `none` leaves all of them out, and says so."""

    none: bool = False

    def ask(self, name: str, task: str, **how: Any) -> Answer:
        """Let a peer do a task: a function of benchmarks/peers/NAME.py, given these arguments."""
        if self.none:
            return Answer(name, reason="not asked")
        if not PYTHON.exists():
            return Answer(name, reason="not installed: make peers")
        with tempfile.TemporaryDirectory() as folder:
            try:
                done = subprocess.run(
                    # as a module: beside a script named mlflow.py nothing could import mlflow
                    [str(PYTHON), "-m", f"peers.{name}", task, json.dumps(how)],
                    cwd=folder,
                    env={
                        **os.environ,
                        "HOME": folder,
                        "PYTHONPATH": f"{ROOT / 'benchmarks'}:{ROOT}",
                    },
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return Answer(name, reason=f"not done after {PATIENCE:.0f} s")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            return Answer(name, reason=f"not available: {last[:120]}")
        return Answer(name, **json.loads(done.stdout.splitlines()[-1]))


def wanted() -> list[str]:
    """What `make peers` installs."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return list(content["dependency-groups"]["peers"])


if __name__ == "__main__":
    print(*wanted(), sep="\n")
