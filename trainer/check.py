"""Check: what can be told about a config before anything is trained."""

import difflib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainer.anatomy import LayerFacts, chosen_layers, examined, matching, weightless
from trainer.config import RunConfig
from trainer.losses import LOSSES
from trainer.models import MODELS, Model
from trainer.part import Refused, name_of
from trainer.recording_cost import RecordingCost, recording_cost, told_early
from trainer.sources import BY_RECIPE, NO_REFERENCE, references
from trainer.tasks import TaskFacts
from trainer.tricks import (
    CudnnBenchmark,
    Deterministic,
    Freeze,
    GradientAccumulation,
    LayerwiseLearningRate,
    RandomShift,
    StartingWeights,
)


@dataclass(frozen=True)
class Problem:
    """Something that would make the run fail: the field it stands in, and the way out."""

    field: str
    message: str


@dataclass(frozen=True)
class RunFacts:
    """What a run will be like: known from the config alone."""

    parameters: int
    train_examples: int
    test_examples: int
    batches_per_epoch: int
    steps_per_epoch: int
    total_steps: int
    examples_per_step: int
    """With accumulation those of several batches."""
    peak_learning_rate: float
    """By the schedule's peak and what a trick makes of it; layers may have others."""
    layers: tuple[LayerFacts, ...]
    recorded_layers: int
    recording: RecordingCost
    warnings: tuple[str, ...]


def check(config: RunConfig) -> tuple[Problem, ...]:
    """Every reason why this run would be refused, or none."""
    return tuple(problems(config))


def problems(config: RunConfig) -> Iterator[Problem]:
    task = config.task.facts()
    try:
        found = examined(config.model, task.input_shape, task.outputs)
    except Refused as refusal:
        yield Problem("model.name", str(refusal))
        return
    layers = found.layers
    if why := wrong_output(config, found.output_shape):
        yield Problem("model.name", why)
    if unfit := config.loss.unfit(task.targets):
        yield Problem(f"loss.{unfit[0]}", unfit[1] + other_losses(config, task))
    for pattern in config.recording.layers:
        if not matching(layers, pattern):
            yield Problem("recording.layers", unknown_layer(pattern, layers))
    if why := single_values(config, layers):
        yield Problem("loader.batch_size", why)
    for field, why in config.loader.problems(task):
        yield Problem(f"loader.{field}", why)
    if not config.loader.in_order and any(isinstance(t, Deterministic) for t in config.tricks):
        yield Problem(
            "loader.in_order",
            "deterministic promises the same bits every time, and with in_order off batches come "
            "as they happen to be ready; switch in_order on, or deterministic off",
        )
    for field, reference in references(config):
        if not reference.strip():
            yield Problem(field, NO_REFERENCE)
    yield from trick_problems(config, layers)


def trick_problems(config: RunConfig, layers: tuple[LayerFacts, ...]) -> Iterator[Problem]:
    """Why a trick would find nothing to change, or could not do it here."""
    task, batches = config.task.facts(), batches_per_epoch(config)
    for number, trick in enumerate(config.tricks):
        if isinstance(trick, GradientAccumulation) and trick.steps > batches > 0:
            yield Problem(
                f"tricks.{number}.steps",
                f"an epoch has {batches} batches; lower steps or the batch size",
            )
        if isinstance(trick, CudnnBenchmark) and not any("Conv" in layer.kind for layer in layers):
            yield Problem(
                f"tricks.{number}.name",
                f"cudnn_benchmark has nothing to search: {config.model.name} has no convolution",
            )
        if isinstance(trick, RandomShift) and (immovable := trick.unfit(task.input_shape)):
            yield Problem(f"tricks.{number}.pixels", immovable)
        if isinstance(trick, Freeze | StartingWeights) and (
            why := trick.unfit(weightless(config.model, task))
        ):
            yield Problem(f"tricks.{number}.layers", why)
        if isinstance(trick, LayerwiseLearningRate) and (why := unchanged_rates(config, trick)):
            yield Problem(f"tricks.{number}.decay", why)
        if isinstance(trick, Freeze) and (late := trick.too_late(config.budget.epochs)):
            yield Problem(f"tricks.{number}.unfreeze_epoch", late)


def unchanged_rates(config: RunConfig, trick: LayerwiseLearningRate) -> str:
    """Why this trick would change no rate of what learns; "" where it does."""
    network = weightless(config.model, config.task.facts())
    stays: set[str] = set()
    for other in config.tricks:
        if isinstance(other, Freeze) and other.unfreeze == "never" and not other.unfit(network):
            stays |= set(other.frozen(network))
    learning = [n for n, _ in network.named_parameters() if n.rpartition(".")[0] not in stays]
    return trick.unfit(network, learning)


def wrong_output(config: RunConfig, found: tuple[int, ...] | None) -> str:
    """Why what the model gives cannot be held against the task's targets; "" where it can."""
    task = config.task.facts()
    if found == task.output_shape:
        return ""
    fitting = [name_of(model) for model in MODELS if fits(model(), task)]
    return (
        f"{config.model.name} gives {shown(found)} for an example, and {config.task.name} needs "
        f"{shown(task.output_shape)} ({task.kind.meaning}); choose {' or '.join(fitting)}"
    )


