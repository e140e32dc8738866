"""What recording costs, told before: held against what real runs and real looks keep."""

import zlib
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lab import Lab, changed, tiny_config
from sqlalchemy import select
from test_flops import CalledAgain
from torch import nn

from trainer.anatomy import anatomy, chosen_layers
from trainer.batch import Batch
from trainer.check import facts
from trainer.config import Recording
from trainer.probe import Probe
from trainer.recording_cost import RecordingCost, looks_of, recording_cost, step_of, told_early
from trainer.store.database import reading
from trainer.store.tables import layer_outputs

When = Literal["log", "every", "end", "never"]


def kept(lab: Lab, run_id: int) -> dict[int, int]:
    """Bytes before compression of what a run kept of its layers, by step; -1 is the input."""
    found: dict[int, int] = {}
    with reading(lab.engine) as connection:
        for row in connection.execute(select(layer_outputs).filter_by(run_id=run_id)):
            step = -1 if row.view == "input" else row.step
            found[step] = found.get(step, 0) + len(zlib.decompress(row.payload))
    return found


@pytest.mark.parametrize(
    "recording",
    [
        {"layer_steps": "log"},
        {"layer_steps": "log", "layers": ["block*.conv", "head"], "layer_examples": 3},
        {"layer_steps": "every", "layers_every": 2, "layers": ["block1"]},
        {"layer_steps": "every", "layers_every": 3},
        {"layer_steps": "end", "layer_examples": 64},
        {"layer_steps": "never"},
    ],
    ids=str,
)
@pytest.mark.parametrize("steps", [4, 7])
def test_a_real_run_keeps_the_bytes_that_were_told(
    tmp_path: Path, recording: dict[str, Any], steps: int
) -> None:
    config = tiny_config(recording=recording, budget={"epochs": 2, "steps": steps})
    told = facts(config).recording
    lab = Lab.at(tmp_path)
    found = kept(lab, lab.train(config))
    assert sum(found.values()) == told.run_bytes
    assert found.pop(-1, 0) == told.input_bytes
    assert list(found.values()) == [told.look_bytes] * told.looks
    expected = [step_of(config.recording, look, steps) for look in range(told.looks)]
    assert sorted(found) == expected


@pytest.mark.parametrize("shape", [(1, 20, 8, 6), (1, 4, 300, 140)], ids=str)
def test_a_real_look_keeps_the_bytes_that_were_told(shape: tuple[int, ...]) -> None:
    """Modules called twice, frames in the batch, sides over the limit."""
    network, recording = CalledAgain(), Recording(layer_examples=2)
    layers = [*network.named_modules()][1:]
    batch = Batch(torch.randn(2, *shape), torch.zeros(2))
    look = Probe(recording, [path for path, _ in layers], batch).look(network, 0)
    bytes_kept = sum(len(zlib.decompress(output.payload)) for output in look.outputs)
    cost = recording_cost(
        recording, anatomy(network.to("meta"), shape), shape, steps=1, batch_size=2
    )
    assert cost.look_bytes + cost.input_bytes == bytes_kept


class Wide(nn.Module):
    """Pictures with more channels and pixels than are kept, and a number without channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 300, 1)
        self.total = Total()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.total(self.conv(inputs))
        return total


class Total(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.sum(dim=(1, 2, 3))


def test_what_is_over_the_probes_limits_costs_no_more_than_them() -> None:
    layers = anatomy(Wide().to("meta"), (1, 160, 90))
    cost = recording_cost(Recording(layer_examples=4), layers, (1, 160, 90), steps=8, batch_size=16)
    assert cost.look_bytes == 4 * 256 * 128 * 90
    assert cost.batch_bytes == 4 * 16 * (300 * 160 * 90 + 1)


def test_no_more_examples_cost_than_there_are() -> None:
    layers = anatomy(nn.Sequential(nn.Linear(3, 5)).to("meta"), (3,))
    recording = Recording(layer_examples=64, layer_steps="end")
    cost = recording_cost(recording, layers, (3,), steps=8, batch_size=1, test_examples=10)
    assert (cost.examples, cost.look_bytes, cost.input_bytes) == (10, 50, 30)


@pytest.mark.parametrize("when", ["log", "every", "end", "never"])
@pytest.mark.parametrize("every", [1, 3, 50])
@pytest.mark.parametrize("steps", [1, 2, 7, 8, 9, 63, 64])
def test_looks_come_when_the_probe_wants_them(when: When, every: int, steps: int) -> None:
    recording = Recording(layer_steps=when, layers_every=every)
    probe = Probe(recording, ["a"], Batch(torch.zeros(1, 1), torch.zeros(1)))
    expected = [step for step in range(steps + 1) if probe.wants(step)]
    if probe.wants_end() and steps not in expected:
        expected.append(steps)
    looks = looks_of(recording, steps)
    assert [step_of(recording, look, steps) for look in range(looks)] == expected


def test_without_layers_nothing_is_looked_at() -> None:
    cost = recording_cost(Recording(), (), (1, 8, 8), steps=100, batch_size=8)
    assert (cost.looks, cost.look_bytes, cost.run_bytes) == (0, 0, 0)
    assert not cost.ends_early


def tight(megabytes: int) -> tuple[RecordingCost, str]:
    config = tiny_config(
        model={"width": 512},
        recording={
            "layer_steps": "every",
            "layers_every": 1,
            "layer_megabytes": megabytes,
            "layers": ["block1.conv"],
            "layer_examples": 64,
        },
        budget={"steps": 3},
    )
    found = facts(config)
    assert found.total_steps == 3
    return found.recording, " ".join(w for w in found.warnings if w.startswith("recording:"))


def test_a_budget_that_may_end_the_recording_early_is_told_with_the_way_out() -> None:
    # 64 examples of 256 channels of 8x8 pixels, and 64 of the input
    cost, said = tight(3)
    assert (cost.look_bytes, cost.input_bytes, cost.looks) == (2**20, 4096, 4)
    assert cost.run_bytes == 4 * 2**20 + 4096
    assert cost.looks_kept == 2
    assert "4 looks of 1.0 MB come to 4.2 MB" in said
    assert "up to step 1 are sure" in said
    assert "raise layer_megabytes" in said
    assert "not even the first" in tight(1)[1]
    # 4,198,400 bytes fit into 5 MB
    assert tight(5) == (tight(5)[0], "")
    assert not tight(5)[0].ends_early


@pytest.mark.slow
def test_what_is_sure_to_be_kept_is_kept(tmp_path: Path) -> None:
    config = tiny_config(
        model={"width": 512},
        recording={
            "layer_steps": "every",
            "layers_every": 1,
            "layer_megabytes": 3,
            "layers": ["block1.conv"],
            "layer_examples": 64,
        },
        budget={"steps": 3},
    )
    told = facts(config).recording
    lab = Lab.at(tmp_path)
    found = kept(lab, lab.train(config))
    found.pop(-1)
    assert set(range(told.looks_kept)) <= set(found)


def test_the_layers_of_a_config_are_those_that_are_reckoned() -> None:
    config = changed(tiny_config(), recording={"layers": ["block?"], "layer_steps": "log"})
    found = facts(config)
    chosen = chosen_layers(found.layers, ["block?"])
    assert found.recording.layers == len(chosen) == found.recorded_layers == 3
    assert found.recording.batch_bytes == 4 * 360 * (2 * 64 + 4 * 16 + 4 * 4)
    assert told_early(found.recording, config.recording, found.total_steps) == ""
