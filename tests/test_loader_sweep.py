"""The loader sweep: what it measures, where more workers stop paying, and what it leaves behind."""

import json
import multiprocessing
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lab import Lab, tiny_config
from test_command_line import CommandLine
from test_loader_processes import Slow, digits, setup_of

from trainer.batches import EpochOrder, LoadedBatches, ResidentBatches
from trainer.config import RunConfig
from trainer.inquiries import Bench, Cancelled, LoaderSweep
from trainer.inquiries.loader_row import Row, knees, verdict
from trainer.inquiries.loader_sweep import placed
from trainer.loader import Loader
from trainer.memory import private_bytes
from trainer.pace import loading_pace, training_pace
from trainer.part import Refused
from trainer.setup import Setup
from trainer.tasks import DataFolders

CPU = torch.device("cpu")


class Listener:
    """Hears how far an answer is; wants no more of it after so many words."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.heard: list[tuple[float, str, Mapping[str, Any] | None]] = []

    def __call__(self, share: float, doing: str, so_far: Mapping[str, Any] | None = None) -> None:
        self.heard.append((share, doing, so_far))
        if len(self.heard) == self.most:
            self.stopped_at = time.monotonic()
            raise Cancelled


def asked(listener: Listener | None = None, **changes: Any) -> Mapping[str, Any]:
    """The answer to a small sweep."""
    chosen = {"config": tiny_config(), "workers": (0, 1), "seconds": 0.05, **changes}
    bench = Bench(CPU, DataFolders(Path("nowhere"), download=False), listener or Listener())
    return LoaderSweep(**chosen).answer(bench)


# -- the answer -----------------------------------------------------------------------------


def test_every_way_of_loading_is_measured_and_told_on_the_way() -> None:
    before = set(multiprocessing.active_children())
    listener = Listener()
    answer = asked(listener, workers=(1, 0), batch_sizes=(360, 100))
    rows = answer["rows"]
    assert [(row["batch_size"], row["workers"], row["is_resident"]) for row in rows] == [
        (size, *how) for size in (100, 360) for how in ((0, True), (0, False), (1, False))
    ]
    for row in rows:
        assert row["problem"] == ""
        assert row["loaded_per_second"] > 0
        assert row["first_batch_seconds"] > 0
        assert row["trained_per_second"] > 0
        assert 0 < row["waiting_share"] < 1
        # a process that was forked has some pages of its own, and shares those of torch
        least, most = (10**6, 10**8) if row["workers"] else (0, 0)
        assert least <= row["loader_memory_bytes"] <= most
    assert json.loads(json.dumps(answer)) == answer
    assert [knee["batch_size"] for knee in answer["knees"]] == [100, 360]
    assert "Batches of 360:" in answer["verdict"]
    shares = [share for share, _, _ in listener.heard]
    assert shares == sorted(shares)
    assert [len(told["rows"]) for _, _, told in listener.heard if told is not None] == [*range(6)]
    assert set(multiprocessing.active_children()) == before


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        (Row(100, 0, is_resident=True), ResidentBatches),
        (Row(100, 0, is_resident=False), LoadedBatches),
        (Row(100, 1, is_resident=False), LoadedBatches),
    ],
    ids=str,
)
def test_examples_stay_only_where_a_row_says_so(cell: Row, kind: type) -> None:
    config = LoaderSweep(config=tiny_config()).config_of(cell)
    bench = Bench(CPU, DataFolders(Path("nowhere"), download=False), Listener())
    with placed(config, cell, digits(), bench) as setup:
        assert isinstance(setup.batches.__self__, kind)  # type: ignore[attr-defined]
        batch = next(setup.batches(setup, 0, 0))
    assert len(batch.targets) == 100


def test_without_training_only_loading_is_measured() -> None:
    (row, *_) = asked(with_training=False, workers=(0,))["rows"]
    assert row["loaded_per_second"] > 0
    assert row["trained_per_second"] is row["waiting_share"] is None


@pytest.mark.parametrize("most", [1, 5, 6])
def test_who_wants_no_answer_any_more_is_heard_and_no_process_is_left(most: int) -> None:
    before = set(multiprocessing.active_children())
    listener = Listener(most)
    # a setup with this trick lies in a ring, where loader processes would be waited for in vain
    config = tiny_config(tricks=[{"name": "seed"}])
    with pytest.raises(Cancelled):
        asked(listener, config=config, workers=(0, 2))
    assert time.monotonic() - listener.stopped_at < 4
    assert len(listener.heard) == most
    assert set(multiprocessing.active_children()) == before


def test_what_cannot_be_is_told_in_its_row_and_the_others_are_measured() -> None:
    config = tiny_config(loader={"drop_last": True, "timeout": 60, "workers": 1})
    answer = asked(config=config, batch_sizes=(360, 2000), workers=(0, 1), with_training=False)
    told = {(row["batch_size"], row["workers"]): row["problem"] for row in answer["rows"]}
    assert told[360, 0] == told[360, 1] == ""
    assert "loader.batch_size: a batch of 2000 is larger than the 1437" in told[2000, 1]
    assert [knee["batch_size"] for knee in answer["knees"]] == [360]
    assert "2000" not in answer["verdict"]


def test_a_sweep_of_which_nothing_can_be_measured_is_refused() -> None:
    config = tiny_config(loader={"drop_last": True})
    with pytest.raises(Refused, match=r"loader\.batch_size: a batch of 2000 is larger"):
        asked(config=config, batch_sizes=(2000,))


def test_the_threads_of_the_config_are_used_and_put_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert asked(workers=(0,), with_training=False)["threads"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# -- the paces ------------------------------------------------------------------------------


class Slower(Slow):
    """Examples of which every batch takes 20 ms."""

    def __getitems__(self, indices: list[int]) -> Any:
        time.sleep(0.02)
        return self.examples.__getitems__(indices)


def slow_setup(workers: int) -> Setup:
    """A training whose batches of 100 take 20 ms each to load."""
    setup = setup_of(batch_size=100)
    order = EpochOrder(Loader(batch_size=100, workers=workers), digits().train.targets, 0)
    loaded = LoadedBatches(order, Slower(digits().train), CPU)  # type: ignore[arg-type]
    setup.batches, setup.epochs = loaded.of_epoch, 10**6
    setup.switches = [loaded.in_use]
    setup.place()
    return setup


def test_loading_is_as_fast_as_its_processes_and_training_waits_for_it() -> None:
    rates = {}
    for workers in (0, 2):
        setup = slow_setup(workers)
        with setup.switches[0]():
            rates[workers] = loading_pace(setup, 0.5, 2 * workers).samples_per_second
            if not workers:
                pace = training_pace(setup, 0.5)
    # 15 batches an epoch, one of 37: 96 examples of 20 ms
    assert rates[0] < 96 / 0.02
    assert 1.2 < rates[2] / rates[0] < 2.2
    # however long a busy machine takes for the rest of a step
    assert 0.017 < pace.waiting_share * 96 / pace.samples_per_second < 0.2


def test_steps_that_have_their_batches_do_not_wait() -> None:
    setup = setup_of(batch_size=100)
    setup.epochs = 10**6
    setup.place()
    assert training_pace(setup, 0.3).waiting_share < 0.1


def test_memory_that_is_shared_is_not_counted() -> None:
    mine = private_bytes([os.getpid()])
    assert mine is not None
    # more than the allocator ever keeps of what was freed before, which would count already
    held = torch.ones(10_000_000)
    more = private_bytes([os.getpid()])
    assert more is not None
    assert more - mine == pytest.approx(held.nbytes, rel=0.1)
    assert private_bytes([]) == 0
    assert private_bytes([2**22]) is None


# -- the verdict ----------------------------------------------------------------------------


def row(workers: int, rate: float, share: float | None = 0.5, resident: bool = False) -> Row:
    return Row(
        64,
        workers,
        resident,
        loaded_per_second=rate,
        trained_per_second=None if share is None else rate,
        waiting_share=share,
    )


def test_the_knee_is_the_fewest_workers_within_five_percent_of_the_best() -> None:
    rows = [row(0, 9999, resident=True), row(0, 500), row(1, 940), row(2, 960), row(4, 1000)]
    (knee,) = knees(rows)
    assert knee.workers == 2
    assert [one.workers for one in knees([row(0, 951), row(1, 1000)])] == [0]
    assert knees([replace(row(0, 1), problem="out of memory")]) == []


def test_each_batch_size_has_a_knee_of_its_own() -> None:
    large = [replace(one, batch_size=256) for one in (row(0, 10), row(1, 11))]
    assert [(knee.batch_size, knee.workers) for knee in knees([row(0, 5), row(1, 5), *large])] == [
        (64, 0),
        (256, 1),
    ]


@pytest.mark.parametrize(
    ("rows", "workers", "said"),
    [
        (
            [row(0, 100, 0.01, resident=True), row(0, 90), row(1, 300)],
            0,
            "Batches of 64: nothing to gain; waiting for those that stay on the device is 1.0 % of",
        ),
        (
            [row(0, 100, 0.4), row(1, 180), row(2, 181)],
            0,
            "with no workers is 40.0 % of a step; with 1 worker it trains 1.80 times as fast.",
        ),
        (
            [row(0, 100, 0.4), row(2, 60, 0.6), row(0, 300, 0.0, resident=True)],
            2,
            "with 2 workers is 60.0 % of a step; that stay on the device it trains 5.00 times",
        ),
        ([row(0, 100, 0.4), row(1, 104)], 0, "and nothing that was tried is more than 5 % faster"),
        ([row(0, 100, 0.4), row(1, 10)], 0, "and nothing that was tried is more than 5 % faster"),
        (
            [row(0, 100, None), row(1, 250, None)],
            0,
            "with 1 worker come at 250 examples a second, 2.5 times as many as those with no "
            "workers; whether training gains was not measured.",
        ),
        (
            [row(0, 100, None), row(1, 50, None)],
            0,
            "with no workers come at 100 examples a second;",
        ),
    ],
)
def test_the_verdict_says_what_to_do(rows: list[Row], workers: int, said: str) -> None:
    assert said in verdict(rows, workers)


# -- the command ----------------------------------------------------------------------------


@pytest.fixture
def tricklab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    lab = Lab.at(tmp_path / "lab")
    for name, value in lab.settings.as_environment().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tiny.json").write_text(tiny_config().model_dump_json())
    monkeypatch.chdir(tmp_path)
    return CommandLine(lab.settings.folder, capsys)


def test_the_command_prints_a_table_and_the_verdict(tricklab: CommandLine) -> None:
    said = tricklab("sweep", "tiny.json", "--workers", "0,1", "--seconds", "0.05")
    assert (said.code, said.err) == (0, "")
    heading, *rows = said.out.splitlines()
    assert heading.split() == "batch workers loads/s first batch memory trains/s waits".split()
    assert [line.split()[:2] for line in rows[:3]] == [["360", "none,"], ["360", "0"], ["360", "1"]]
    assert sum(" * " in line for line in rows[:3]) == 1
    assert "Digits on cpu" in said.out
    assert "Batches of 360:" in said.out


def test_the_command_prints_the_answer_as_json(tricklab: CommandLine) -> None:
    arguments = ("--workers", "0", "--batch-sizes", "100,360", "--seconds", "0.05", "--no-training")
    said = tricklab("sweep", "tiny.json", *arguments, "--json")
    assert (said.code, said.err) == (0, "")
    answer = json.loads(said.out)
    assert [row["batch_size"] for row in answer["rows"]] == [100, 100, 360, 360]
    assert answer["rows"][0]["trained_per_second"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workers", "0,many"), "--workers takes whole numbers such as 0,1,2, not '0,many'"),
        (("--workers", "0,65"), "workers.1: Input should be less than or equal to 64"),
        (("--workers", ""), "workers: Tuple should have at least 1 item"),
        (("--batch-sizes", "-3"), "--batch-sizes takes whole numbers"),
        (("--seconds", "0"), "seconds: Input should be greater than 0"),
    ],
)
def test_what_cannot_be_swept_is_refused_in_a_line(
    tricklab: CommandLine, arguments: tuple[str, ...], said: str
) -> None:
    (line,) = tricklab.refused("sweep", "tiny.json", *arguments)
    assert said in line


def test_a_sweep_as_json_comes_back_the_same() -> None:
    sweep = LoaderSweep(config=tiny_config(), workers=(0, 3), batch_sizes=(7,))
    assert LoaderSweep.model_validate_json(sweep.model_dump_json()) == sweep
    assert LoaderSweep().config == RunConfig()
