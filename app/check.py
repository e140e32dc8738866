"""Check: configs that would only fail later, told with the fields to blame."""

from typing import Any

from sqlalchemy import Engine

from app.problems import Invalid
from app.sources import missing_sources
from trainer.check import check
from trainer.config import RunConfig


def config_errors(config: RunConfig, engine: Engine, prefix: str = "") -> list[dict[str, Any]]:
    """Every reason why the run would be refused, in the form of the errors of a field."""
    found = [(problem.field, problem.message) for problem in check(config)]
    return [
        {"field": prefix + field, "message": message, "given": None}
        for field, message in [*found, *missing_sources(engine, config)]
    ]


def must_be_possible(config: RunConfig, engine: Engine) -> None:
    """Raises Invalid with every problem of the config."""
    if errors := config_errors(config, engine, "config."):
        raise Invalid(errors)
