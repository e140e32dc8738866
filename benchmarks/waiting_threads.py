"""How OpenMP's threads should wait for each other: spinning or asleep, alone or beside others.

    python benchmarks/waiting_threads.py [repetitions]

Trains the digits CNN for two epochs in fresh processes, the two ways in turn, first on a quiet
machine and then with one busy process per core. Prints medians of the training seconds.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

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


def seconds(policy: str) -> float:
    """Training seconds of one process whose threads wait this way."""
    done = subprocess.run(
        [sys.executable, "-c", TRAIN],
        env={**os.environ, "OMP_WAIT_POLICY": policy},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


@contextmanager
def busy_neighbours(count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def main(repetitions: int) -> None:
    cores = os.cpu_count() or 1
    for name, neighbours in (("quiet machine", 0), (f"{cores} busy neighbours", cores)):
        taken: dict[str, list[float]] = {"ACTIVE": [], "PASSIVE": []}
        with busy_neighbours(neighbours):
            for _ in range(repetitions):
                for policy, times in taken.items():
                    times.append(seconds(policy))
        active, passive = (statistics.median(times) for times in taken.values())
        print(
            f"{name}: spinning {active:.2f} s, asleep {passive:.2f} s, "
            f"ratio {active / passive:.2f} (medians of {repetitions}, {cores} cores)"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
