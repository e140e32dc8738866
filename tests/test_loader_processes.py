"""Loader processes: however many there are, the same batches come and the same is learned."""

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from lab import Lab, quick_config
from safetensors.torch import load_file
from test_worker import eventually, is_dead

from trainer.batch import Batch
from trainer.batches import EpochOrder, LoadedBatches
from trainer.build import build_setup
from trainer.loader import Loader
from trainer.setup import Setup
from trainer.tasks import DataFolders, Digits, TaskData
from trainer.tricks import RandomShift

CPU = torch.device("cpu")
SAMPLERS: Mapping[str, dict[str, Any]] = {
    "shuffled": {},
    "sequential": {"sampler": "sequential"},
    "weighted": {"sampler": "weighted", "class_weights": [1, 0, *range(8)]},
    "class_balanced": {"sampler": "class_balanced", "order_seed": 3},
}
PROCESSES: Mapping[str, dict[str, Any]] = {
    "one": {"workers": 1},
    "one, anew each epoch": {"workers": 1, "persistent_workers": False},
    "two": {"workers": 2, "prefetch": 1},
    "two, anew each epoch": {"workers": 2, "persistent_workers": False},
}
JOURNEY = ((0, 0), (1, 2), (2, 0), (2, 3), (3, 100))
"""Epochs, and the batch from which on each is taken: some are begun in the middle."""


@functools.cache
def digits() -> TaskData:
    return Digits().load(DataFolders(Path("nowhere"), download=False))


def setup_of(**loader: Any) -> Setup:
    """A run of five batches an epoch, of which the last is smaller, with shifted images."""
    config = quick_config(loader={"batch_size": 300, **loader})
    setup = build_setup(config, digits(), CPU)
    RandomShift().apply(setup)
    return setup


def journey(setup: Setup) -> list[tuple[torch.Tensor, ...]]:
    """All that is in the batches of some epochs, as the model gets them."""
    with ExitStack() as switches:
        for switch in setup.switches:
            switches.enter_context(switch())
        return [
            contents(setup.ready(batch))
            for epoch, first in JOURNEY
            for batch in setup.batches(setup, epoch, first)
        ]


def contents(batch: Batch) -> tuple[torch.Tensor, ...]:
    assert batch.examples is not None
    return batch.inputs, batch.targets, batch.examples, torch.tensor(batch.epoch)


