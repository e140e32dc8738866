"""Promise: what was shown of one, in figures."""

from dataclasses import dataclass, field


@dataclass
class Shown:
    """One line of the report: the promise, what was done, and everything that broke it."""

    promise: str
    what: str
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        return not self.broken

    def must(self, is_so: object, otherwise: str) -> None:
        """Note it when something is not so."""
        if not is_so:
            self.broken.append(otherwise)

    def __str__(self) -> str:
        verdict = "holds" if self.holds else f"BROKEN {len(self.broken)} times"
        lines = [f"{self.promise:<4} {verdict:<16} {self.what} ({self.seconds:.0f} s)"]
        return "\n".join(lines + [f"       {text}" for text in self.broken[:20]])
