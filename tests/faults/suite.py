"""The long form of the fault suite: `python -m faults --seed 1`, a line per promise.

Ends with 1 when a promise is broken. Takes about an hour on two quiet cores.
"""

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
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
        "G14": lambda f: [looking.looking_costs_next_to_nothing(f, seed, 50, times(30), 5.0)],
    }


ALONE = ("G9", "G14")
"""What measures time has the machine to itself, first; the others share it, two at a time."""


def show(name: str, seed: int, share: float) -> list[Shown]:
    """One scenario, in a process of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            found = list(scenarios(seed, share)[name](Path(folder)))
        except Exception:
            found = [Shown(name, "could not be shown", [traceback.format_exc()])]
        for shown in found:
            if not shown.holds:
                shown.broken += map(last_lines, sorted(Path(folder).rglob("worker.log")))
        return found


def last_lines(log: Path, count: int = 20) -> str:
    """What a worker said in the end, under the name of its folder."""
    return "\n".join([f"{log.parent.name}:", *log.read_text().splitlines()[-count:]])


def show_all(names: Sequence[str], seed: int, share: float) -> list[Shown]:
    """Each scenario printed as it ends."""
    found: list[Shown] = []
    alone = [name for name in names if name in ALONE]
    for lanes, members in ((1, alone), (2, [name for name in names if name not in ALONE])):
        starting = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(lanes, mp_context=starting, max_tasks_per_child=1) as pool:
            for done in as_completed([pool.submit(show, n, seed, share) for n in members]):
                for shown in done.result():
                    print(shown, flush=True)
                    found.append(shown)
    return found


def main() -> int:
    parser = argparse.ArgumentParser("python -m faults", description=__doc__)
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
    names = [name for name in every if not wanted.only or name in wanted.only]
    found = show_all(names, wanted.seed, wanted.share)
    broken = sum(not shown.holds for shown in found)
    print(f"{len(found)} promises, {broken} broken, {time.monotonic() - began:.0f} s")
    return 1 if broken else 0
