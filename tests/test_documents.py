"""The documents tell the truth: paths, commands, addresses and configs in them exist."""

import re
import tomllib
from pathlib import Path

import pytest
from lab import Lab
from typer.main import get_command

from app.cli import app as command_line
from app.main import create_app
from app.settings import ROOT
from trainer.check import check
from trainer.config import RunConfig
from trainer.recipes import RECIPES

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of a language."""
    fences = re.findall(r"^ *```(\w*)\n(.*?)\n *```$", text, re.DOTALL | re.MULTILINE)
    return [content for name, content in fences if name == language]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text())
    files = [link for link in links if not link.startswith("http")]
    assert [link for link in files if not (document.parent / link).exists()] == []


def test_every_path_in_the_file_tree_exists() -> None:
    (tree,) = blocks(README, "")
    folder, missing = "", []
    for line in tree.splitlines():
        names = line.strip().split("  ")[0].split()
        if not line.startswith(" "):
            folder, names = names[0], names[:1]
            missing += [folder] * (not (ROOT / folder).is_dir())
        else:
            missing += [folder + name for name in names if not (ROOT / folder / name).exists()]
    assert folder
    assert missing == []


def test_the_tree_has_a_line_for_every_folder() -> None:
    folders = [path.name for path in ROOT.iterdir() if path.is_dir() and has_sources(path)]
    assert [name for name in folders if f"{name}/" not in README] == []


def has_sources(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.name.endswith((".egg-info", "-data"))
    return not hidden and folder.name not in ("build", "dist", "__pycache__")


def test_every_command_in_the_readme_exists() -> None:
    known = get_command(command_line).commands  # type: ignore[attr-defined]
    used = re.findall(r"`(?:\.venv/bin/)?tricklab ([a-z]+)", README)
    assert used
    assert [name for name in used if name not in known] == []
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)`?\n?", README)) - {"alone"} <= targets | {"are"}


def test_every_address_in_the_readme_is_served(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    served = create_app(lab.settings).openapi()["paths"]
    patterns = [re.sub(r"\{[^}]*\}", "[^/]+", path) for path in served]
    used = re.findall(r"http://127\.0\.0\.1:8321(/api/[^\s'?]+)", README)
    assert used
    assert [path for path in used if not any(re.fullmatch(p, path) for p in patterns)] == []


def test_recipes_named_in_the_readme_exist() -> None:
    titles = {recipe.title for recipe in RECIPES.values()}
    assert {"Digits, small CNN", "Fashion-MNIST, small CNN"} <= titles
    assert re.findall(r'"recipe": "([^"]+)"', README) == ["digits-mlp"]
    assert "digits-mlp" in RECIPES


def test_the_example_configs_are_possible_ones() -> None:
    examples = blocks((ROOT / "docs/configs.md").read_text(), "toml")
    assert examples
    for example in examples:
        assert check(RunConfig.model_validate(tomllib.loads(example))) == (), example


def test_the_design_names_real_slots_of_the_setup() -> None:
    from dataclasses import fields

    from trainer.setup import Setup

    text = (ROOT / "docs/design.md").read_text()
    (paragraph,) = re.findall(r"\*\*The setup\*\*.*?\n\n", text, re.DOTALL)
    named = set(re.findall(r"`(\w+)`", paragraph))
    assert named
    assert named <= {field.name for field in fields(Setup)}
