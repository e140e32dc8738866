"""The training loop: steps per second of the full product against a bare hand-written loop.

    python benchmarks/loop.py [--quick] [--threads N] [--profile] [--json FOLDER]

Same network, data, order and optimizer, both in this process, in turns; the weights at the end are
compared bit by bit. The product records loss, accuracy and learning rate of every step, reports its
progress, attributes its time and would save a checkpoint every minute. Evaluation is left out of
both: a bare loop would have to do it as well.
"""

import cProfile
import pstats
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

# first: it makes the rest importable
from harness.command import arguments
from harness.machine import described
from harness.table import Table, goal
from harness.turns import in_turn
from lab import Lab, quick_config

from app.executors.training import ClaimOverseer
from trainer.build import initial_model
from trainer.config import RunConfig
from trainer.place import Place
from trainer.run import train_run
from trainer.streams import generator


@dataclass(frozen=True)
class Workload:
    """A training, and the least that the product may have of the bare loop's speed."""

    title: str
    model: dict[str, object]
    batch_size: int
    epochs: int
    least: float


WORKLOADS = (
    Workload("tiny MLP, batch 64", {"name": "mlp", "hidden": (32,)}, 64, 120, 0.97),
    Workload("small CNN 8x8, batch 64", {"name": "small_cnn"}, 64, 20, 0.97),
    Workload("wide CNN, batch 256", {"name": "small_cnn", "width": 48}, 256, 6, 0.99),
)


def config_of(workload: Workload, threads: int | None) -> RunConfig:
    return quick_config(
        model=workload.model,
        loader={"batch_size": workload.batch_size},
        budget={"epochs": workload.epochs},
        recording={"layer_steps": "never"},
        threads=threads,
    )


class Compared:
    """One workload, trained by the product and by a bare loop."""

    def __init__(self, lab: Lab, config: RunConfig) -> None:
        self.lab, self.config = lab, config
        self.data = config.task.load(lab.settings.data_folders)
        self.steps = 0
        self.weights: dict[str, dict[str, torch.Tensor]] = {}

    def ours(self) -> float:
        """Seconds of training as the run's own clock has them, all but evaluation and start."""
        run_id = self.lab.add(self.config)
        claim = self.lab.claim(run_id)
        folder = self.lab.settings.run_folder(run_id)
        place = Place(run_id, folder, self.lab.settings.data_folders, "cpu", claim.fence, 0)
        ending = train_run(self.config, place, self.lab.engine, ClaimOverseer(claim))
        seconds = ending.result["seconds"]
        self.steps = ending.step
        self.weights["ours"] = last_weights(folder)
        beside = ("evaluation", "probe", "start", "checkpoint")
        return float(sum(seconds[name] for name in seconds if name not in beside))

    def bare(self) -> float:
        """Seconds of the loop that one would write for this training and nothing else."""
        config, facts = self.config, self.config.task.facts()
        model = initial_model(config, facts.input_shape, facts.outputs)
        optimizer = config.optimizer.build([{"params": list(model.parameters())}])
        inputs = (self.data.train.inputs.float() - self.data.mean) / self.data.spread
        targets = self.data.train.targets
        size, peak = config.loader.batch_size, config.optimizer.learning_rate
        total, step, seconds = config.budget.epochs * -(-len(targets) // size), 0, 0.0
        model.train()
        for epoch in range(config.budget.epochs):
            began = time.perf_counter()
            order = torch.randperm(len(targets), generator=generator(config.seed, "order", epoch))
            for chosen in order.split(size):
                for group in optimizer.param_groups:
                    group["lr"] = peak * config.schedule.multiplier(step, total)
                loss = F.cross_entropy(model(inputs[chosen]), targets[chosen])
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                step += 1
            seconds += time.perf_counter() - began
        self.weights["bare"] = model.state_dict()
        return seconds

    @property
    def is_equal(self) -> bool:
        """Whether both ended with the same weights to the bit."""
        ours, bare = self.weights["ours"], self.weights["bare"]
        return all(torch.equal(ours[f"model.{name}"], value) for name, value in bare.items())


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    newest = max((folder / "checkpoints").glob("step-*"), key=lambda path: path.stat().st_mtime)
    return load_file(newest)


def compare(threads: int | None, turns: int) -> Table:
    table = Table(
        "The training loop against a bare one",
        ["workload", "bare, µs a step", "the product, µs", "speed", "equal to the bit", "goal"],
    )
    for workload, compared in each(threads):
        compared.ours(), compared.bare()
        found = in_turn({"bare": compared.bare, "ours": compared.ours}, turns)
        speed = found["bare"].over(found["ours"])
        micro = 1e6 / compared.steps
        table.add(
            workload.title,
            f"{found['bare'].median * micro:.0f}",
            f"{found['ours'].median * micro:.0f}",
            f"{speed:.3f}",
            "yes" if compared.is_equal else "NO",
            goal(speed >= workload.least, f"{workload.least}"),
        )
    table.note(f"n = {turns} turns; threads: {threads or torch.get_num_threads()}.")
    return table


def each(threads: int | None) -> Iterator[tuple[Workload, Compared]]:
    for workload in WORKLOADS:
        with tempfile.TemporaryDirectory() as folder:
            lab = Lab.at(Path(folder))
            if threads:
                torch.set_num_threads(threads)
            yield workload, Compared(lab, config_of(workload, threads))
            lab.engine.dispose()


def profile(threads: int | None) -> None:
    """Where the training thread's own time goes, per step; the profiler itself slows all of it."""
    for workload, compared in each(threads):
        compared.ours()
        profiler = cProfile.Profile()
        profiler.enable()
        compared.ours()
        profiler.disable()
        print(f"\n{workload.title}: {compared.steps} steps")
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, help="of torch; as it chooses otherwise")
    parser.add_argument("--profile", action="store_true", help="show where the time goes instead")
    chosen = parser.parse_args()
    print(described())
    if chosen.profile:
        profile(chosen.threads)
        return
    table = compare(chosen.threads, 5 if chosen.quick else 15)
    print(table)
    if chosen.json:
        chosen.json.mkdir(parents=True, exist_ok=True)
        table.save(chosen.json / f"{table.name}.json")


if __name__ == "__main__":
    main()
