"""ConfigView: configs laid flat, and what differs between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ConfigRow:
    """One field of several configs: its dotted path and a value for each, None where absent."""

    path: str
    values: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        return any(value != self.values[0] for value in self.values)


def config_rows(configs: Sequence[Mapping[str, Any]]) -> list[ConfigRow]:
    """Every field that any of these configs has, in the order of the first that has it."""
    flats = [flat(config) for config in configs]
    paths = dict.fromkeys(path for values in flats for path in values)
    return [ConfigRow(path, tuple(values.get(path) for values in flats)) for path in paths]


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as dotted paths and values. Tricks go by name, so that order does not matter."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key == "tricks":
            for trick in value:
                own = f"tricks.{trick['name']}"
                found[own] = "on"
                found |= {f"{own}.{name}": each for name, each in trick.items() if name != "name"}
        elif isinstance(value, Mapping):
            found |= {f"{key}.{name}": each for name, each in value.items()}
        else:
            found[key] = value
    return found
