"""The live lessons. A new one is a file here and a name in the union below."""

from typing import get_args

from trainer.lessons.accumulation import AccumulationLesson
from trainer.lessons.base import Lesson

AnyLesson = AccumulationLesson
LESSONS: tuple[type[Lesson], ...] = get_args(AnyLesson) or (AnyLesson,)

__all__ = ["LESSONS", "AccumulationLesson", "AnyLesson", "Lesson"]
