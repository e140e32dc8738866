"""The rules of who may know whom, read from the source."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in ("app", "trainer")
    for path in (ROOT / package).rglob("*.py")
)
MIGRATIONS = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "migrations").rglob("*.py")
)
WEB = ("app", "fastapi", "starlette", "jinja2", "plotly", "uvicorn")


@functools.cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(), file)


def imported(file: str) -> set[str]:
    """Every module and name a file imports, at its top or inside a function, in full."""
    package = file.removesuffix(".py").split("/")[:-1]
    names: set[str] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def forbidden(file: str, *modules: str) -> set[str]:
    """What a file imports of these modules or from inside them."""
    return {
        name
        for name in imported(file)
        if any(name == module or name.startswith(f"{module}.") for module in modules)
    }


def under(*folders: str) -> list[str]:
    return [file for file in FILES if file.startswith(tuple(f"{folder}/" for folder in folders))]


def calls(file: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, with the dotted name of what is called."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def at(file: str, node: ast.expr) -> str:
    return f"{file}:{node.lineno}: {ast.unparse(node)[:80]}"


# -- who may import whom --------------------------------------------------------------------


@pytest.mark.parametrize("file", under("trainer"))
def test_the_trainer_knows_no_web(file: str) -> None:
    assert not forbidden(file, *WEB)


@pytest.mark.parametrize("file", under("trainer/tricks"))
def test_a_trick_sees_only_the_setup(file: str) -> None:
    assert not forbidden(file, "trainer.loop", "trainer.store", "trainer.tasks")


def test_the_loop_knows_no_trick_and_no_config() -> None:
    assert not forbidden("trainer/loop.py", "trainer.tricks", "trainer.config")


def test_api_and_pages_do_not_know_each_other() -> None:
    assert not [file for file in under("app/api") if forbidden(file, "app.pages")]
    assert not [file for file in under("app/pages") if forbidden(file, "app.api")]


def test_every_import_between_our_files_leads_somewhere() -> None:
    known = {file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in FILES}
    missing = {
        f"{file}: {name}"
        for file in FILES
        for name in forbidden(file, "app", "trainer")
        if name not in known and name.rpartition(".")[0] not in known
    }
    assert not missing


# -- who may write what ---------------------------------------------------------------------

CHANGES = ("insert", "update", "delete")


@functools.cache
def changed_tables(file: str) -> dict[str, str]:
    """Tables that a file's statements insert into, update or delete from, and where it does."""
    tables = {}
    for name, call in calls(file):
        owner, _, verb = name.rpartition(".")
        if verb not in CHANGES:
            continue
        # update(runs), sqlalchemy.update(models.runs), runs.update()
        tables |= {ast.unparse(target).rpartition(".")[2]: at(file, call) for target in call.args}
        tables[owner.rpartition(".")[2]] = at(file, call)
    for text, where in texts(file):
        for table in re.findall(r"(?:insert\s+into|update|delete\s+from)\s+(\w+)", text.lower()):
            tables[table] = where
    return tables


def texts(file: str) -> Iterator[tuple[str, str]]:
    """Every string of a file that is not documentation, with its place."""
    documentation = {
        id(node.value)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree(file)):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in documentation:
            yield node.value, f"{file}:{node.lineno}"


@pytest.mark.parametrize(
    ("table", "owner"),
    [
        ("run_events", "app/events.py"),
        ("queue_state", "app/order.py"),
        ("series", "trainer/store/writer.py"),
        ("series_chunks", "trainer/store/writer.py"),
        ("layer_outputs", "trainer/store/writer.py"),
        ("checkpoints", "trainer/store/writer.py"),
    ],
)
def test_a_table_is_written_by_one_file(table: str, owner: str) -> None:
    assert list(writers_of(table)) == [owner], writers_of(table)


def writers_of(table: str) -> dict[str, str]:
    return {file: changed_tables(file)[table] for file in FILES if table in changed_tables(file)}


GUARDED = {"status", "asked", "fence", "attempt", "tries", "worker_id", "cause", "failure"}
"""What becomes of a run: the columns that only the queue changes."""


