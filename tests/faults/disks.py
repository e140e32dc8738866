"""Disks: G8: a disk that fills up stops recording before it hurts, and needs no repair."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from lab import tiny_config

from app.models import Status
from faults.promise import Shown
from faults.resuming import compare, count_steps
from faults.world import World, problems_of
from trainer.config import RunConfig

MEGABYTES = 48


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of a few megabytes in memory. Raises PermissionError where none can be had."""
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mounting, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise PermissionError("there is no command mount") from error
    if done.returncode:
        raise PermissionError(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, leaving: int) -> Path:
    """Fill the disk up to so many bytes; the file that does."""
    filler, block = disk / "filler", bytes(4096)
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while shutil.disk_usage(disk).free > leaving:
            file.write(block)
    return filler


def large_config(seed: int, **recording: object) -> RunConfig:
    """A run whose checkpoints take some two megabytes, so that a full disk meets one of them."""
    return tiny_config(
        seed=seed,
        model={"name": "mlp", "hidden": (512, 512)},
        budget={"epochs": 40},
        recording={"checkpoint_steps": 20, "layer_megabytes": 1, **recording},
    )


LEFT = {"checkpoint": 1_000_000, "database": 40_000, "log": 0}
"""What meets the full disk first, by how many bytes are left on it."""


def a_full_disk_needs_no_repair(
    folder: Path, seed: int, ways: Collection[str] = tuple(LEFT)
) -> Shown:
    """Fill a small disk while a run trains, in several ways; make room again, and go on."""
    shown = Shown("G8", "")
    started = time.monotonic()
    try:
        for number, way in enumerate(ways):
            with small_disk(folder / f"disk-{way}") as disk:
                fill_and_recover(disk, shown, seed + number, way, LEFT[way])
        with small_disk(folder / "disk-short") as disk:
            nothing_starts_without_room(disk, shown, seed)
    except PermissionError as error:
        shown.what = f"not shown here: {error}"
        return shown
    shown.what = (
        f"a disk of {MEGABYTES} MB filled up under a run {len(ways)} times: it paused by name and "
        "ended identical once there was room; none is started without room"
    )
    shown.seconds = time.monotonic() - started
    return shown


def fill_and_recover(disk: Path, shown: Shown, seed: int, way: str, leaving: int) -> None:
    world = World.at(disk / "world", seed, reserve_megabytes=1, ballast_megabytes=4)
    config = large_config(seed)
    try:
        world.start_worker()
        run_id = world.add(config)
        world.wait_for_step(run_id, 25)
        filler = fill(disk, leaving)
        status = world.wait_for(run_id, Status.PAUSED, Status.FAILED, Status.FINISHED)
        run = world.lab.run(run_id)
        words = f"with a full {way} it became {status} ({run.cause}): {run.reason}"
        shown.must((status, run.cause) == (Status.PAUSED, "disk full"), words)
        filler.unlink()
        if status == Status.PAUSED:
            world.lab.resume(run_id)
            world.wait_for(run_id, Status.FINISHED, Status.FAILED, Status.PAUSED)
        peaceful = world.add(config)
        world.wait_for(peaceful, Status.FINISHED, Status.FAILED, Status.PAUSED)
        compare(world.lab, shown, peaceful, run_id, [f"full {way}"])
        count_steps(world.lab, shown, run_id)
        for problem in problems_of(world.lab):
            shown.must(False, f"full {way}: {problem}")
    finally:
        world.end()
        world.lab.engine.dispose()


def nothing_starts_without_room(disk: Path, shown: Shown, seed: int) -> None:
    world = World.at(disk / "world", seed, reserve_megabytes=20)
    try:
        world.start_worker()
        filler = fill(disk, 10_000_000)
        run_id = world.add(tiny_config())
        time.sleep(6)
        shown.must(world.status(run_id) == Status.QUEUED, "a run was started on a full disk")
        filler.unlink()
        status = world.wait_for(run_id, Status.FINISHED, Status.FAILED)
        shown.must(status == Status.FINISHED, f"with room again it {status}")
    finally:
        world.end()
        world.lab.engine.dispose()
