"""Finding: what one look at a lab showed, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"  # the lab works, and something is not as it should be
    BAD = "bad"  # something does not work, or work is lost


@dataclass(frozen=True)
class Finding:
    """One thing that was examined. Whatever is not ok has a way out."""

    name: str
    verdict: Verdict
    words: str
    way_out: str = ""


def ok(name: str, words: str) -> Finding:
    return Finding(name, Verdict.OK, words)


def warning(name: str, words: str, way_out: str) -> Finding:
    return Finding(name, Verdict.WARNING, words, way_out)


def bad(name: str, words: str, way_out: str) -> Finding:
    return Finding(name, Verdict.BAD, words, way_out)
