"""Checkpoint: everything a run needs to go on exactly, in one safetensors file."""

import hashlib
import json
import os
import random
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save

from trainer.durable import sync_folder
from trainer.failpoints import failpoint
from trainer.loop import Progress
from trainer.place import Place
from trainer.setup import Setup

FORMAT = 2
NAME = re.compile(r"^\.?step-(\d+)(?:-(\d+))?\.safetensors")


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint as it lies on the disk."""

    step: int
    file: str
    bytes: int
    sha256: str


def save_checkpoint(
    place: Place,
    setup: Setup,
    progress: Progress,
    config: Mapping[str, Any],
    notes: Mapping[str, Any],
) -> SavedCheckpoint:
    """Write a checkpoint that is whole or not there at all.

    `config` and `notes` are the run's own, as JSON: with the first others can build its model.
    The fence is part of its name: a process whose run was taken over must not write over a file
    of the one that has it now, and no database guards a folder.
    """
    folder = place.checkpoints
    folder.mkdir(parents=True, exist_ok=True)
    tensors, state = gather(setup)
    state |= {"format": FORMAT, "progress": asdict(progress), "notes": dict(notes)}
    state |= {"run": place.run_id, "config": dict(config)}
    content = save(tensors, metadata={"tricklab": json.dumps(state)})
    name = file_name(progress.step, place.fence)
    temporary = folder / f".{name}"
    failpoint("checkpoint.begin")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            failpoint("checkpoint.written")
            file.flush()
            os.fsync(file.fileno())
        failpoint("checkpoint.synced")
        temporary.replace(folder / name)
    except OSError:
        # half a file on a full disk helps nobody
        temporary.unlink(missing_ok=True)
        raise
    failpoint("checkpoint.renamed")
    sync_folder(folder)
    return SavedCheckpoint(progress.step, name, len(content), hashlib.sha256(content).hexdigest())


def file_name(step: int, fence: int) -> str:
    return f"step-{step:09d}-{fence}.safetensors"


def drop_superseded(folder: Path, kept: Collection[str], fence: int) -> None:
    """Delete the files that no row points to any more.

    Not those of a later claim of the run; and of this claim's only what is older than all kept:
    the rows of newer ones are still to be written.
    """
    newest = max((step_and_fence(name)[0] for name in kept), default=-1)
    whole, half = folder.glob("step-*.safetensors"), folder.glob(".step-*.safetensors")
    for path in whole:
        step, of_fence = step_and_fence(path.name)
        is_old = of_fence < fence or (of_fence == fence and step < newest)
        if is_old and path.name not in kept:
            path.unlink(missing_ok=True)
    for path in half:
        if step_and_fence(path.name)[1] < fence:
            path.unlink(missing_ok=True)


def step_and_fence(name: str) -> tuple[int, int]:
    """What a file's name says; the files of the first format have no fence."""
    written = NAME.match(name)
    assert written, f"{name} is no checkpoint"
    return int(written[1]), int(written[2] or 0)


def is_whole(path: Path, sha256: str) -> bool:
    """Whether the file is there, to the last bit as it was written."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def load_checkpoint(path: Path, setup: Setup) -> tuple[Progress, dict[str, Any]]:
    """Put a placed setup and the process's generators where the checkpoint was; gives the notes."""
    with safe_open(path, "pt") as file:
        state = json.loads(file.metadata()["tricklab"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert state["format"] in (1, FORMAT), f"{path} has format {state['format']}, not {FORMAT}"
    setup.model.load_state_dict(part(tensors, "model."))
    # before the optimizer's: a trick may have given it more parameter groups meanwhile
    for name, trick_state in state["tricks"].items():
        setup.trick_state[name].load_state_dict(trick_state)
    setup.optimizer.load_state_dict(optimizer_state(tensors, state["optimizer"]))
    restore_generators(tensors, state["generators"])
    # sums are split between threads, so their number shows in the last digits
    torch.set_num_threads(state.get("threads", torch.get_num_threads()))
    return Progress(**state["progress"]), state["notes"]


def gather(setup: Setup) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Everything that changes while training: as tensors by name, and the rest as JSON."""
    optimizer = setup.optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    tensors = {f"model.{name}": value for name, value in setup.model.state_dict().items()}
    for number, values in optimizer["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{number}.{name}"] = value
            else:
                scalars.setdefault(str(number), {})[name] = value
    generators, drawn = generator_states()
    tensors |= generators
    state = {
        "optimizer": {"param_groups": optimizer["param_groups"], "scalars": scalars},
        "tricks": {name: trick.state_dict() for name, trick in setup.trick_state.items()},
        "generators": drawn,
        "threads": torch.get_num_threads(),
    }
    # copies on the host: safetensors takes no tensors that share memory
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}, state


def optimizer_state(
    tensors: Mapping[str, torch.Tensor], saved: Mapping[str, Any]
) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {
        int(number): dict(values) for number, values in saved["scalars"].items()
    }
    for name, value in part(tensors, "optimizer.").items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    return {"state": state, "param_groups": saved["param_groups"]}


def part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def generator_states() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The states of every process-wide generator: torch's as tensors, the others as JSON."""
    tensors = {"generator.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        for number, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"generator.cuda.{number}"] = state
    if torch.backends.mps.is_available():
        tensors["generator.mps"] = torch.mps.get_rng_state()
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return tensors, {
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, gauss],
        "random": random.getstate(),
    }


def restore_generators(tensors: Mapping[str, torch.Tensor], drawn: Mapping[str, Any]) -> None:
    torch.set_rng_state(tensors["generator.cpu"])
    if torch.cuda.is_available():
        for number, state in part(tensors, "generator.cuda.").items():
            if int(number) < torch.cuda.device_count():
                torch.cuda.set_rng_state(state, int(number))
    if torch.backends.mps.is_available() and "generator.mps" in tensors:
        torch.mps.set_rng_state(tensors["generator.mps"])
    kind, keys, position, has_gauss, gauss = drawn["numpy"]
    np.random.set_state((kind, np.asarray(keys, np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = drawn["random"]
    random.setstate((version, tuple(internal), gauss_next))
