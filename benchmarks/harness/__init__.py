"""What the benchmarks share: the machine, repetitions in turn, tables, a lab, peers beside it."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# the lab of the tests serves here too
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
