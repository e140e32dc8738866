"""The inquiries there are. A new one is a file here and a name in the union below."""

from typing import Annotated, get_args

from pydantic import Field

from trainer.inquiries.batches import Batches
from trainer.inquiries.equivalence import Equivalence
from trainer.inquiries.features import Features
from trainer.inquiries.loader_sweep import LoaderSweep
from trainer.inquiries.preflight import Preflight
from trainer.inquiries.reproducibility import Reproducibility
from trainer.inquiry import AboutConfig, Bench, Cancelled, Inquiry, Tell
from trainer.lessons import LESSONS, AnyLesson

AnyInquiry = Annotated[
    Preflight | Equivalence | Reproducibility | LoaderSweep | Batches | Features | AnyLesson,
    Field(discriminator="name"),
]
INQUIRIES: tuple[type[Inquiry], ...] = get_args(get_args(AnyInquiry)[0])

__all__ = [
    "INQUIRIES",
    "LESSONS",
    "AboutConfig",
    "AnyInquiry",
    "Batches",
    "Bench",
    "Cancelled",
    "Equivalence",
    "Features",
    "Inquiry",
    "LoaderSweep",
    "Preflight",
    "Reproducibility",
    "Tell",
]
