"""Random changes to training examples: a function of (seed, epoch, example) and nothing else."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab import Lab, quick_config, tiny_config
from safetensors.torch import load_file
from test_streams import plain_draw

from app import queue
from app.executors.training import train_claimed
from app.models import Status
from trainer.batch import Batch
from trainer.build import build_setup
from trainer.check import check, facts
from trainer.config import RunConfig
from trainer.part import Refused
from trainer.setup import Setup
from trainer.store.database import reading, writing
from trainer.store.reader import list_checkpoints
from trainer.streams import sample_draws
from trainer.tasks import DataFolders, Digits, TaskData
from trainer.tricks import RandomShift
from trainer.tricks.random_shift import Shifts, moved

CPU = torch.device("cpu")
TRICK = {"name": "random_shift", "pixels": 2}


@functools.cache
def digits() -> TaskData:
    return Digits().load(DataFolders(Path("nowhere"), download=False))


def setup_of(trick: RandomShift | None = None, **changes: Any) -> Setup:
    """The setup of a tiny run on the digits, the trick applied where there is one."""
    tricks = [] if trick is None else [trick.model_dump()]
    setup = build_setup(tiny_config(tricks=tricks, **changes), digits(), CPU)
    if trick is not None:
        trick.apply(setup)
    return setup


# -- batches know what they hold ------------------------------------------------------------


@pytest.mark.parametrize(
    "loader",
    [
        {"batch_size": 100},
        {"batch_size": 100, "sampler": "sequential"},
        {"batch_size": 100, "drop_last": True},
        {"batch_size": 100, "workers": 1},
        {"batch_size": 100, "workers": 2, "persistent_workers": False},
        {"batch_size": 1437},
    ],
    ids=str,
)
def test_a_batch_says_which_examples_it_holds_and_of_which_epoch(loader: dict[str, Any]) -> None:
    train, setup = digits().train, setup_of(loader=loader)
    left = setup.batches_per_epoch
    # an epoch left in the middle, one begun in the middle, a whole one, one that is all done
    for epoch, first, most in ((0, 0, 3), (0, left // 2, left), (1, 0, left), (2, left, left)):
        seen = 0
        for batch, _ in zip(setup.batches(setup, epoch, first), range(most), strict=False):
            assert batch.examples is not None
            stored = Batch(train.inputs[batch.examples], train.targets[batch.examples])
            assert torch.equal(setup.ready(batch).inputs, setup.prepare(stored).inputs)
            assert torch.equal(batch.targets, stored.targets)
            assert batch.epoch == epoch
            seen += 1
        assert seen == min(most, left - first)


def test_a_whole_epoch_holds_every_example_once() -> None:
    setup = setup_of(loader={"batch_size": 100})
    numbers = [batch.examples for batch in setup.batches(setup, 3, 0) if batch.examples is not None]
    assert torch.cat(numbers).sort().values.tolist() == list(range(1437))


def test_on_its_way_to_the_model_a_batch_keeps_what_it_knows() -> None:
    setup = setup_of(RandomShift())
    batch = next(setup.batches(setup, 5, 1))
    ready = setup.ready(batch)
    assert ready.examples is batch.examples
    assert ready.epoch == 5
    assert torch.equal(ready.targets, batch.targets)


# -- shifts ---------------------------------------------------------------------------------


def by_hand(
    image: np.ndarray[Any, Any], down: int, right: int, mirrored: bool, padding: str
) -> Any:
    """An image (C, H, W) mirrored, framed by enough of the padding, and cut out again."""
    _, height, width = image.shape
    image = image[:, :, ::-1] if mirrored else image
    frame = ((0, 0), (height, height), (width, width))
    framed = np.pad(image, frame, "edge") if padding == "edge" else np.pad(image, frame)
    return framed[:, height - down : 2 * height - down, width - right : 2 * width - right]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7), (2, 4, 3)], ids=str)
@pytest.mark.parametrize("mirrored", [None, False, True])
@pytest.mark.parametrize("padding", ["zero", "edge"])
def test_an_image_is_moved_as_by_hand(
    shape: tuple[int, int, int], mirrored: bool | None, padding: str
) -> None:
    moves = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    images = torch.randn(len(moves), *shape, generator=torch.Generator().manual_seed(1))
    background = torch.zeros(1, *shape) if padding == "zero" else None
    flips = None if mirrored is None else torch.tensor([mirrored] * len(moves))
    got = moved(images, torch.tensor(moves), flips, background)
    for image, (down, right), result in zip(images, moves, got, strict=True):
        expected = by_hand(image.numpy(), down, right, bool(mirrored), padding)
        assert np.array_equal(result.numpy(), expected)


@pytest.mark.parametrize("padding", ["zero", "edge"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("pixels", [1, 3, 7])
def test_a_batch_is_that_of_the_stored_images_moved_as_drawn(
    padding: Any, flip: bool, pixels: int
) -> None:
    setup = setup_of(RandomShift(pixels=pixels, padding=padding, flip=flip), seed=11)
    batch = next(setup.batches(setup, 2, 1))
    assert batch.examples is not None
    stored = torch.stack(
        [
            torch.from_numpy(
                by_hand(
                    image.numpy(),
                    plain_draw(11, 2, example, "random_shift", 0) % (2 * pixels + 1) - pixels,
                    plain_draw(11, 2, example, "random_shift", 1) % (2 * pixels + 1) - pixels,
                    flip and plain_draw(11, 2, example, "random_shift", 2) % 2 == 1,
                    padding,
                ).copy()
            )
            for image, example in zip(
                digits().train.inputs[batch.examples], batch.examples.tolist(), strict=True
            )
        ]
    )
    # normalised after the move: what is uncovered is the background of a normalised image
    expected = digits().normalise(Batch(stored, batch.targets)).inputs
    assert torch.equal(setup.ready(batch).inputs, expected)


def moved_examples(setup: Setup, epoch: int) -> torch.Tensor:
    """All training inputs as the model sees them in this epoch, in the order of their numbers."""
    inputs = torch.empty(setup.train_examples, *setup.input_shape)
    for batch in setup.batches(setup, epoch, 0):
        assert batch.examples is not None
        inputs[batch.examples] = setup.ready(batch).inputs
    return inputs


def test_an_example_is_moved_anew_each_epoch_and_always_the_same_in_one() -> None:
    first = moved_examples(setup_of(RandomShift()), 0)
    assert torch.equal(moved_examples(setup_of(RandomShift()), 0), first)
    in_other_batches = setup_of(RandomShift(), loader={"batch_size": 64, "sampler": "sequential"})
    assert torch.equal(moved_examples(in_other_batches, 0), first)
    for other in (
        moved_examples(setup_of(RandomShift()), 1),
        moved_examples(setup_of(RandomShift(), seed=1), 0),
    ):
        differs = (other != first).flatten(1).any(dim=1).double().mean()
        # one in nine moves is the same by chance
        assert float(differs) == pytest.approx(8 / 9, abs=0.04)


def test_other_tricks_move_nothing_else(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    curves = [
        lab.points(lab.train(tiny_config(tricks=tricks)), "train_loss").values.tolist()
        for tricks in ([TRICK], [{"name": "seed"}, {"name": "deterministic"}, TRICK])
    ]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("pixels", [1, 3])
def test_the_evidence_counts_what_was_drawn(tmp_path: Path, pixels: int) -> None:
    lab = Lab.at(tmp_path)
    trick = RandomShift(pixels=pixels, flip=True)
    config = tiny_config(tricks=[trick.model_dump()], budget={"epochs": 2})
    evidence = lab.run(lab.train(config)).evidence["random_shift"]
    draws = torch.cat([sample_draws(0, e, torch.arange(1437), "random_shift", 3) for e in (0, 1)])
    moves = draws[:, :2] % (2 * pixels + 1) - pixels
    # each training example once an epoch: the test examples that were scored are not among them
    assert evidence == {
        "examples": 2874,
        "shifted": int((moves != 0).any(dim=1).sum()),
        "mirrored": int((draws[:, 2] % 2).sum()),
        "mean_absolute_shift": pytest.approx(float(moves.abs().double().mean())),
        "expected_absolute_shift": pytest.approx({1: 2 / 3, 3: 12 / 7}[pixels]),
    }
    assert evidence["mean_absolute_shift"] == pytest.approx(
        evidence["expected_absolute_shift"], rel=0.04
    )
    assert evidence["mirrored"] / 2874 == pytest.approx(0.5, abs=0.04)


# -- whole runs -----------------------------------------------------------------------------


def outcome(lab: Lab, run_id: int) -> dict[str, Any]:
    """All that must agree to the bit: curves, evidence, and a hash of weights and optimizer."""
    run = lab.run(run_id)
    assert (run.status, run.reason) == (Status.FINISHED, "")
    with reading(lab.engine) as connection:
        newest = list_checkpoints(connection, run_id)[0]
    tensors = load_file(lab.settings.run_folder(run_id) / "checkpoints" / str(newest.file))
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.startswith(("model.", "optimizer.")):
            digest.update(name.encode() + tensors[name].numpy().tobytes())
    curves = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
    points = {name: lab.points(run_id, name) for name in curves}
    return {
        "curves": {name: (p.steps.tolist(), p.values.tolist()) for name, p in points.items()},
        "evidence": run.evidence,
        "state": digest.hexdigest(),
    }


def augmented(**changes: Any) -> RunConfig:
    return quick_config(tricks=[TRICK], threads=1, **changes)


def plain(**changes: Any) -> RunConfig:
    return quick_config(threads=1, **changes)


@pytest.fixture(scope="module", params=[plain, augmented])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lab, Callable[..., RunConfig], dict[str, Any]]:
    """A run without loader processes and without a pause, the trick off and on."""
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    return lab, request.param, outcome(lab, lab.train(request.param()))


@pytest.mark.parametrize(("workers", "persistent"), [(1, True), (2, True), (2, False)])
def test_loader_processes_change_nothing(
    whole: tuple[Lab, Callable[..., RunConfig], dict[str, Any]], workers: int, persistent: bool
) -> None:
    lab, config, expected = whole
    loader = {"workers": workers, "persistent_workers": persistent}
    assert outcome(lab, lab.train(config(loader=loader))) == expected


@pytest.mark.parametrize(("at_step", "workers"), [(1, 0), (23, 0), (30, 0), (30, 2)])
def test_a_run_interrupted_in_an_epoch_ends_as_if_it_never_was(
    whole: tuple[Lab, Callable[..., RunConfig], dict[str, Any]], at_step: int, workers: int
) -> None:
    lab, config, expected = whole
    run_id = lab.add(config(loader={"workers": workers}))
    lab.train_until(run_id, at_step)
    assert (lab.run(run_id).status, lab.run(run_id).step) == (Status.PAUSED, at_step)
    with writing(lab.engine) as connection:
        queue.resume(connection, run_id)
    train_claimed(lab.claim(run_id), lab.settings)
    assert outcome(lab, run_id) == expected


def test_the_trick_changes_what_is_learned_and_another_seed_does_too(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    configs = (tiny_config(), tiny_config(tricks=[TRICK]), tiny_config(tricks=[TRICK], seed=1))
    assert len({outcome(lab, lab.train(config))["state"] for config in configs}) == 3


# -- refused --------------------------------------------------------------------------------


def test_inputs_that_are_no_images_are_refused() -> None:
    setup = setup_of()
    setup.input_shape = (64,)
    with pytest.raises(Refused, match=r"^random_shift moves images .* inputs are 64; switch it"):
        RandomShift().apply(setup)
    assert setup.change_batch == []


@pytest.mark.parametrize(
    ("shape", "most"), [((1, 8, 8), 7), ((3, 5, 9), 4), ((3, 9, 5), 4)], ids=str
)
def test_a_shift_that_leaves_nothing_of_the_image_is_refused(
    shape: tuple[int, ...], most: int
) -> None:
    assert RandomShift(pixels=most).unfit(shape) is None
    why = RandomShift(pixels=most + 1).unfit(shape)
    assert why is not None
    assert f"by {most + 1} pixels leaves nothing" in why
    assert f"lower pixels below {most + 1}" in why


def test_too_many_pixels_are_refused_beside_their_field_before_the_run() -> None:
    (problem,) = check(tiny_config(tricks=[{"name": "random_shift", "pixels": 8}]))
    assert problem.field == "tricks.0.pixels"
    assert "1x8x8" in problem.message
    assert check(tiny_config(tricks=[{"name": "random_shift", "pixels": 7}])) == ()


def test_mirrored_digits_are_warned_of_and_mirrored_clothes_are_not() -> None:
    def warned(task: str, flip: bool) -> list[str]:
        tricks = [{"name": "random_shift", "flip": flip}]
        config = RunConfig.model_validate({"task": {"name": task}, "tricks": tricks})
        return [warning for warning in facts(config).warnings if "random_shift" in warning]

    (warning,) = warned("digits", True)
    assert "switch flip off" in warning
    assert warned("digits", False) == warned("fashion_mnist", True) == []


# -- on the GPU -----------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("padding", ["zero", "edge"])
def test_on_the_gpu_images_are_moved_alike_and_nobody_waits_for_it(padding: Any) -> None:
    setup, trick = setup_of(), RandomShift(pixels=2, padding=padding, flip=True)
    # whole numbers, which every device gets from the stored ones without rounding
    setup.prepare = lambda batch: Batch(
        batch.inputs.float() - 3, batch.targets, batch.examples, batch.epoch
    )
    batch = next(setup.batches(setup, 0, 0))
    stored = batch._replace(inputs=digits().train.inputs[batch.examples])
    expected = Shifts(trick, setup).change(setup.prepare(stored)).inputs
    there, on_device = Shifts(trick, setup), setup.prepare(stored.to(torch.device("cuda")))
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = there.change(on_device).inputs
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(got.cpu(), expected)
