"""The training loop: steps per second of the full product against a bare hand-written loop.

    python benchmarks/loop.py [--quick] [--no-peers] [--threads N] [--json FOLDER]

Same network, data, order and optimizer; the weights at the end are compared bit by bit. The
product records loss, accuracy and learning rate of every step, reports its progress, attributes its
time and would save a checkpoint every minute. Evaluation is left out of both: a bare loop would
have to do it as well.

The speed of a shared machine changes from second to second by more than is to be measured. So both
trainings go on in turns of some steps each in one thread, and each turn is compared with the one
right before. The recorder's own thread writes only while the product has its turn, and half as
often, so that it costs the product what it would cost if the bare loop were not there.
"""

import argparse
import gc
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from greenlet import getcurrent, greenlet

# first: it makes the rest importable
from harness.command import arguments, show
from harness.machine import described
from harness.peers import Peers
from harness.table import Table, goal
from lab import Lab, quick_config
from safetensors.torch import load_file

import trainer.recorder
import trainer.run
from app.executors.training import ClaimOverseer
from trainer.build import initial_model
from trainer.config import RunConfig
from trainer.loop import Progress
from trainer.place import Place
from trainer.recorder import Recorder
from trainer.setup import StepOutcome
from trainer.streams import generator
from trainer.watch import RunWatch


@dataclass(frozen=True)
class Workload:
    """A training, and the least that the product may have of the bare loop's speed."""

    title: str
    model: dict[str, object]
    batch_size: int
    epochs: int
    turn: int
    """Steps of one turn."""
    least: float


WORKLOADS = (
    Workload("tiny MLP, batch 64", {"name": "mlp", "hidden": (32,)}, 64, 200, 23, 0.97),
    Workload("small CNN 8x8, batch 64", {"name": "small_cnn"}, 64, 40, 10, 0.99),
    Workload("wide CNN, batch 256", {"name": "small_cnn", "width": 48}, 256, 16, 2, 0.99),
)
PEERS = ("tensorboard", "ignite", "accelerate", "lightning")
OTHERS = {
    "tiny MLP, batch 64": {"network": "mlp", "batch_size": 64, "epochs": 20},
    "small CNN 8x8, batch 64": {"network": "small_cnn", "batch_size": 64, "epochs": 5},
}


@dataclass
class Turns:
    """Whose turn it is, and how long each of them took."""

    writing: threading.Lock = field(default_factory=threading.Lock)
    """Held while the bare loop has its turn."""
    began: float = 0.0
    bare: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    def end(self, taken: list[float], other: greenlet) -> None:
        """End this turn and go on with the other's; comes back with the next one."""
        taken.append(time.perf_counter() - self.began)
        if taken is self.ours:
            self.writing.acquire()
        else:
            self.writing.release()
        self.began = time.perf_counter()
        other.switch()

    @property
    def speed(self) -> float:
        """What the product has of the bare loop's speed; the first turns still load things."""
        pairs = list(zip(self.bare[3:], self.ours[4:], strict=False))
        return statistics.median(bare / ours for bare, ours in pairs)


