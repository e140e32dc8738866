"""Resuming: G1, G3 and G7: killed runs end as if nothing had been; damage is noticed."""

import hashlib
import json
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lab import Lab, tiny_config
from safetensors import safe_open
from sqlalchemy import select

from app.models import Status
from faults.promise import Shown
from faults.world import Hurt, World
from trainer.checkpoint import is_whole
from trainer.config import RunConfig
from trainer.store.database import reading
from trainer.store.reader import list_checkpoints, list_layer_outputs
from trainer.store.tables import series

POINTS = (
    "run.begin",
    "run.train",
    "checkpoint.begin",
    "checkpoint.written",
    "checkpoint.synced",
    "checkpoint.renamed",
    "recorder.begin",
    "recorder.commit",
    "recorder.committed",
    "run.conclude",
)
KILLS = 3

VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    # dropout draws from the process's generator, which starts anywhere unless the run seeds it
    {
        "model": {"name": "small_cnn", "dropout": 0.3},
        "optimizer": {"name": "adamw"},
        "tricks": ({"name": "seed"},),
    },
    {"tricks": ({"name": "seed"}, {"name": "deterministic"}), "loader": {"workers": 2}},
    {"tricks": ({"name": "gradient_accumulation", "steps": 2},), "optimizer": {"momentum": 0.9}},
    {"tricks": ({"name": "random_shift", "pixels": 1},), "loader": {"workers": 1}},
    {"budget": {"steps": 40}},
)


def config_of(number: int) -> RunConfig:
    """At most forty-eight steps with a checkpoint every five, no two alike."""
    settings: dict[str, Any] = {
        "model": {"width": 2},
        "loader": {"batch_size": 90},
        "budget": {"epochs": 3},
        "recording": {
            "checkpoint_steps": 5,
            "layer_steps": "every",
            "layers_every": 7,
            "layers": ("head",) if number % 2 else (),
        },
        "seed": number,
    }
    variant = VARIANTS[number % len(VARIANTS)]
    merged = {key: {**settings.get(key, {}), **value} if isinstance(value, dict) else value
              for key, value in variant.items()}  # fmt: skip
    return tiny_config(**{**settings, **merged})


def fingerprint(lab: Lab, run_id: int) -> dict[str, str]:
    """SHA-256 of the final weights, optimizer and generators, of every curve, of layer outputs."""
    with reading(lab.engine) as connection:
        newest = list_checkpoints(connection, run_id)[0]
        rows = connection.execute(select(series).filter_by(run_id=run_id)).all()
        outputs = [
            (row.layer, row.call, row.step, row.view)
            for row in list_layer_outputs(connection, run_id)
        ]
    found = {"step": str(newest.step), "layer outputs": digest(repr(sorted(outputs)).encode())}
    path = lab.settings.run_folder(run_id) / "checkpoints" / newest.file
    with safe_open(path, "pt") as file:
        for name in sorted(file.keys()):
            if name.startswith("generator.") and not is_seeded(lab, run_id):
                continue
            found[name] = digest(file.get_tensor(name).contiguous().numpy().tobytes())
        state = json.loads(file.metadata()["tricklab"])
    # seconds, its number; and what numpy and Python drew, which starts anywhere unless it is seeded
    for left_out in ("notes", "run", *(() if is_seeded(lab, run_id) else ("generators",))):
        del state[left_out]
    found["state"] = digest(json.dumps(state, sort_keys=True).encode())
    for row in rows:
        if row.unit == "s":
            # measured by the clock: no two are alike
            continue
        points = lab.points(run_id, row.name, row.layer)
        key = f"curve {row.name} {row.layer}"
        found[key] = digest(points.steps.tobytes() + points.values.tobytes())
    return found


def is_seeded(lab: Lab, run_id: int) -> bool:
    return any(trick["name"] == "seed" for trick in lab.run(run_id).config["tricks"])


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def killed_runs_end_alike(folder: Path, seed: int, count: int) -> tuple[Shown, Shown, World]:
    """Train each config twice: in peace, and killed three times; compare every bit."""
    same = Shown("G1", f"{count} runs x {KILLS} kills: weights, optimizer and curves identical")
    once = Shown("G3", "every step of those runs is there exactly once")
    world = World.at(folder, seed)
    started = time.monotonic()
    kills = 0
    with world.working() as hurt:
        for number in range(count):
            config = config_of(seed * 1000 + number)
            peaceful = world.add(config)
            world.wait_for(peaceful, Status.FINISHED, Status.FAILED)
            run_id = world.add(config)
            struck = kill_until_finished(world, hurt, run_id)
            kills += len(struck)
            compare(world.lab, same, peaceful, run_id, struck)
            count_steps(world.lab, once, run_id)
    same.must(kills >= count * KILLS, f"only {kills} of {count * KILLS} kills struck")
    same.what = same.what.replace(f"x {KILLS} kills", f"x {KILLS} kills ({kills} struck)")
    same.seconds = once.seconds = time.monotonic() - started
    return same, once, world


