"""Table: figures as Markdown, so that what is printed can go into docs/measurements.md."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Table:
    """A heading, columns, rows of text, and notes below; what a benchmark prints."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        self.rows.append([str(cell) for cell in cells])

    def note(self, text: str) -> None:
        self.notes.append(text)

    @property
    def name(self) -> str:
        """The heading as the name of a file."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    def __str__(self) -> str:
        lines = [f"## {self.title}", "", row(self.columns), row(["---"] * len(self.columns))]
        lines += [row(cells) for cells in self.rows]
        lines += ["", *self.notes] if self.notes else []
        return "\n".join(lines)

    def save(self, path: Path) -> None:
        """Everything as JSON, for whoever compares two runs."""
        content = {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [list(cells) for cells in self.rows],
            "notes": self.notes,
        }
        path.write_text(json.dumps(content, indent=2) + "\n")


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def goal(is_reached: bool, wanted: str) -> str:
    """Whether a figure is what it should be, and what that was."""
    return f"{'reached' if is_reached else 'MISSED'} ({wanted})"
