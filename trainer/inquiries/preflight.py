"""preflight: a few real steps of a config, before anything is queued."""

import math
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Literal

import torch

from trainer.anatomy import weightless
from trainer.build import build_setup
from trainer.check import check, facts
from trainer.clock import Clock
from trainer.config import RunConfig
from trainer.failures import Cause, Diverged, failure_of
from trainer.inquiry import AboutConfig, Bench, Cancelled
from trainer.loop import Progress, evaluate, train
from trainer.memory import peak_memory_bytes, start_measuring
from trainer.part import Refused
from trainer.setup import Setup, StepOutcome
from trainer.tasks import Examples, TaskData
from trainer.threads import threads
from trainer.tricks import in_order, name_of

FEWEST_STEPS, MOST_STEPS = 2, 50
STEADY_SECONDS = 1.0
"""Steps are tried until so much time has passed after the first, which warms up."""
BLAMED = {Cause.OUT_OF_MEMORY: "loader.batch_size", Cause.DIVERGED: "optimizer.name"}


class Preflight(AboutConfig):
    """Try a few real steps of a config on the real device, and evaluate one batch.

    Tells the time of a step, of an epoch and of the whole run, the memory, the shapes, what each
    trick did, and what Python warned of; or why it cannot be trained. Nothing is recorded. The
    first step is told apart: it warms up.
    """

    title: ClassVar[str] = "Pre-flight"
    name: Literal["preflight"] = "preflight"

    def answer(self, bench: Bench) -> Mapping[str, Any]:
        if found := check(self.config):
            told = [{"field": one.field, "message": one.message} for one in found]
            reason = "; ".join(f"{one.field}: {one.message}" for one in found)
            return {"ok": False, "reason": reason, "field": found[0].field, "problems": told}
        try:
            with warnings.catch_warnings(record=True) as raised:
                warnings.simplefilter("always")
                with threads(self.config.threads):
                    answer = rehearsed(self.config, bench)
        except Cancelled:
            raise
        except Exception as error:
            return failed(error, bench)
        said = list(dict.fromkeys(str(warning.message) for warning in raised))
        return {**answer, "warnings": [*facts(self.config).warnings, *said]}


class Blamed(Refused):
    """What cannot be carried out, and the field that asks for it."""

    def __init__(self, refusal: Refused, field: str) -> None:
        super().__init__(str(refusal))
        self.field = field


@contextmanager
def blaming(field: str) -> Iterator[None]:
    """Whatever is refused inside the block is the fault of this field."""
    try:
        yield
    except Refused as refusal:
        raise Blamed(refusal, field) from refusal


def failed(error: Exception, bench: Bench) -> Mapping[str, Any]:
    """Why the config cannot be trained, in plain words."""
    failure = failure_of(error, {"peak_memory_bytes": peak_memory_bytes(bench.device)})
    return {
        "ok": False,
        "reason": failure.reason,
        "cause": failure.cause.value,
        "advice": failure.cause.advice,
        "field": error.field if isinstance(error, Blamed) else BLAMED.get(failure.cause, ""),
        "explanation": failure.details.get("explanation", ""),
        "traceback": failure.details.get("traceback", ""),
        "problems": [],
    }