def kill_until_finished(world: World, hurt: Hurt, run_id: int) -> list[str]:
    """Three kills of the whole group, each at a named point or at any time; which struck."""
    struck: list[str] = []
    for kind in plan(world.chance):
        if not kill_once(world, hurt, run_id, kind):
            break
        struck.append(kind)
    world.clear()
    world.wait_for(run_id, Status.FINISHED, Status.FAILED)
    return struck


def plan(chance: random.Random) -> Sequence[str]:
    """The end comes last: after it there is nothing left to kill."""
    chosen = chance.sample([*POINTS, "any time", "any time"], KILLS)
    return sorted(chosen, key=lambda kind: kind == "run.conclude")


def kill_once(world: World, hurt: Hurt, run_id: int, kind: str) -> bool:
    """Whether it struck before the run was over."""
    fence = world.lab.run(run_id).fence
    world.clear()
    # whatever comes too late for a run this short is made up for at its very end
    world.lay("run.conclude")
    if kind not in ("any time", "run.conclude"):
        passes = world.chance.randrange(3) if kind.startswith(("checkpoint", "recorder")) else 0
        world.lay(kind, passes=passes)
    delay = time.monotonic() + world.chance.random() * 0.4
    end = time.monotonic() + 120
    while not world.status(run_id).is_over:
        assert time.monotonic() < end, f"run {run_id} neither ends nor is killed by {kind}"
        run = world.lab.run(run_id)
        is_due = run.fence > fence and run.step and time.monotonic() > delay
        # a step may be that of an earlier attempt, while this one has no process yet
        if kind == "any time" and is_due and hurt.kill_trainer():
            return True
        if world.has_struck(kind) or world.has_struck("run.conclude"):
            return True
        time.sleep(0.005)
    return False


def compare(lab: Lab, shown: Shown, one: int, other: int, struck: list[str]) -> None:
    if lab.run(other).status != Status.FINISHED:
        shown.must(False, f"run {other} ended as {lab.run(other).reason!r} after {struck}")
        return
    first, second = fingerprint(lab, one), fingerprint(lab, other)
    wrong = [name for name in {*first, *second} if first.get(name) != second.get(name)]
    shown.must(not wrong, f"run {other}, killed at {struck}, differs in {sorted(wrong)[:5]}")


def count_steps(lab: Lab, shown: Shown, run_id: int) -> None:
    steps = lab.points(run_id, "train_loss").steps
    total = lab.run(run_id).total_steps
    shown.must(
        np.array_equal(steps, np.arange(1, total + 1)),
        f"run {run_id} has {len(steps)} points, {len(set(steps.tolist()))} distinct, of {total}",
    )


def damage_is_noticed(folder: Path, seed: int, flips: int) -> Shown:
    """Flip single bits, cut and delete checkpoints: each is noticed, the one before is used."""
    shown = Shown("G7", f"{flips} flipped bits, 10 cuts, 1 deletion noticed; the one before used")
    chance, started = random.Random(seed), time.monotonic()
    lab = Lab.at(folder / "damage", reserve_megabytes=1, ballast_megabytes=0)
    config = tiny_config(recording={"checkpoint_steps": 2}, budget={"epochs": 2})
    run_id = lab.add(config)
    lab.train_until(run_id, 7)
    with reading(lab.engine) as connection:
        newest, before = list_checkpoints(connection, run_id)
    path = lab.settings.run_folder(run_id) / "checkpoints" / newest.file
    whole = path.read_bytes()
    shown.must(is_whole(path, newest.sha256), "the whole file was taken for damaged")
    for _ in range(flips):
        bit = chance.randrange(len(whole) * 8)
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        shown.must(not is_whole(path, newest.sha256), f"flipped bit {bit} was not noticed")
    for _ in range(10):
        path.write_bytes(whole[: chance.randrange(len(whole))])
        shown.must(not is_whole(path, newest.sha256), "a cut was not noticed")
    for way in ("flipped", "cut", "deleted"):
        resume_damaged(lab, shown, run_id, path, whole, way)
    shown.must(before.step < newest.step, "there was no checkpoint before")
    shown.seconds = time.monotonic() - started
    lab.engine.dispose()
    return shown


def resume_damaged(lab: Lab, shown: Shown, run_id: int, path: Path, whole: bytes, way: str) -> None:
    """Resume a copy of the lab whose newest checkpoint is damaged; it must end like a peaceful
    run, from the checkpoint before."""
    copy = lab.settings.folder.parent / f"damage-{way}"
    path.write_bytes(whole)
    shutil.copytree(lab.settings.folder, copy)
    twin = Lab.at(copy, reserve_megabytes=1, ballast_megabytes=0)
    damaged = copy / path.relative_to(lab.settings.folder)
    if way == "deleted":
        damaged.unlink()
    else:
        damaged.write_bytes(whole[:-100] if way == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    twin.resume(run_id)
    twin.train_claimed(run_id)
    peaceful = twin.train(RunConfig.model_validate(twin.run(run_id).config))
    compare(twin, shown, peaceful, run_id, [way])
    count_steps(twin, shown, run_id)
    twin.engine.dispose()
