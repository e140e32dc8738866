"""How OpenMP's threads should wait for each other: spinning or asleep, alone or beside others.

    python benchmarks/waiting_threads.py [repetitions]

Trains the digits CNN for two epochs in fresh processes, the ways in turn, first one training alone
and then two at once on the same cores. Prints medians of the training seconds (of the slower one).
"""

import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

TRAIN = """
import sys, tempfile
from pathlib import Path
sys.path[:0] = ["tests", "."]
from lab import Lab, quick_config
with tempfile.TemporaryDirectory() as folder:
    lab = Lab.at(Path(folder))
    lab.train(quick_config(budget={"epochs": 1}))
    run = lab.train(quick_config(recording={"layer_steps": "never"}))
    print(lab.run(run).train_seconds)
    lab.engine.dispose()
"""


WAYS = {
    "300,000 spins": {"GOMP_SPINCOUNT": "300000"},  # OpenMP's default
    "10,000 spins": {"GOMP_SPINCOUNT": "10000"},
    "1,000 spins": {"GOMP_SPINCOUNT": "1000"},
    "asleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def seconds(way: dict[str, str]) -> float:
    """Training seconds of one process whose threads wait this way."""
    done = subprocess.run(
        [sys.executable, "-c", TRAIN],
        env={**os.environ, **way},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def main(repetitions: int) -> None:
    cores = os.cpu_count() or 1
    for place, at_once in (("one training", 1), ("two trainings at once", 2)):
        taken: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(repetitions):
            for name, way in WAYS.items():
                with ThreadPoolExecutor(at_once) as pool:
                    taken[name].append(max(pool.map(seconds, [way] * at_once)))
        print(f"{place}, {cores} cores, medians of {repetitions}:")
        for name, times in taken.items():
            print(f"  {name:14} {statistics.median(times):6.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
