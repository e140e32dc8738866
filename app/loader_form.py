"""LoaderForm: what the loader's bench is asked, as form fields, and the configs that follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field, ValidationError

from app import forms
from app.forms import Input
from app.part_form import PartForm, part_form
from trainer.check import check
from trainer.config import RunConfig
from trainer.inquiries import Batches, LoaderSweep
from trainer.inquiries.loader_sweep import BatchSize, Workers
from trainer.loader import Loader
from trainer.part import Part
from trainer.recipes import RECIPES
from trainer.tricks import RandomShift


class Wanted(Part):
    """What is looked at, beside the loader's own options."""

    task: Literal[
        "digits",
        "fashion_mnist",
        "moving_digits",
        "breast_cancer",
        "diabetes",
        "digit_scenes",
        "distillation",
    ] = Field("digits", description="Whose training examples are loaded.")
    seed: int = Field(0, ge=0, lt=2**53, description="Where the order is drawn from.")
    epoch: int = Field(0, ge=0, le=1_000_000, description="Which epoch of training, from 0.")
    batches: int = Field(2, ge=1, le=16, description="Batches taken from its beginning.")
    shift: int = Field(
        0,
        ge=0,
        le=16,
        description="Move images by up to so many pixels; 0 leaves them (random_shift).",
    )
    sweep_workers: tuple[Workers, ...] = Field(
        (0, 1, 2), min_length=1, max_length=16, description="Numbers of loader processes to try."
    )
    sweep_batch_sizes: tuple[BatchSize, ...] = Field(
        (32, 256), max_length=16, description="Batch sizes to try; empty takes the one above."
    )


STATIONS: Mapping[str, Sequence[str]] = {
    "Dataset": ("task", "seed", "epoch", "batches"),
    "Sampler": ("sampler", "class_weights", "order_seed"),
    "Batches": ("batch_size", "drop_last"),
    "Loading": (
        "workers",
        "prefetch",
        "persistent_workers",
        "in_order",
        "timeout",
        "multiprocessing_context",
    ),
    "To the device": ("pin_memory", "shift"),
    "Sweep": ("sweep_workers", "sweep_batch_sizes"),
}
"""The fields by the part of the pipeline that they belong to."""


@dataclass(frozen=True)
class LoaderForm:
    """What was typed, and the training that it describes or the errors by field."""

    wanted: PartForm[Wanted]
    loader: PartForm[Loader]
    config: RunConfig | None
    errors: Mapping[str, str]

    @property
    def groups(self) -> Mapping[str, Sequence[Input]]:
        known = {one.name: one for one in (*self.wanted.inputs, *self.loader.inputs)}
        return {title: [known[name] for name in names] for title, names in STATIONS.items()}

    def value(self, of: Input) -> str:
        return {**self.wanted.values, **self.loader.values}.get(of.name, of.default)

    def error(self, name: str) -> str:
        return self.errors.get(name, "")

    @property
    def batches(self) -> Batches:
        """The question for the first batches; only where there are no errors."""
        assert self.config is not None
        assert self.wanted.part is not None
        wanted = self.wanted.part
        return Batches(config=self.config, epoch=wanted.epoch, batches=wanted.batches)

    @property
    def sweep(self) -> LoaderSweep:
        """The question for the sweep; only where there are no errors."""
        assert self.config is not None
        assert self.wanted.part is not None
        wanted = self.wanted.part
        return LoaderSweep(
            config=self.config,
            workers=wanted.sweep_workers,
            batch_sizes=wanted.sweep_batch_sizes,
            seconds=0.5,
        )


def loader_form(typed: Mapping[str, str]) -> LoaderForm:
    """The form as typed. A field that is missing keeps its default."""
    wanted, loader = part_form(Wanted, typed), part_form(Loader, typed)
    form = LoaderForm(wanted, loader, None, {**wanted.errors, **loader.errors})
    if wanted.part is None or loader.part is None:
        return form
    try:
        config = config_of(wanted.part, loader.part)
    except ValidationError as invalid:
        return replace(form, errors={"": forms.by_field(invalid.errors(), ()).get("", "")})
    errors = {beside(problem.field): problem.message for problem in check(config)}
    return replace(form, config=None if errors else config, errors=errors)


def config_of(wanted: Wanted, loader: Loader) -> RunConfig:
    """A training of the task by the first recipe that there is for it, loaded as asked.

    Raises pydantic's ValidationError.
    """
    config = next(one.config for one in RECIPES.values() if one.config.task.name == wanted.task)
    task = type(config.task)()
    tricks = (RandomShift(pixels=wanted.shift),) if wanted.shift else ()
    chosen = {"task": task, "loader": loader, "tricks": tricks, "seed": wanted.seed}
    return RunConfig.model_validate(config.model_copy(update=chosen).model_dump())


def beside(field: str) -> str:
    """The form's field for a place in the config."""
    first, _, rest = field.partition(".")
    if first == "loader":
        return rest
    return {"tricks": "shift", "task": "task", "seed": "seed"}.get(first, "")
