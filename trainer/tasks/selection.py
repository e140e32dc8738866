"""Selection: some of a data set's classes, and only so many of its training examples."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field, model_validator

from trainer.tasks.base import Examples, Task, TaskFacts

ClassNumber = Annotated[int, Field(ge=0, le=9)]


class SelectableTask(Task):
    """A task of which a person can choose some classes, and how many examples to learn from."""

    input_shape: ClassVar[tuple[int, ...]]
    class_names: ClassVar[tuple[str, ...]]
    train_counts: ClassVar[tuple[int, ...]]
    """Examples of each class; known here so that a form need not read the data."""
    test_counts: ClassVar[tuple[int, ...]]

    classes: tuple[ClassNumber, ...] = Field(
        (),
        max_length=10,
        description="Numbers of the classes to learn, such as 0 1 2; they are counted from 0 anew. "
        "Empty: all.",
    )
    most_examples: int | None = Field(
        None,
        ge=2,
        le=60_000,
        description="Learn from at most so many examples, as many of each class; always the same "
        "ones. Empty: all.",
    )

    @model_validator(mode="after")
    def is_a_choice(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes names one twice; name each once")
        if len(self.classes) == 1:
            raise ValueError("one class leaves nothing to tell apart; name two or more, or none")
        if self.most_examples is not None and self.most_examples < len(self.chosen):
            raise ValueError(
                f"most_examples is {self.most_examples}, for {len(self.chosen)} classes; give each "
                "at least one"
            )
        return self

    @property
    def chosen(self) -> tuple[int, ...]:
        """Numbers of the classes to learn, in the order in which they are counted anew."""
        return self.classes or tuple(range(len(self.class_names)))

    def facts(self) -> TaskFacts:
        names = tuple(self.class_names[number] for number in self.chosen)
        counts = [self.train_counts[number] for number in self.chosen]
        return TaskFacts(
            input_shape=self.input_shape,
            outputs=len(names),
            classes=names,
            train_examples=sum(quotas(counts, self.most_examples)),
            test_examples=sum(self.test_counts[number] for number in self.chosen),
        )

    def selected(self, train: Examples, test: Examples) -> tuple[Examples, Examples]:
        """Of all examples those that are asked for, their targets counted from 0."""
        train, test = of_classes(train, self.chosen), of_classes(test, self.chosen)
        return at_most(train, len(self.chosen), self.most_examples), test


def of_classes(examples: Examples, chosen: Sequence[int]) -> Examples:
    """The examples of these classes in their order; a class's place in `chosen` is its target."""
    places = torch.full((10,), -1)
    places[list(chosen)] = torch.arange(len(chosen))
    targets = places[examples.targets]
    kept = targets >= 0
    if kept.all():
        return Examples(examples.inputs, targets)
    return Examples(examples.inputs[kept], targets[kept])


def at_most(examples: Examples, classes: int, most: int | None) -> Examples:
    """The first examples of each class, as many of each; all where there is no limit."""
    if most is None or most >= len(examples):
        return examples
    of_each = [torch.nonzero(examples.targets == number).flatten() for number in range(classes)]
    counts = quotas([len(members) for members in of_each], most)
    first = [members[:count] for members, count in zip(of_each, counts, strict=True)]
    kept = torch.cat(first).sort().values
    return Examples(examples.inputs[kept], examples.targets[kept])


def quotas(counts: Sequence[int], most: int | None) -> list[int]:
    """How many of each class make `most` altogether: as equal as their counts allow."""
    if most is None or most >= sum(counts):
        return list(counts)
    taken, left = [0] * len(counts), most
    while left:
        scarce = [number for number, count in enumerate(counts) if taken[number] < count]
        each = max(1, left // len(scarce))
        for number in scarce:
            more = min(each, counts[number] - taken[number], left)
            taken[number] += more
            left -= more
    return taken
