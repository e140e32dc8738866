"""Recipes: named, ready-made configs."""

from collections.abc import Mapping
from dataclasses import dataclass

from trainer.config import Budget, RunConfig
from trainer.loader import Loader
from trainer.losses import (
    BinaryCrossEntropyWithLogits,
    CrossEntropy,
    Huber,
    KullbackLeibler,
)
from trainer.models import P3D, Mlp, ResNet20, SmallCnn, UNet
from trainer.optimizers import AdamW, Sgd
from trainer.part import Refused
from trainer.schedules import Cosine, OneCycle
from trainer.tasks import (
    BreastCancer,
    Diabetes,
    Digits,
    DigitScenes,
    Distillation,
    FashionMnist,
    MovingDigits,
)
from trainer.tricks import (
    CudnnBenchmark,
    Deterministic,
    Freeze,
    GradientAccumulation,
    Seed,
    StartingWeights,
)


@dataclass(frozen=True)
class Recipe:
    """A config with a name and a sentence on what it is for."""

    title: str
    purpose: str
    config: RunConfig


DIGITS_CNN = RunConfig(
    task=Digits(),
    model=SmallCnn(),
    optimizer=Sgd(learning_rate=0.05, weight_decay=5e-4),
    schedule=OneCycle(),
    budget=Budget(epochs=25),
)

FIRST_HALF, SECOND_HALF = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
DIGITS_HALF = DIGITS_CNN.model_copy(update={"task": Digits(classes=FIRST_HALF)})
DIGITS_SCRATCH = RunConfig(
    task=Digits(classes=SECOND_HALF, most_examples=25),
    model=SmallCnn(),
    loader=Loader(batch_size=5),
    optimizer=Sgd(learning_rate=0.02, weight_decay=5e-4),
    schedule=OneCycle(),
    budget=Budget(epochs=12),
)
FASHION_HALF = RunConfig(
    task=FashionMnist(classes=FIRST_HALF, most_examples=10_000),
    model=SmallCnn(),
    loader=Loader(batch_size=128),
    optimizer=Sgd(learning_rate=0.1, weight_decay=5e-4),
    schedule=OneCycle(),
    budget=Budget(epochs=2),
)
FASHION_SCRATCH = RunConfig(
    task=FashionMnist(classes=SECOND_HALF, most_examples=50),
    model=SmallCnn(),
    loader=Loader(batch_size=10),
    optimizer=Sgd(learning_rate=0.02, weight_decay=5e-4),
    schedule=OneCycle(),
    budget=Budget(epochs=5),
)

