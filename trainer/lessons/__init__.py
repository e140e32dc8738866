"""The live lessons. A new one is a file here and a name in the union below."""

from typing import get_args

from trainer.lessons.accumulation import AccumulationLesson
from trainer.lessons.base import Lesson
from trainer.lessons.captured import CapturedLesson
from trainer.lessons.clip_feature import ClipFeatureLesson
from trainer.lessons.drift import DriftLesson
from trainer.lessons.fold_time import FoldTimeLesson
from trainer.lessons.frozen import FrozenLesson
from trainer.lessons.layer_rates import LayerRatesLesson
from trainer.lessons.loader_workers import LoaderWorkersLesson
from trainer.lessons.new_shapes import NewShapesLesson
from trainer.lessons.running_mean import RunningMeanLesson
from trainer.lessons.shifts import ShiftsLesson
from trainer.lessons.transfer import TransferLesson

AnyLesson = (
    NewShapesLesson
    | AccumulationLesson
    | RunningMeanLesson
    | FoldTimeLesson
    | LoaderWorkersLesson
    | CapturedLesson
    | ClipFeatureLesson
    | DriftLesson
    | FrozenLesson
    | TransferLesson
    | LayerRatesLesson
    | ShiftsLesson
)
LESSONS: tuple[type[Lesson], ...] = get_args(AnyLesson)

__all__ = ["LESSONS", "AnyLesson", "Lesson"]
