"""Training here: one run in this very process, shown as a progress bar in the terminal."""

import contextlib
import signal
import threading
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from sqlalchemy import Engine, select

from app import queue
from app.devices import DeviceLock, device_name
from app.executors.local import LocalExecutor
from app.metrics import kind_of
from app.models import Asked, Status, runs
from app.presence import Presence
from app.queue import Claim, ClaimLost
from app.settings import Settings
from app.sources import missing_sources
from app.supervision import Supervision
from trainer.config import RunConfig
from trainer.part import Refused
from trainer.store.database import reading, writing
from trainer.store.reader import list_series

LOOK_SECONDS = 0.2


def train_here(
    engine: Engine,
    settings: Settings,
    config: RunConfig,
    *,
    name: str,
    recipe: str,
    console: Console,
) -> bool:
    """Train a config as a new run of the lab; whether it finished. Ctrl-C stops it orderly."""
    for field, message in missing_sources(engine, config):
        raise Refused(f"{field}: {message}")
    device = device_name(config.device)
    if not DeviceLock(settings.folder, device).is_free():
        console.print(f"A worker holds {device} too: this run's times will be off.", style="yellow")
    executor = LocalExecutor(settings)
    with Presence(engine, settings, device) as presence:
        executor.warm_up()
        with writing(engine) as connection:
            run_id = queue.add(connection, config, name=name, recipe=recipe)
            # in one transaction, so that no worker takes it first
            claim = queue.claim(connection, presence.worker_id, run_id)
        assert claim is not None
        stop_on_interrupt(engine, claim, console)
        supervision = Supervision(
            engine, settings, executor, lambda: False, lambda: presence.is_disowned
        )
        with ShownProgress(engine, claim, console):
            supervise(engine, supervision, claim, presence)
    return conclude_on(engine, claim, console)


def supervise(engine: Engine, supervision: Supervision, claim: Claim, presence: Presence) -> None:
    """Train to the end of the run; one that was lost on the way is taken up again at once."""
    taken: Claim | None = claim
    try:
        while taken is not None:
            supervision.train(taken)
            with writing(engine) as connection:
                taken = queue.claim(connection, presence.worker_id, claim.run_id)
    except KeyboardInterrupt:
        assert taken is not None
        with contextlib.suppress(ClaimLost), writing(engine) as connection:
            queue.conclude(connection, taken, Status.CANCELLED, "killed from its terminal")


def stop_on_interrupt(engine: Engine, claim: Claim, console: Console) -> None:
    """The first Ctrl-C stops the run at its next step, the second kills it."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=ask).start()

    def ask() -> None:
        # not in the handler: the interrupted code may hold the lock that a write waits for
        console.print("Stopping at the next step; once more to kill it.")
        try:
            with writing(engine) as connection:
                queue.ask(connection, claim.run_id, Asked.STOP)
        except Refused:
            pass

    signal.signal(signal.SIGINT, stop)


class ShownProgress:
    """A progress bar inside the block, fed from the database like every page."""

    def __init__(self, engine: Engine, claim: Claim, console: Console) -> None:
        self.engine = engine
        self.claim = claim
        self.over = threading.Event()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total} steps"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[scores]}"),
            console=console,
        )
        self.thread = threading.Thread(target=self.follow, name="progress")

    def __enter__(self) -> None:
        self.bar.start()
        self.thread.start()

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()
        self.bar.stop()

    def follow(self) -> None:
        task = self.bar.add_task(f"run {self.claim.run_id}", total=None, scores="")
        while not self.over.wait(LOOK_SECONDS):
            self.update(task)
        self.update(task)

    def update(self, task: TaskID) -> None:
        with reading(self.engine) as connection:
            run = connection.execute(
                select(runs.c.step, runs.c.total_steps, runs.c.config).where(
                    runs.c.id == self.claim.run_id
                )
            ).one()
            last = {row.name: row.last for row in list_series(connection, [self.claim.run_id])}
        main = kind_of(run.config).main_metric
        shown = {"train_loss": "loss", main: main}
        scores = "  ".join(f"{shown[name]} {last[name]:.4f}" for name in shown if name in last)
        self.bar.update(task, completed=run.step, total=run.total_steps, scores=scores)


def conclude_on(engine: Engine, claim: Claim, console: Console) -> bool:
    """Say how the run ended; whether it finished."""
    with reading(engine) as connection:
        run = connection.execute(select(runs).where(runs.c.id == claim.run_id)).one()
    console.print(f"Run {run.id}, {run.name}: {run.status}", highlight=False)
    if run.reason:
        console.print(run.reason, highlight=False, markup=False)
    if run.result:
        main, seconds = kind_of(run.config).main_metric, run.result["train_seconds"]
        console.print(
            f"{main} {run.result[main]}, best {run.result.get(f'best_{main}', 'none')}, "
            f"{seconds:.2f} s of training",
            highlight=False,
        )
    return bool(run.status == Status.FINISHED)
