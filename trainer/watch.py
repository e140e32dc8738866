"""RunWatch: looks on while a run trains: records, probes, evaluates, saves, obeys."""

import logging
import math
from typing import Any

from sqlalchemy import Connection

from trainer.block import Value
from trainer.checkpoint import SavedCheckpoint, drop_superseded, save_checkpoint
from trainer.clock import Clock
from trainer.config import RunConfig
from trainer.loop import Progress, evaluate
from trainer.memory import peak_memory_bytes
from trainer.place import Place
from trainer.probe import Look, Probe
from trainer.recorder import Recorder
from trainer.setup import Setup, StepOutcome
from trainer.store.writer import SeriesKey, Writer
from trainer.tasks import TaskData

log = logging.getLogger(__name__)

ENDS = {"pause": "paused", "cancel": "cancelled", "give back": "given back", "stop": "finished"}
"""What may be asked of a run, and how it then ends."""


class RunWatch:
    """What the loop reports to. Its decisions fall between steps, never inside one."""

    def __init__(
        self,
        *,
        config: RunConfig,
        setup: Setup,
        data: TaskData,
        recorder: Recorder,
        probe: Probe,
        place: Place,
        notes: dict[str, Any],
    ) -> None:
        self.config = config
        self.setup = setup
        self.data = data
        self.recorder = recorder
        self.probe = probe
        self.place = place
        self.clock: Clock = recorder.clock
        self.clock.seconds |= notes.get("seconds", {})
        self.waited = self.clock.seconds["data"]
        self.saved_at = self.clock.last
        self.layer_bytes = int(notes.get("layer_bytes", 0))
        self.examples = int(notes.get("examples", 0))
        self.scores: dict[str, Any] = notes.get("scores", {})
        self.end = "finished"
        self.step = 0
        self.stopped_early = bool(notes.get("stopped_early", False))
        # lost between its last checkpoint and its conclusion: there is nothing left to train
        self.is_over = notes.get("finished_with") == config.budget.model_dump()
        self.evaluated_step = int(notes.get("evaluated_step", -1))
        self.looked_step = int(notes.get("looked_step", -1))
        self.lap = self.clock.lap

    # -- called by the loop -----------------------------------------------------------------

    def after_step(self, progress: Progress, outcome: StepOutcome) -> bool:
        self.examples += outcome.examples
        waited = self.clock.seconds["data"]
        if progress.step % self.config.recording.metrics_every == 0:
            values: dict[str, Value] = {
                "train_loss": outcome.loss,
                "learning_rate": self.setup.learning_rate,
                "data_seconds": waited - self.waited,
            }
            if outcome.hits is not None:
                values["train_accuracy"] = outcome.hits
            self.recorder.add(progress.step, values)
        self.waited = waited
        self.recorder.turn(progress.step)
        self.clock.lap("recording")
        if self.probe.wants(progress.step):
            self.look(progress.step)
        # the last step of an epoch is decided on after its evaluation, in after_epoch: a
        # checkpoint between the two would evaluate the epoch twice on resuming
        if progress.batch >= self.setup.batches_per_epoch:
            return False
        return self.is_to_end(progress)

    def after_epoch(self, progress: Progress) -> bool:
        self.evaluate(progress)
        main = self.setup.targets.kind.main_metric
        log.info(
            "epoch %d of %d: val_loss %.4g, %s %.4f",
            progress.epoch,
            self.setup.epochs,
            self.scores["val_loss"],
            main,
            self.scores[main],
        )
        return self.is_to_end(progress)

    # -- around the loop --------------------------------------------------------------------

    def before_training(self, progress: Progress) -> None:
        """Look at the untrained network, once."""
        if progress.step == 0 and self.probe.wants(0):
            self.look(0)
        self.clock.lap("start")
        self.saved_at = self.clock.last

    def after_training(self, progress: Progress) -> None:
        """The last look, score and checkpoint; a cancelled run gets none of them."""
        self.step = progress.step
        self.recorder.hand_over(progress.step)
        if self.end == "finished":
            if self.evaluated_step != progress.step:
                self.evaluate(progress)
            if self.probe.wants_end() and self.looked_step != progress.step:
                self.look(progress.step)
            self.recorder.hand_over(progress.step)
        if self.end != "cancelled":
            self.save(progress, is_last=self.end == "finished")

    def result(self) -> dict[str, Any]:
        """What the run came to, as JSON."""
        seconds = self.clock.train_seconds
        return {
            **self.scores,
            "examples": self.examples,
            "train_seconds": seconds,
            "samples_per_second": self.examples / seconds if seconds else math.nan,
            "peak_memory_bytes": peak_memory_bytes(self.setup.device),
            "seconds": dict(self.clock.seconds),
            "stopped_early": self.stopped_early,
        }

    # -- decisions --------------------------------------------------------------------------

    def is_to_end(self, progress: Progress) -> bool:
        """Obey what is asked, keep the budget, and save a checkpoint when one is due."""
        budget = self.config.budget
        if asked := self.recorder.asked:
            self.end = ENDS[asked]
            self.stopped_early = asked == "stop"
            log.info("asked to %s at step %d", asked, progress.step)
            return True
        if (budget.steps and progress.step >= budget.steps) or (
            budget.seconds and self.clock.train_seconds >= budget.seconds
        ):
            log.info("the budget is used up at step %d", progress.step)
            return True
        # at the very end it is saved after the last look: one from before it would look twice
        if progress.epoch < self.setup.epochs and self.is_to_save(progress.step):
            self.recorder.hand_over(progress.step)
            self.save(progress)
        return False

    def is_to_save(self, step: int) -> bool:
        recording = self.config.recording
        if recording.checkpoint_steps and step % recording.checkpoint_steps == 0:
            return True
        return self.clock.last - self.saved_at >= recording.checkpoint_seconds

    # -- what it does between steps ---------------------------------------------------------

    def evaluate(self, progress: Progress) -> None:
        """Score the test examples and record what they come to at this step."""
        self.clock.turn_to("evaluating")
        score = evaluate(self.setup, self.data.test, lambda: self.clock.lap("evaluation"))
        numbers = {f"val_{name}": value for name, value in score.metrics.numbers.items()}
        scores = {"val_loss": score.loss, **numbers}
        self.keep(progress, scores)
        self.scores["details"] = dict(score.metrics.details)
        self.recorder.add_scores(
            progress.step, {SeriesKey(name): value for name, value in scores.items()}
        )
        self.clock.lap("evaluation")

    def keep(self, progress: Progress, scores: dict[str, float]) -> None:
        """Remember the newest scores, and where the main one was best."""
        self.evaluated_step = progress.step
        main = self.setup.targets.kind.main_metric
        best = self.scores.get(f"best_{main}", -math.inf)
        self.scores |= {**scores, "steps": progress.step, "epochs": progress.epoch}
        if scores[main] > best:
            self.scores |= {f"best_{main}": scores[main], f"best_{main}_step": progress.step}

    def look(self, step: int) -> None:
        """Let the probe look, and record what it saw as far as the budget of bytes goes."""
        self.clock.turn_to("looking at layers")
        self.looked_step = step
        look = self.probe.look(self.setup.evaluated_model(self.setup), step)
        self.recorder.add_scores(
            step,
            {
                SeriesKey(name, str(place)): value
                for place, values in look.statistics.items()
                for name, value in values.items()
            },
        )
        outputs = self.affordable(look)
        if outputs:
            self.recorder.write(
                lambda connection, writer: writer.add_layer_outputs(connection, outputs),
                prepare=lambda: [output.payload for output in outputs],
            )
        self.clock.lap("probe")

    def affordable(self, look: Look) -> tuple[Any, ...]:
        """The look's outputs, or none when they would not fit into the run's budget."""
        size = sum(output.levels.nbytes for output in look.outputs)
        most = self.config.recording.layer_megabytes * 10**6
        if self.layer_bytes + size > most:
            why = f"with {size / 1e6:.1f} MB more they would be over recording.layer_megabytes"
        elif not self.place.has_room_for(size):
            why = "the disk is nearly full, and what is left is for checkpoints"
        else:
            self.layer_bytes += size
            return look.outputs
        log.warning(
            "layer outputs of step %d are not kept: %s; their statistics are", look.step, why
        )
        return ()

    def save(self, progress: Progress, *, is_last: bool = False) -> None:
        """Write a checkpoint, and then the row that points to it; then drop what is too old."""
        self.clock.turn_to("saving a checkpoint")
        notes = {
            "seconds": self.clock.seconds,
            "layer_bytes": self.layer_bytes,
            "examples": self.examples,
            "scores": self.scores,
            "evaluated_step": self.evaluated_step,
            "looked_step": self.looked_step,
            "stopped_early": self.stopped_early,
            "finished_with": self.config.budget.model_dump() if is_last else None,
        }
        config = self.config.model_dump(mode="json")
        saved = save_checkpoint(self.place, self.setup, progress, config, notes)
        self.point_to(saved)
        self.clock.lap("checkpoint")
        self.saved_at = self.clock.last

    def point_to(self, saved: SavedCheckpoint) -> None:
        kept: list[str] = []

        def write(connection: Connection, writer: Writer) -> None:
            writer.add_checkpoint(connection, saved.step, saved.file, saved.bytes, saved.sha256)
            kept[:] = writer.keep_checkpoints(connection, self.config.recording.checkpoints_kept)
            self.recorder.overseer.saved(connection)

        def drop() -> None:
            drop_superseded(self.place.checkpoints, kept, self.place.fence)

        self.recorder.write(write, durable=True, afterwards=drop)
