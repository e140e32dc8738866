"""loader_sweep: how many loader processes pay, for which batch sizes, on this machine."""

import gc
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from trainer.batches import EpochOrder, LoadedBatches, is_resident
from trainer.build import build_setup
from trainer.check import check
from trainer.config import RunConfig
from trainer.failures import is_out_of_memory
from trainer.inquiries.loader_row import Row, knees, verdict
from trainer.inquiry import AboutConfig, Bench
from trainer.loader import usable_cores
from trainer.pace import loading_pace, training_pace
from trainer.part import Refused
from trainer.setup import Setup
from trainer.tasks import TaskData
from trainer.threads import threads
from trainer.tricks import in_order

Workers = Annotated[int, Field(ge=0, le=64)]
BatchSize = Annotated[int, Field(ge=1, le=65_536)]


class LoaderSweep(AboutConfig):
    """How fast batches come with more or fewer loader processes, and whether training gains.

    Each number of workers is tried with each batch size: first batches are taken and dropped,
    then a few seconds are trained. Where the examples fit on the device and stay there, as they
    do in runs without workers, that is tried too. The knee is the fewest workers that are
    within 5 % of the best; where a step waits for data less than 3 % of its time, more workers
    have nothing to gain.
    """

    title: ClassVar[str] = "Loader sweep"
    needs_device_alone: ClassVar[bool] = True
    name: Literal["loader_sweep"] = "loader_sweep"
    workers: tuple[Workers, ...] = Field(
        (0, 1, 2, 4), min_length=1, max_length=16, description="Numbers of loader processes."
    )
    batch_sizes: tuple[BatchSize, ...] = Field(
        (), max_length=16, description="Examples per batch; empty takes the run's own."
    )
    seconds: float = Field(
        1.0, gt=0, le=10, description="Seconds that loading is measured for, and training again."
    )
    with_training: bool = Field(
        True, description="Also train, which tells whether loading is what a step waits for."
    )

    def answer(self, bench: Bench) -> Mapping[str, Any]:
        data = self.config.task.load(bench.data)
        cells = list(self.cells(data, bench.device))
        rows: list[Row] = []
        with threads(self.config.threads), without_warnings():
            for number, cell in enumerate(cells):
                bench.tell(number / len(cells), str(cell), self.told(rows, bench))
                rows.append(self.measured(cell, data, bench, (number + 0.5) / len(cells)))
            if all(row.problem for row in rows):
                raise Refused(rows[0].problem)
            return self.told(rows, bench)

    def cells(self, data: TaskData, device: torch.device) -> Iterator[Row]:
        """What is to be measured: rows without figures."""
        alone = self.config.loader.model_copy(update={"workers": 0})
        for size in sorted(set(self.batch_sizes or (self.config.loader.batch_size,))):
            if is_resident(alone, data.train, device):
                yield Row(size, 0, is_resident=True)
            for workers in sorted(set(self.workers)):
                yield Row(size, workers, is_resident=False)

    def measured(self, cell: Row, data: TaskData, bench: Bench, share: float) -> Row:
        """A cell with its figures, or with the reason why it has none."""
        config = self.config_of(cell)
        if problems := check(config):
            return cell.with_problem(f"{problems[0].field}: {problems[0].message}")
        try:
            with placed(config, cell, data, bench) as setup:
                ahead = cell.workers * config.loader.prefetch
                row = cell.with_loading(loading_pace(setup, self.seconds, ahead))
                if self.with_training:
                    bench.tell(share, f"{cell}: training")
                    row = row.with_training(training_pace(setup, self.seconds))
            return row
        except Refused as refusal:
            return cell.with_problem(str(refusal))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return cell.with_problem("out of memory")
        finally:
            # setups lie in rings, and the next one needs the room
            gc.collect()

    def config_of(self, cell: Row) -> RunConfig:
        changes: dict[str, Any] = {"workers": cell.workers, "batch_size": cell.batch_size}
        if not cell.workers:
            # needed by processes alone, and refused without
            changes |= {"timeout": 0.0, "multiprocessing_context": ""}
        loader = self.config.loader.model_copy(update=changes)
        endless = self.config.budget.model_copy(update={"epochs": 100_000, "steps": None})
        return self.config.model_copy(update={"loader": loader, "budget": endless})

    def told(self, rows: Sequence[Row], bench: Bench) -> dict[str, Any]:
        """The answer as far as it is known."""
        usual = self.config.loader.workers
        return {
            "device": str(bench.device),
            "cores": usable_cores(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "rows": [asdict(row) for row in rows],
            "knees": [
                {"batch_size": knee.batch_size, "workers": knee.workers} for knee in knees(rows)
            ],
            "verdict": verdict(rows, usual),
        }


@contextmanager
def placed(config: RunConfig, cell: Row, data: TaskData, bench: Bench) -> Iterator[Setup]:
    """A setup ready to train, inside its switches; no loader process outlives the block."""
    setup = build_setup(config, data, bench.device, bench.data.sources)
    if not cell.is_resident and not cell.workers:
        order = EpochOrder(config.loader, data.train.targets, config.seed)
        setup.batches = LoadedBatches(order, data.train, bench.device).of_epoch
    for trick in in_order(config.tricks):
        trick.apply(setup)
    with ExitStack() as switches:
        for switch in setup.switches:
            switches.enter_context(switch())
        setup.place()
        setup.start_fresh()
        yield setup


@contextmanager
def without_warnings() -> Iterator[None]:
    """Nobody need be told that there are more workers than cores: it is what is being tried."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield
