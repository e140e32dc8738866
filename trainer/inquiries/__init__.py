"""The inquiries there are. A new one is a file here and a name in the union below."""

from trainer.inquiries.base import Bench, Cancelled, Inquiry, Tell
from trainer.inquiries.loader_sweep import LoaderSweep

__all__ = ["Bench", "Cancelled", "Inquiry", "LoaderSweep", "Tell"]