RECIPES: Mapping[str, Recipe] = {
    "digits-cnn": Recipe(
        "Digits, small CNN", "The quickest real training: seconds on a CPU.", DIGITS_CNN
    ),
    "digits-cnn-accumulation": Recipe(
        "Digits, accumulated gradients",
        "The baseline's batch of 64 as four of 16.",
        DIGITS_CNN.model_copy(
            update={
                "loader": Loader(batch_size=16),
                "tricks": (GradientAccumulation(steps=4),),
            }
        ),
    ),
    "digits-cnn-cudnn-benchmark": Recipe(
        "Digits, cuDNN benchmark",
        "Fixed shapes and cuDNN's search; a CUDA device is needed to see an effect.",
        DIGITS_CNN.model_copy(
            update={"loader": Loader(drop_last=True), "tricks": (CudnnBenchmark(),)}
        ),
    ),
    "digits-cnn-deterministic": Recipe(
        "Digits, seeded and deterministic",
        "Run it twice: the curves agree to the last bit.",
        DIGITS_CNN.model_copy(update={"tricks": (Seed(), Deterministic())}),
    ),
    "digits-half": Recipe(
        "Digits, the first half",
        "0 to 4 alone: what it learns is the source of digits-transfer.",
        DIGITS_HALF,
    ),
    "digits-transfer": Recipe(
        "Digits, transfer",
        "5 to 9 from 25 examples, on top of what digits-half has learned; run that one first.",
        DIGITS_SCRATCH.model_copy(
            update={
                "tricks": (
                    StartingWeights(source="recipe:digits-half", layers="block1, block2"),
                    Freeze(layers="block1, block2", unfreeze="at_once", unfreeze_epoch=2),
                )
            }
        ),
    ),
    "digits-scratch": Recipe(
        "Digits, few from scratch",
        "The same 25 examples from fresh weights, to compare digits-transfer with.",
        DIGITS_SCRATCH,
    ),
    "digits-mlp": Recipe(
        "Digits, MLP",
        "No convolutions, AdamW.",
        RunConfig(
            task=Digits(),
            model=Mlp(),
            optimizer=AdamW(),
            schedule=Cosine(warmup=0.05),
            budget=Budget(epochs=20),
        ),
    ),
    "distillation-digits": Recipe(
        "Digits, taught by the small CNN",
        "A small MLP learns what a finished run of digits-cnn says of every class.",
        RunConfig(
            task=Distillation(teacher="recipe:digits-cnn"),
            model=Mlp(hidden=(32,)),
            loss=KullbackLeibler(temperature=4.0),
            optimizer=AdamW(learning_rate=1e-2),
            schedule=Cosine(warmup=0.05),
            budget=Budget(epochs=20),
        ),
    ),
    "breast-cancer-mlp": Recipe(
        "Breast cancer, MLP",
        "Yes or no from a table: one score, and what a yes counts against a no.",
        RunConfig(
            task=BreastCancer(),
            model=Mlp(hidden=(32,)),
            loss=BinaryCrossEntropyWithLogits(balance=True),
            optimizer=AdamW(),
            schedule=Cosine(warmup=0.05),
            budget=Budget(epochs=40),
        ),
    ),
    "diabetes-mlp": Recipe(
        "Diabetes, MLP",
        "A number from a table: Huber's loss, R² and errors in the units of the data.",
        RunConfig(
            task=Diabetes(),
            model=Mlp(hidden=(16,)),
            loss=Huber(),
            optimizer=AdamW(learning_rate=1e-2, weight_decay=0.3),
            schedule=Cosine(warmup=0.05),
            budget=Budget(epochs=20),
        ),
    ),
    "scenes-unet": Recipe(
        "Digit scenes, U-Net",
        "A class for every pixel; balanced class weights against a background that is everywhere.",
        RunConfig(
            task=DigitScenes(),
            model=UNet(),
            loader=Loader(batch_size=32),
            loss=CrossEntropy(weighting="balanced"),
            optimizer=AdamW(learning_rate=1e-2),
            schedule=OneCycle(),
            budget=Budget(epochs=6),
        ),
    ),
    "moving-digits-p3d": Recipe(
        "Moving digits, P3D",
        "Clips: which digit, and where it moves; about a minute on two cores.",
        RunConfig(
            task=MovingDigits(),
            model=P3D(dropout=0.1),
            loader=Loader(batch_size=32),
            optimizer=AdamW(learning_rate=5e-3),
            schedule=OneCycle(),
            budget=Budget(epochs=12),
        ),
    ),
    "fashion-cnn": Recipe(
        "Fashion-MNIST, small CNN",
        "Above 90 % in five epochs, minutes on a CPU.",
        RunConfig(
            task=FashionMnist(),
            model=SmallCnn(),
            loader=Loader(batch_size=128),
            optimizer=Sgd(learning_rate=0.1, weight_decay=5e-4),
            schedule=OneCycle(),
            budget=Budget(epochs=5),
        ),
    ),
    "fashion-half": Recipe(
        "Fashion-MNIST, the first half",
        "T-shirts to coats alone: what it learns is the source of fashion-transfer.",
        FASHION_HALF,
    ),
    "fashion-transfer": Recipe(
        "Fashion-MNIST, transfer",
        "Sandals to boots from 50 examples, on top of what fashion-half has learned; run it first.",
        FASHION_SCRATCH.model_copy(
            update={
                "tricks": (
                    StartingWeights(source="recipe:fashion-half"),
                    Freeze(layers="block1, block2", unfreeze="at_once", unfreeze_epoch=1),
                )
            }
        ),
    ),
    "fashion-scratch": Recipe(
        "Fashion-MNIST, few from scratch",
        "The same 50 examples from fresh weights, to compare fashion-transfer with.",
        FASHION_SCRATCH,
    ),
    "fashion-resnet20": Recipe(
        "Fashion-MNIST, ResNet-20",
        "A residual network; better on a GPU.",
        RunConfig(
            task=FashionMnist(),
            model=ResNet20(),
            loader=Loader(batch_size=128),
            optimizer=Sgd(learning_rate=0.1, weight_decay=5e-4),
            schedule=OneCycle(),
            budget=Budget(epochs=10),
        ),
    ),
}

SAMPLE_COMPARISON = (
    "digits-cnn",
    "digits-cnn-accumulation",
    "digits-cnn-cudnn-benchmark",
    "digits-cnn-deterministic",
)


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises Refused with the names there are."""
    if name not in RECIPES:
        raise Refused(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