def single_values(config: RunConfig, layers: Sequence[LayerFacts]) -> str:
    """Why batch norm would refuse a batch of one example, for which it has one value a channel."""
    loader, examples = config.loader, config.task.facts().train_examples
    last = 0 if loader.drop_last else examples % loader.batch_size
    # frozen ones keep their statistics and take any batch
    if 1 not in (loader.batch_size, last) or any(isinstance(t, Freeze) for t in config.tricks):
        return ""
    for layer in layers:
        shape = layer.output_shape or ()
        if layer.kind.startswith("BatchNorm") and math.prod(shape[1:]) == 1:
            return (
                f"{'a' if loader.batch_size == 1 else 'the last'} batch has one example, of which "
                f"batch norm {layer.path} gets one value per channel and cannot train; choose "
                "another batch size, or drop_last"
            )
    return ""


def other_losses(config: RunConfig, task: TaskFacts) -> str:
    """Where the loss is for other targets, those that are for these."""
    if task.kind in config.loss.suits:
        return ""
    return f": {', '.join(name_of(loss) for loss in LOSSES if task.kind in loss.suits)}"


def fits(model: Model, task: TaskFacts) -> bool:
    """Whether a model takes a task's inputs and gives what is held against its targets."""
    try:
        found = examined(model, task.input_shape, task.outputs)
    except Refused:
        return False
    return found.output_shape == task.output_shape


def shown(shape: tuple[int, ...] | None) -> str:
    return "x".join(map(str, shape)) if shape else "no single tensor"


def unknown_layer(pattern: str, layers: tuple[LayerFacts, ...]) -> str:
    paths = [layer.path for layer in layers]
    near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.4) or paths[:3]
    return f"no layer of this model matches {pattern!r}; there are, for example, {', '.join(near)}"


def batches_per_epoch(config: RunConfig) -> int:
    return config.loader.batches_of(config.task.facts().train_examples)


def facts(config: RunConfig) -> RunFacts:
    """Sizes and steps of a run. Raises Refused when the model does not fit the task."""
    task = config.task.facts()
    layers = examined(config.model, task.input_shape, task.outputs).layers
    batches = batches_per_epoch(config)
    accumulation = next((t for t in config.tricks if isinstance(t, GradientAccumulation)), None)
    window = accumulation.steps if accumulation else 1
    steps = -(-batches // window)
    rate = config.optimizer.learning_rate * (accumulation.rate_factor if accumulation else 1.0)
    total = steps * config.budget.epochs
    total = min(total, config.budget.steps or total)
    recorded = chosen_layers(layers, config.recording.layers)
    cost = recording_cost(
        config.recording,
        recorded,
        task.input_shape,
        steps=total,
        batch_size=config.loader.batch_size,
        test_examples=task.test_examples,
    )
    early = told_early(cost, config.recording, total)
    return RunFacts(
        parameters=sum(layer.parameters for layer in layers),
        train_examples=task.train_examples,
        test_examples=task.test_examples,
        batches_per_epoch=batches,
        steps_per_epoch=steps,
        total_steps=total,
        examples_per_step=config.loader.batch_size * window,
        peak_learning_rate=rate,
        layers=layers,
        recorded_layers=len(recorded),
        recording=cost,
        warnings=(*warnings(config), *([early] if early else [])),
    )


def warnings(config: RunConfig) -> Iterator[str]:
    """What works, but perhaps not as meant."""
    size, examples = config.loader.batch_size, config.task.facts().train_examples
    if told := config.loss.mapping_of_old_flags:
        yield f"{config.loss.name}: {told}"
    yield from config.loader.warnings(config.device)
    for field, reference in references(config):
        if reference.startswith(BY_RECIPE):
            name = reference.removeprefix(BY_RECIPE)
            yield f"{field}: a run of {name} must have finished when this one starts"
    weighting = getattr(config.loss, "weighting", "equal")
    if config.loader.draws_by_class and weighting != "equal":
        yield (
            f"loader: {config.loader.sampler} and {config.loss.name} with {weighting} weights both "
            "make up for rare classes, which then count twice; keep one"
        )
    for trick in config.tricks:
        if isinstance(trick, CudnnBenchmark) and not config.loader.drop_last and examples % size:
            yield (
                f"cudnn_benchmark: the last batch of an epoch has {examples % size} examples "
                f"instead of {size}, a second shape to search; drop_last avoids it"
            )
        if isinstance(trick, GradientAccumulation) and size < 16:
            yield (
                f"gradient_accumulation: batch norm, where there is any, averages over only "
                f"{size} examples; 16 or more are safer"
            )
        if isinstance(trick, Freeze) and not any(
            isinstance(other, StartingWeights) for other in config.tricks
        ):
            yield (
                "freeze: this run begins with fresh weights, so the frozen layers stay as they "
                "were drawn"
            )
        if isinstance(trick, RandomShift) and trick.flip and not config.task.same_mirrored:
            yield (
                f"random_shift: mirrored {config.task.title} do not mean the same any more; "
                "switch flip off"
            )
