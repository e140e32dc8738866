"""ConfigFile: a config as people name it on the command line."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from trainer.part import Refused

if TYPE_CHECKING:
    # loading it takes torch with it
    from trainer.config import RunConfig

Config = Annotated[str, typer.Argument(help="A recipe's name, or a .toml or .json file.")]


def read_config(text: str) -> "tuple[RunConfig, str]":
    """A config from a recipe's name or a file, and the name of the recipe, if it was one."""
    from trainer.config import RunConfig
    from trainer.recipes import RECIPES, recipe

    path = Path(text)
    if text in RECIPES:
        return recipe(text).config, text
    if not path.suffix:
        recipe(text)
    readers: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": orjson.loads}
    if path.suffix not in readers:
        raise Refused(f"{text} is neither a recipe nor a .toml or .json file")
    try:
        content = readers[path.suffix](path.read_text())
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Refused(f"{path} is no {path.suffix[1:].upper()}: {error}") from error
    return RunConfig.model_validate(content), ""
