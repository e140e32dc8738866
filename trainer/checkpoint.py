"""Checkpoint: everything a run needs to go on exactly, in one safetensors file."""

import hashlib
import json
import os
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save

from trainer.loop import Progress
from trainer.setup import Setup

FORMAT = 1
KEPT = 2


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint as it lies on the disk."""

    step: int
    file: str
    bytes: int
    sha256: str


def save_checkpoint(
    folder: Path, setup: Setup, progress: Progress, notes: Mapping[str, Any]
) -> SavedCheckpoint:
    """Write a checkpoint that is whole or not there at all. `notes` are the run's own, as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors, state = gather(setup)
    state |= {"format": FORMAT, "progress": asdict(progress), "notes": dict(notes)}
    content = save(tensors, metadata={"tricklab": json.dumps(state)})
    name = file_name(progress.step)
    temporary = folder / f".{name}.{os.getpid()}"
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / name)
    sync_folder(folder)
    drop_old(folder)
    return SavedCheckpoint(progress.step, name, len(content), hashlib.sha256(content).hexdigest())


def file_name(step: int) -> str:
    return f"step-{step:09d}.safetensors"


def sync_folder(folder: Path) -> None:
    """The new name itself must reach the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def drop_old(folder: Path) -> None:
    """Delete all but the newest files: one more than rows are kept, as the rows come later."""
    for old in sorted(folder.glob("step-*.safetensors"))[: -KEPT - 1]:
        old.unlink()


def drop_later(folder: Path, step: int) -> None:
    """Delete the files of later steps: once a run has gone back they would pass for the newest."""
    for later in folder.glob("step-*.safetensors"):
        if later.name > file_name(step):
            later.unlink()


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
    assert state["format"] == FORMAT, f"{path} has format {state['format']}, not {FORMAT}"
    setup.model.load_state_dict(part(tensors, "model."))
    setup.optimizer.load_state_dict(optimizer_state(tensors, state["optimizer"]))
    for name, trick_state in state["tricks"].items():
        setup.trick_state[name].load_state_dict(trick_state)
    restore_generators(tensors, state["generators"])
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