def are_same(one: list[tuple[torch.Tensor, ...]], other: list[tuple[torch.Tensor, ...]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(mine, its)
        for batch, its_batch in zip(one, other, strict=True)
        for mine, its in zip(batch, its_batch, strict=True)
    )


@functools.cache
def expected_journey(sampler: str, drop_last: bool) -> list[tuple[torch.Tensor, ...]]:
    """What comes without loader processes."""
    return journey(setup_of(**SAMPLERS[sampler], drop_last=drop_last))


@pytest.mark.parametrize("processes", PROCESSES)
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_batches_come_from_any_number_of_processes(
    sampler: str, drop_last: bool, processes: str
) -> None:
    expected = expected_journey(sampler, drop_last)
    assert len(expected) == (5 + 3 + 5 + 2 if not drop_last else 4 + 2 + 4 + 1)
    setup = setup_of(**SAMPLERS[sampler], drop_last=drop_last, **PROCESSES[processes])
    assert are_same(journey(setup), expected)


# -- whole runs -----------------------------------------------------------------------------


def weights(lab: Lab, run_id: int) -> tuple[list[float], bytes]:
    """The losses of all steps, and the newest checkpoint's weights."""
    run = lab.run(run_id)
    assert (run.status, run.reason) == ("finished", "")
    folder = lab.settings.run_folder(run_id) / "checkpoints"
    newest = max(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    tensors = load_file(newest)
    model = [name for name in sorted(tensors) if name.startswith("model.")]
    assert model
    found = b"".join(tensors[name].numpy().tobytes() for name in model)
    return lab.points(run_id, "train_loss").values.tolist(), found


def config_of(sampler: str, **loader: Any) -> Any:
    return quick_config(
        loader={"batch_size": 300, **SAMPLERS[sampler], **loader},
        tricks=[{"name": "random_shift"}],
        recording={"layer_steps": "never"},
        threads=1,
    )


@pytest.fixture(scope="module", params=[(name, drop) for name in SAMPLERS for drop in (0, 1)])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lab, str, bool, tuple[list[float], bytes]]:
    """A run without loader processes that nobody interrupted."""
    sampler, drop_last = request.param[0], bool(request.param[1])
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    run_id = lab.train(config_of(sampler, drop_last=drop_last))
    return lab, sampler, drop_last, weights(lab, run_id)


@pytest.mark.parametrize("processes", ["two", "one, anew each epoch"])
def test_the_same_is_learned_with_any_number_of_processes_and_after_a_pause(
    whole: tuple[Lab, str, bool, tuple[list[float], bytes]], processes: str
) -> None:
    lab, sampler, drop_last, expected = whole
    run_id = lab.add(config_of(sampler, drop_last=drop_last, **PROCESSES[processes]))
    lab.train_until(run_id, 6)
    assert (lab.run(run_id).status, lab.run(run_id).step) == ("paused", 6)
    lab.resume(run_id)
    lab.train_claimed(run_id)
    assert weights(lab, run_id) == expected


# -- batches as they are ready --------------------------------------------------------------


class Slow:
    """Examples of which every other batch takes a while."""

    def __init__(self, examples: Any) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitems__(self, indices: list[int]) -> Batch:
        if 0 in indices:
            time.sleep(0.3)
        return self.examples.__getitems__(indices)  # type: ignore[no-any-return]


def test_batches_that_come_as_they_are_ready_still_know_what_they_hold() -> None:
    train, setup = digits().train, setup_of()
    loader = Loader(batch_size=300, in_order=False, workers=2)
    expected = {
        tuple(numbers): (inputs, numbers)
        for inputs, _, examples, epoch in expected_journey("shuffled", False)
        if epoch == 0 and (numbers := examples.tolist())
    }
    order = EpochOrder(loader, train.targets, setup.seed)
    loaded = LoadedBatches(order, Slow(train), CPU)  # type: ignore[arg-type]
    came = [setup.ready(batch) for batch in loaded.of_epoch(setup, 0, 0)]
    numbers = [tuple(batch.examples.tolist()) for batch in came if batch.examples is not None]
    order.start(0, 0)
    planned = [tuple(members) for members in order]
    assert sorted(numbers) == sorted(planned)
    assert numbers != planned, "the slow batch was waited for"
    for batch, held in zip(came, numbers, strict=True):
        assert batch.epoch == 0
        # moved by what is drawn for each example, wherever its batch came
        assert torch.equal(batch.inputs, expected[held][0])
        assert torch.equal(batch.targets, train.targets[list(held)])


# -- how they start and end -----------------------------------------------------------------


def test_a_batch_that_takes_too_long_fails_the_run() -> None:
    train, setup = digits().train, setup_of()
    loader = Loader(batch_size=300, workers=1, timeout=0.05)
    loaded = LoadedBatches(EpochOrder(loader, train.targets, 0), Slow(train), CPU)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"timed out after 0\.05 seconds"):
        list(loaded.of_epoch(setup, 0, 0))


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_processes_started_in_any_way_bring_the_same_batches(context: str) -> None:
    setup = setup_of(workers=1, multiprocessing_context=context)
    assert are_same(journey(setup), expected_journey("shuffled", False))


STARTER = """
import sys, time
from pathlib import Path
import torch
from lab import quick_config
from trainer.build import build_setup
from trainer.tasks import DataFolders, Digits

if __name__ == "__main__":
    loader = {"workers": 1, "multiprocessing_context": sys.argv[1]}
    data = Digits().load(DataFolders(Path("nowhere"), download=False))
    setup = build_setup(quick_config(loader=loader), data, torch.device("cpu"))
    batches = setup.batches(setup, 0, 0)
    next(batches)
    import multiprocessing
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")
@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_loader_processes_die_with_a_killed_trainer(context: str, tmp_path: Path) -> None:
    script = tmp_path / "starter.py"
    script.write_text(STARTER)
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here), str(here.parent)])
    starter = subprocess.Popen(
        [sys.executable, str(script), context],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert starter.stdout is not None
    loaders = [psutil.Process(int(number)) for number in starter.stdout.readline().split()]
    assert loaders
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    eventually(lambda: all(map(is_dead, loaders)), "the end of the loader processes")


@pytest.mark.parametrize("is_whole", [True, False])
def test_no_loader_process_outlives_the_training(is_whole: bool) -> None:
    before = set(multiprocessing.active_children())
    setup = setup_of(workers=2)
    began = time.monotonic()
    (switch,) = setup.switches
    with switch():
        batches = setup.batches(setup, 0, 0)
        for _ in batches if is_whole else (next(batches),):
            assert len(set(multiprocessing.active_children()) - before) == 2
        del batches
    assert set(multiprocessing.active_children()) == before
    assert time.monotonic() - began < 4, "they were waited for in vain"