class Compared:
    """One workload, trained by the product and by a bare loop in turns."""

    def __init__(self, lab: Lab, workload: Workload, config: RunConfig) -> None:
        self.lab, self.workload, self.config = lab, workload, config
        self.data = config.task.load(lab.settings.data_folders)
        self.turns = Turns()
        self.product = getcurrent()
        self.loop = greenlet(self.train_bare)

    def train(self) -> bool:
        """Train both to the end; whether their weights are the same to the bit."""
        run_id = self.lab.add(self.config)
        claim = self.lab.claim(run_id)
        folder = self.lab.settings.run_folder(run_id)
        place = Place(run_id, folder, self.lab.settings.data_folders, "cpu", claim.fence, 0)
        with in_turns(self):
            trainer.run.train_run(self.config, place, self.lab.engine, ClaimOverseer(claim))
        while not self.loop.dead:
            self.loop.switch()
        newest = max((folder / "checkpoints").iterdir(), key=lambda path: path.stat().st_mtime)
        ours = load_file(newest)
        return all(torch.equal(ours[f"model.{name}"], w) for name, w in self.weights.items())

    def train_bare(self) -> None:
        """The loop that one would write for this training and nothing else."""
        config, facts, turns = self.config, self.config.task.facts(), self.turns
        model = initial_model(config, facts.input_shape, facts.outputs)
        optimizer = config.optimizer.build([{"params": list(model.parameters())}])
        inputs = (self.data.train.inputs.float() - self.data.mean) / self.data.spread
        targets = self.data.train.targets
        size, peak = config.loader.batch_size, config.optimizer.learning_rate
        total, step = config.budget.epochs * -(-len(targets) // size), 0
        model.train()
        turns.began = time.perf_counter()
        for epoch in range(config.budget.epochs):
            order = torch.randperm(len(targets), generator=generator(config.seed, "order", epoch))
            for chosen in order.split(size):
                for group in optimizer.param_groups:
                    group["lr"] = peak * config.schedule.multiplier(step, total)
                loss = F.cross_entropy(model(inputs[chosen]), targets[chosen])
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                step += 1
                if step % self.workload.turn == 0:
                    turns.end(turns.bare, self.product)
        self.weights = model.state_dict()
        if turns.writing.locked():
            turns.writing.release()


class in_turns:
    """The product's watch and recorder, told to take turns with a bare loop."""

    def __init__(self, compared: Compared) -> None:
        self.compared = compared
        self.normal = trainer.run.RunWatch, trainer.run.Recorder, trainer.recorder.BLOCK_SECONDS

    def __enter__(self) -> None:
        compared, turns = self.compared, self.compared.turns

        class Watch(RunWatch):
            def after_step(self, progress: Progress, outcome: StepOutcome) -> bool:
                ends = super().after_step(progress, outcome)
                if progress.step % compared.workload.turn == 0 and not compared.loop.dead:
                    turns.end(turns.ours, compared.loop)
                    self.clock.lap("start")
                return ends

            def evaluate(self, progress: Progress) -> None:
                before = time.perf_counter()
                super().evaluate(progress)
                turns.began += time.perf_counter() - before

        class Writing(Recorder):
            def commit(self) -> str:
                with turns.writing:
                    return super().commit()

        trainer.run.RunWatch, trainer.run.Recorder = Watch, Writing  # type: ignore[misc]
        trainer.recorder.BLOCK_SECONDS = 2 * self.normal[2]
        turns.began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        trainer.run.RunWatch, trainer.run.Recorder, trainer.recorder.BLOCK_SECONDS = self.normal


def config_of(workload: Workload, threads: int | None, quick: bool) -> RunConfig:
    return quick_config(
        model=workload.model,
        loader={"batch_size": workload.batch_size},
        budget={"epochs": workload.epochs // 2 if quick else workload.epochs},
        recording={"layer_steps": "never"},
        threads=threads,
    )


def rows(chosen: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    for workload in WORKLOADS:
        with tempfile.TemporaryDirectory() as folder:
            lab = Lab.at(Path(folder))
            if chosen.threads:
                torch.set_num_threads(chosen.threads)
            config = config_of(workload, chosen.threads, chosen.quick)
            compared = Compared(lab, workload, config)
            is_equal = compared.train()
            lab.engine.dispose()
        turns, micro = compared.turns, 1e6 / workload.turn
        yield (
            workload.title,
            f"{statistics.median(turns.bare) * micro:.0f}",
            f"{statistics.median(turns.ours) * micro:.0f}",
            f"{turns.speed:.3f}",
            str(len(turns.ours)),
            "yes" if is_equal else "NO",
            goal(turns.speed >= workload.least, f"{workload.least}"),
        )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, help="of torch; as it chooses otherwise")
    chosen = parser.parse_args()
    print(described(), flush=True)
    # as the server does from which runs are forked
    gc.collect()
    gc.freeze()
    show(product(chosen), chosen.json)
    show(beside(Peers(none=chosen.no_peers), turns=3 if chosen.quick else 7), chosen.json)


def product(chosen: argparse.Namespace) -> Table:
    table = Table(
        "The training loop against a bare one",
        ["workload", "bare, µs a step", "the product, µs", "speed", "turns", "same bits", "goal"],
    )
    for cells in rows(chosen):
        table.add(*cells)
    table.note(f"Medians over turns; threads: {chosen.threads or torch.get_num_threads()}.")
    return table


def beside(peers: Peers, turns: int) -> Table:
    """What other tools' loops have of a bare loop's speed, on networks of the same size."""
    table = Table("Other tools' loops against a bare one", ["tool", *OTHERS, "remarks"])
    for name in PEERS:
        answers = [peers.ask(name, "loop", turns=turns, **how) for how in OTHERS.values()]
        first = answers[0]
        for way in first.facts or [""]:
            cells = [f"{one.facts[way]:.2f}" if one else "" for one in answers]
            table.add(f"{first.title}, {way}", *cells, first.reason)
    table.note(f"Medians of {turns} trainings, each beside a bare one before and after it.")
    return table


if __name__ == "__main__":
    main()
