"""Shapes of what can be chosen, and of what is said of a choice."""

from typing import Any

from pydantic import Field

from app.api.shapes.layer import Layer, RecordingCost
from app.api.shapes.shape import Document, Shape
from trainer.targets import Kind


class Part(Shape):
    """Something that can be chosen."""

    name: str
    title: str
    summary: str
    documentation: str
    parameters: Document = Field(description="The JSON schema of its parameters.")


class Task(Part):
    source: str
    input_shape: list[int]
    outputs: int
    classes: list[str]
    train_examples: int
    test_examples: int
    kind: Kind = Field(description="What is asked of each example.")
    ignored: int | None = Field(description="The class number of what nobody knows.")


class ModelSize(Shape):
    """How many parameters a model has in one of its forms."""

    title: str
    settings: Document = Field(description="All of its parameters but its name.")
    task: str | None = Field(description="What it is built for here; null for that of a paper.")
    input_shape: list[int]
    outputs: int
    parameters: int = Field(description="Weights and biases, counted without allocating them.")


class Model(Part):
    sizes: list[ModelSize] = Field(
        description="With its defaults for the first task it fits, and as papers have it."
    )


class Loss(Part):
    torch_name: str = Field(description="What it is called in torch.nn.")
    suits: list[Kind] = Field(description="The kinds of targets that it is for.")


class Claim(Shape):
    measure: str
    lower: bool = Field(description="Whether a lower value is the better one.")
    source: str


class Trick(Part):
    stage: str
    exactness: str
    exactness_meaning: str
    claim: Claim
    owns: list[str]
    clashes: dict[str, str]
    helps: list[str] = Field(description="When it is worth switching on.")
    cost: str
    traps: list[str]
    sources: list[str]


class Recipe(Shape):
    """A ready-made config."""

    name: str
    title: str
    purpose: str
    config: Document


class Recipes(Shape):
    recipes: list[Recipe]


class FieldError(Shape):
    """What is wrong with a field, and what was given."""

    field: str
    message: str
    given: Any


class Facts(Shape):
    """What a run will be like."""

    parameters: int
    train_examples: int
    test_examples: int
    batches_per_epoch: int
    steps_per_epoch: int
    total_steps: int
    examples_per_step: int = Field(description="With accumulation those of several batches.")
    peak_learning_rate: float
    layers: list[Layer]
    recorded_layers: int
    recording: RecordingCost
    warnings: list[str]


class Checked(Shape):
    problems: list[FieldError]
    facts: Facts | None
