"""Check: configs that would only fail later, told with the fields to blame."""

from typing import Any

from app.problems import Invalid
from trainer.check import check
from trainer.config import RunConfig


def config_errors(config: RunConfig, prefix: str = "") -> list[dict[str, Any]]:
    """Every reason why the run would be refused, in the form of the errors of a field."""
    return [
        {"field": prefix + found.field, "message": found.message, "given": None}
        for found in check(config)
    ]


def must_be_possible(config: RunConfig) -> None:
    """Raises Invalid with every problem of the config."""
    if errors := config_errors(config, "config."):
        raise Invalid(errors)
