"""Doctor: examines a lab from outside. It changes nothing, and copes with whatever is broken."""

from collections.abc import Callable, Iterable, Sequence

from app.doctor.database import examine_database
from app.doctor.disk import examine_disk
from app.doctor.finding import Finding, Verdict, bad
from app.doctor.machine import examine_machine
from app.settings import Settings

EXAMINATIONS: Sequence[tuple[str, Callable[[Settings], Iterable[Finding]]]] = (
    ("machine", examine_machine),
    ("disk", examine_disk),
    ("database", examine_database),
)

__all__ = ["Finding", "Verdict", "examine"]


def examine(settings: Settings) -> list[Finding]:
    """Everything that was found, good and bad. Never raises for a lab that is broken."""
    return [
        finding
        for name, examination in EXAMINATIONS
        for finding in survived(name, examination, settings)
    ]


def survived(
    name: str, examination: Callable[[Settings], Iterable[Finding]], settings: Settings
) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(examination(settings))
    except Exception as error:
        # all of them: a lab may be broken in ways that nobody thought of
        words = " ".join(str(error).split())[:300]
        found.append(
            bad(
                name,
                f"could not be examined to the end: {type(error).__name__}: {words}",
                "put right what it names, then examine again",
            )
        )
    return found