def test_only_the_queue_changes_what_becomes_of_a_run() -> None:
    assert list(writers_of("runs")) == ["app/labels.py", "app/order.py", "app/queue.py"]
    for file in ("app/labels.py", "app/order.py"):
        named = {word.arg for _, call in calls(file) for word in call.keywords}
        # the one exception: a queue that is paused asks all runs to wait
        allowed = {"asked"} if file == "app/order.py" else set()
        assert named & GUARDED <= allowed, file


def test_sql_that_only_sqlite_understands_stands_in_one_file() -> None:
    own = re.compile(
        r"\bpragma\b|begin (immediate|deferred|exclusive)|sqlite_master", re.IGNORECASE
    )
    found = {file for file in FILES for text, _ in texts(file) if own.search(text)}
    assert found == {"trainer/store/database.py"}


# -- what nobody may call -------------------------------------------------------------------


NEVER = """
eval exec compile __import__ builtins.eval builtins.exec builtins.compile builtins.__import__
os.system os.popen subprocess.getoutput subprocess.getstatusoutput runpy.run_path
asyncio.create_subprocess_shell torch.load torch.save torch.jit.load torch.hub.load
torch.package.PackageImporter torch.serialization.load numpy.load numpy.lib.npyio.load
""".split()
"""What would run a text or a file, or have a shell do it."""
UNSAFE_FORMATS = "pickle cPickle _pickle dill cloudpickle joblib marshal shelve yaml code".split()


def mentioned(file: str) -> Iterator[tuple[str, ast.expr]]:
    """Every name a file reads, called or not, in full whatever it was imported as."""
    meant: dict[str, str] = {}
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            meant |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                meant[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            first, dot, rest = ast.unparse(node).partition(".")
            yield meant.get(first, first) + dot + rest, node


def dangers(file: str) -> list[str]:
    """Where a file could run what it reads."""
    named = [at(file, node) for name, node in mentioned(file) if name in NEVER]
    asked = [
        at(file, call)
        for _, call in calls(file)
        if any(word.arg in ("shell", "allow_pickle") for word in call.keywords)
    ]
    return [*named, *asked, *forbidden(file, *UNSAFE_FORMATS)]


@pytest.mark.parametrize("file", [*FILES, *MIGRATIONS])
def test_nothing_runs_what_it_reads(file: str) -> None:
    assert dangers(file) == []


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)",
        "found = map(eval, texts)",
        "import builtins as b; b.exec(text)",
        "from os import system as call; call(text)",
        "import subprocess; subprocess.run(text, shell=True)",
        "import subprocess; subprocess.getoutput(text)",
        "from asyncio import create_subprocess_shell; create_subprocess_shell(text)",
        "import torch; torch.load(file)",
        "import torch as t; t.load(file)",
        "from torch import load as read; read(file)",
        "import numpy as np; np.load(file)",
        "archive = open_it(file, allow_pickle=True)",
        "import pickle",
        "from pickle import loads",
        "import yaml",
    ],
)
def test_the_rule_sees_each_way_around_it(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "tree", lambda file: ast.parse(line))
    assert dangers("app/made_up.py")


# -- how files are --------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES)
def test_a_file_says_what_lives_there_and_stays_short(file: str) -> None:
    assert ast.get_docstring(tree(file)), "its first line is to say what lives there"
    assert len((ROOT / file).read_text().splitlines()) <= 400


BARE = """
import sys

ABSENT = {absent!r}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(name + " is not on a bare GPU machine", name=name)

sys.meta_path.insert(0, Absent())
import importlib, pkgutil, trainer
names = [found.name for found in pkgutil.walk_packages(trainer.__path__, "trainer.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
ABSENT = """
app fastapi starlette jinja2 plotly sklearn scipy tsdownsample PIL rich typer alembic orjson psutil
pydantic_settings uvicorn multipart fastapi_offline
""".split()


def test_the_whole_trainer_imports_where_only_torch_and_the_stores_needs_are() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BARE.format(absent=ABSENT)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(under("trainer")) - 1


def test_the_database_is_opened_and_backed_up_without_waiting_for_torch() -> None:
    names = "app.db, app.backup, app.restore, app.models"
    code = f"import sys, {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
