"""What torch has no deterministic form of is known by version, and what a search of cuDNN costs."""

import re
import time

import pytest
import torch
from torch import nn

from trainer.batch import Batch
from trainer.tricks.cudnn_benchmark import TIMED_STEPS, ShapesSeen
from trainer.tricks.deterministic import NO_DETERMINISTIC_BACKWARD, without_deterministic_form

CPU = torch.device("cpu")


def test_the_installed_torch_says_the_same_of_each_layer() -> None:
    said = torch.use_deterministic_algorithms.__doc__ or ""
    _, mended, refused = said.split("normally-nondeterministic operations will")
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    for kind, since in NO_DETERMINISTIC_BACKWARD.items():
        raises = since is None or version < since
        named = re.compile(rf"`torch\.nn\.{kind}`")
        assert named.search(refused if raises else mended), kind
        assert not named.search(mended if raises else refused), kind


@pytest.mark.parametrize(
    ("version", "named"),
    [
        ("2.11.0+cu128", ["1 (MaxPool3d)", "2 (AdaptiveAvgPool3d)"]),
        ("2.12.1", ["1 (MaxPool3d)", "2 (AdaptiveAvgPool3d)"]),
        ("2.13.0+cpu", ["2 (AdaptiveAvgPool3d)"]),
    ],
)
def test_layers_are_named_by_the_version_that_they_depend_on(
    version: str, named: list[str]
) -> None:
    model = nn.Sequential(nn.Conv3d(1, 1, 1), nn.MaxPool3d(2), nn.AdaptiveAvgPool3d(1))
    assert without_deterministic_form(model, version) == named


def batch(size: int) -> Batch:
    return Batch(torch.zeros(size, 2), torch.zeros(size))


def test_the_first_step_of_each_shape_is_held_against_the_next_two() -> None:
    shapes = ShapesSeen(CPU)
    for step, size in enumerate([8, 8, 8, 8, 3, 3, 8]):
        shapes.see(batch(size))
        if step in (0, 4):
            time.sleep(0.05)
        shapes.after_step(None, step)  # type: ignore[arg-type]
    found = shapes.search_seconds()
    assert set(found) == {"8x2", "3x2"}
    assert all(0.04 < seconds < 5 for seconds in found.values())
    # only the first steps of a shape wait for the device
    assert {len(seconds) for seconds in shapes.seconds.values()} == {TIMED_STEPS, 2}
    again = ShapesSeen(CPU)
    again.load_state_dict(shapes.state_dict())
    assert again.search_seconds() == found


def test_a_step_of_several_batches_is_timed_once() -> None:
    shapes = ShapesSeen(CPU)
    for size in (8, 8, 3):
        shapes.see(batch(size))
    shapes.after_step(None, 1)  # type: ignore[arg-type]
    assert {shape: len(seconds) for shape, seconds in shapes.seconds.items()} == {(8, 2): 1}
