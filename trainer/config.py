"""RunConfig: everything a person chose for a run, as data."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.loader import Loader
from trainer.losses import AnyLoss, CrossEntropy
from trainer.models import AnyModel, SmallCnn
from trainer.optimizers import AnyOptimizer, Sgd
from trainer.part import Part
from trainer.schedules import AnySchedule, OneCycle
from trainer.tasks import AnyTask, Digits
from trainer.tricks import AnyTrick, clashes

Pattern = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w.*?\[\]!-]+$")]


class Recording(Part):
    """What a run writes down."""

    metrics_every: int = Field(
        1, ge=1, le=100_000, description="Steps between two points of the training curves."
    )
    layers: tuple[Pattern, ...] = Field(
        ("*",),
        max_length=64,
        description="Layers whose outputs are kept: names or patterns such as block*.conv; "
        "* is every layer without layers inside.",
    )
    layer_steps: Literal["log", "every", "end", "never"] = Field(
        "log",
        description="When to look at layers: log is at steps 0, 1, 2, 4, 8 … and at the end.",
    )
    layers_every: int = Field(
        100, ge=1, le=1_000_000, description="Steps between two looks, where every is chosen."
    )
    layer_examples: int = Field(
        8, ge=1, le=64, description="Test examples whose layer outputs are kept."
    )
    layer_megabytes: int = Field(
        64,
        ge=1,
        le=10_000,
        description="Most that a run's layer outputs may take, MB before they are compressed.",
    )
    checkpoint_seconds: int = Field(
        60, ge=1, le=86_400, description="Seconds between two checkpoints."
    )
    checkpoint_steps: int | None = Field(
        None, ge=1, le=10**9, description="Steps between two checkpoints, where that is sooner."
    )
    checkpoints_kept: int = Field(
        2,
        ge=2,
        le=100,
        description="How many checkpoints are kept; at least two, so that one may be damaged.",
    )


class Budget(Part):
    """When a run ends."""

    epochs: int = Field(10, ge=1, le=100_000, description="Passes over the training examples.")
    steps: int | None = Field(
        None, ge=1, le=10**9, description="End after this many optimizer steps, if sooner."
    )
    seconds: float | None = Field(
        None, gt=0, le=10**7, description="End after this many seconds of training, if sooner."
    )
    stop_when_diverged: bool = Field(
        True, description="End when the training loss is no longer a finite number."
    )


class RunConfig(Part):
    """One training: what to learn, with what, how, and what to write down."""

    task: AnyTask = Field(Digits(), description="What to learn.")
    model: AnyModel = Field(SmallCnn(), description="The network.")
    loader: Loader = Field(Loader(), description="How examples become batches.")
    loss: AnyLoss = Field(CrossEntropy(), description="What training makes small.")
    optimizer: AnyOptimizer = Field(Sgd(), description="How gradients become steps.")
    schedule: AnySchedule = Field(OneCycle(), description="How the learning rate goes.")
    tricks: tuple[AnyTrick, ...] = Field((), max_length=64, description="Changes to training.")
    recording: Recording = Field(Recording(), description="What to write down.")
    budget: Budget = Field(Budget(), description="When to end.")
    seed: int = Field(
        0, ge=0, lt=2**53, description="Where initial weights and data order are drawn from."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$",
        description="auto takes CUDA, then MPS, then the CPU.",
    )
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads of torch; empty lets torch choose."
    )

    @model_validator(mode="after")
    def tricks_go_together(self) -> "RunConfig":
        reasons = clashes(self.tricks)
        if reasons:
            raise ValueError("; ".join(reasons))
        return self
