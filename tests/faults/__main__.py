"""The long form of the fault suite: `python -m faults --seed 1`, a line per promise.

Ends with 1 when a promise is broken. Takes about an hour on two quiet cores.
"""

import argparse
import os
import platform
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from faults import database, disks, ends, looking, resuming, sharing
from faults.promise import Shown

Scenario = Callable[[Path], Iterable[Shown]]


def scenarios(seed: int, share: float) -> dict[str, Scenario]:
    """By name; `share` makes everything shorter, for a look at the suite itself."""

    def times(number: int) -> int:
        return max(1, round(number * share))

    return {
        "G4": lambda f: [sharing.frozen_workers_do_no_damage(f, seed, times(100))],
        "G1": lambda f: resuming.killed_runs_end_alike(f, seed, times(200))[:2],
        "G2": lambda f: sharing.nothing_is_lost_or_doubled(
            f, seed, times(1000), times(200), times(20)
        ),
        "G7": lambda f: [resuming.damage_is_noticed(f, seed, times(200))],
        "G6": lambda f: [database.acknowledged_changes_are_durable(f)],
        "G8": lambda f: [disks.a_full_disk_needs_no_repair(f, seed)],
        "G9": lambda f: [ends.cancel_ends_a_run(f, seed, times(10))],
        "G10": lambda f: [ends.everything_that_goes_wrong_is_named(f, seed, times(5))],
        "G11": lambda f: [sharing.clocks_may_jump(f, seed, times(12))],
        "G12": lambda f: [database.upgrades_keep_all(f)],
        "G13": lambda f: [database.a_locked_database_gives_a_503(f)],
        "G14": lambda f: [looking.looking_costs_next_to_nothing(f, seed, 50, times(10), 6.0)],
    }


ALONE = ("G9", "G14")
"""What measures time has the machine to itself; the others share it, two at a time."""


def show(name: str, scenario: Scenario, found: list[Shown]) -> None:
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            shown = list(scenario(Path(folder)))
    except Exception:
        shown = [Shown(name, "could not be shown", [traceback.format_exc()])]
    for each in shown:
        print(each, flush=True)
    found += shown


def show_all(chosen: dict[str, Scenario]) -> list[Shown]:
    found: list[Shown] = []
    waiting = [name for name in chosen if name not in ALONE]
    lock = threading.Lock()

    def lane() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                name = waiting.pop(0)
            show(name, chosen[name], found)

    lanes = [threading.Thread(target=lane) for _ in range(2)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    for name in ALONE:
        if name in chosen:
            show(name, chosen[name], found)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the full figures")
    parser.add_argument("--only", nargs="*", default=[], help="some promises, such as G1 G4")
    wanted = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, seed {wanted.seed}, {time.strftime('%Y-%m-%d %H:%M')}",
        flush=True,
    )
    began = time.monotonic()
    every = scenarios(wanted.seed, wanted.share)
    found = show_all({n: s for n, s in every.items() if not wanted.only or n in wanted.only})
    broken = sum(not shown.holds for shown in found)
    print(f"{len(found)} promises, {broken} broken, {time.monotonic() - began:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
