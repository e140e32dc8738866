"""The inquiries there are. A new one is a file here and a name in the union below."""

from trainer.inquiries.base import Bench, Cancelled, Inquiry, Tell

__all__ = ["Bench", "Cancelled", "Inquiry", "Tell"]