def rehearsed(config: RunConfig, bench: Bench) -> dict[str, Any]:
    """Train the first steps and tell what they took. Raises whatever training raises."""
    if bench.device.type == "cuda":
        torch.cuda.set_device(bench.device)
    bench.tell(0.0, "reading the data")
    with blaming("task.name"):
        data = config.task.load(bench.data)
    bench.tell(0.2, "building the model")
    setup = build_setup(config, data, bench.device, bench.data.sources)
    tricks = in_order(config.tricks)
    for trick in tricks:
        with blaming(f"tricks.{config.tricks.index(trick)}.name"):
            trick.apply(setup)
    with ExitStack() as switches:
        for switch in setup.switches:
            switches.enter_context(switch())
        setup.place()
        setup.start_fresh()
        start_measuring(bench.device)
        rehearsal = Rehearsal(setup, bench, stop_when_diverged=config.budget.stop_when_diverged)
        train(setup, Progress(), rehearsal)
        bench.tell(0.9, "evaluating a batch")
        seconds = evaluated(setup, data)
        evidence = {name_of(type(trick)): dict(trick.evidence(setup)) for trick in tricks}
        memory = peak_memory_bytes(bench.device)
    return {
        "ok": True,
        "device": str(bench.device),
        **rehearsal.told(config),
        **shapes(config),
        "evaluation_seconds": seconds * -(-len(data.test) // setup.evaluation_batch),
        "peak_memory_bytes": memory,
        "evidence": evidence,
    }


class Rehearsal:
    """Looks on while the first steps are trained, and times each."""

    def __init__(self, setup: Setup, bench: Bench, *, stop_when_diverged: bool) -> None:
        self.setup, self.bench = setup, bench
        self.stop_when_diverged = stop_when_diverged
        self.clock = Clock()
        self.lap = self.clock.lap
        self.began = self.last = time.perf_counter()
        self.steps: list[float] = []
        self.losses: list[float] = []
        self.warm: dict[str, float] = {}
        """Seconds by activity of the first step, which is told apart."""

    def after_step(self, progress: Progress, outcome: StepOutcome) -> bool:
        # reading the loss waits for the device: what is timed has been done
        self.note_loss(float(outcome.loss))
        now = time.perf_counter()
        self.steps.append(now - self.last)
        if len(self.steps) == 1:
            self.began, self.warm = now, dict(self.clock.seconds)
        done = now - self.began > STEADY_SECONDS or len(self.steps) >= MOST_STEPS
        share = max(len(self.steps) / MOST_STEPS, (now - self.began) / STEADY_SECONDS)
        self.bench.tell(0.3 + 0.6 * min(share, 1.0), f"step {len(self.steps)}")
        self.last = time.perf_counter()
        return done and len(self.steps) >= FEWEST_STEPS

    def note_loss(self, loss: float) -> None:
        """Keep the loss of a step. Raises Diverged where the run would end by it."""
        if not math.isfinite(loss) and self.stop_when_diverged:
            step = len(self.losses)
            last = {"step": step, "train_loss": self.losses[-1]} if self.losses else None
            raise Diverged(step + 1, loss, last)
        self.losses.append(loss)

    def after_epoch(self, progress: Progress) -> bool:
        return False

    def told(self, config: RunConfig) -> dict[str, Any]:
        steady = statistics.median(self.steps[1:] or self.steps)
        examples = self.setup.train_examples / self.setup.steps_per_epoch
        steps = min(self.setup.total_steps, config.budget.steps or self.setup.total_steps)
        spent = {
            name: seconds - self.warm.get(name, 0.0) for name, seconds in self.clock.seconds.items()
        }
        counted = max(len(self.steps) - 1, 1)
        return {
            "first_step_seconds": self.steps[0],
            "step_seconds": steady,
            "steps_tried": len(self.steps),
            "steps": steps,
            "steps_per_epoch": self.setup.steps_per_epoch,
            "epoch_seconds": steady * self.setup.steps_per_epoch,
            "run_seconds": min(steady * steps, config.budget.seconds or math.inf),
            "samples_per_second": examples / steady,
            "seconds_by_activity": {n: s / counted for n, s in spent.items() if s > 0},
            "losses": self.losses,
        }


def evaluated(setup: Setup, data: TaskData) -> float:
    """Seconds that one batch of the evaluation takes."""
    chosen = slice(0, setup.evaluation_batch)
    began = time.perf_counter()
    evaluate(setup, Examples(data.test.inputs[chosen], data.test.targets[chosen]))
    return time.perf_counter() - began


def shapes(config: RunConfig) -> dict[str, Any]:
    task = config.task.facts()
    size = min(config.loader.batch_size, task.train_examples)
    parameters = sum(p.numel() for p in weightless(config.model, task).parameters())
    return {
        "parameters": parameters,
        "input_shape": [size, *task.input_shape],
        "output_shape": [size, *task.output_shape],
        "target_shape": [size, *task.target_shape],
    }
