"""The command `tricklab`: what it prints, and that what goes wrong is told in a line each."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, tiny_config
from rich.console import Console
from sqlalchemy import text

from app import cli
from app.models import Status
from app.run_query import RunQuery
from app.run_view import list_runs
from app.samples import add_samples_once
from trainer.models import MODELS
from trainer.part import name_of
from trainer.recipes import RECIPES, SAMPLE_COMPARISON
from trainer.store.database import reading, writing


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs `tricklab` in this process, in a lab of its own."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capture = capture

    def __call__(self, *arguments: str) -> Said:
        self.capture.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["tricklab", *arguments])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Said(code or 0, *self.capture.readouterr())

    def refused(self, *arguments: str) -> Sequence[str]:
        """What a command complains of, line by line; nothing else may be on standard error."""
        said = self(*arguments)
        assert said.code == 1
        lines = said.err.splitlines()
        assert lines
        assert all(line.startswith("tricklab: ") for line in lines)
        return [line.removeprefix("tricklab: ") for line in lines]

    def lab(self) -> Lab:
        return Lab.at(self.folder)


@pytest.fixture
def tricklab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    for name in os.environ:
        if name.startswith("TRICKLAB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TRICKLAB_FOLDER", str(tmp_path / "lab"))
    monkeypatch.chdir(tmp_path)
    interrupt = signal.getsignal(signal.SIGINT)
    yield CommandLine(tmp_path / "lab", capsys)
    signal.signal(signal.SIGINT, interrupt)


TINY = """
device = "cpu"
threads = 1
budget = { epochs = 1 }
loader = { batch_size = 360 }
recording = { layer_steps = "never" }

[model]
name = "small_cnn"
width = 2

[[tricks]]
name = "seed"
"""


def written(folder: Path, content: str, name: str = "config.toml") -> str:
    (folder / name).write_text(content)
    return str(folder / name)


# -- what it shows --------------------------------------------------------------------------


def test_recipes_are_listed_with_what_they_are_for(tricklab: CommandLine) -> None:
    said = tricklab("recipes")
    assert said.code == 0
    for name in RECIPES:
        assert name in said.out


def test_models_are_listed_with_their_parameters(tricklab: CommandLine) -> None:
    said = tricklab("models")
    assert said.code == 0
    rows = [line.split() for line in said.out.splitlines()]
    assert [row[0] for row in rows if row[0] in {name_of(model) for model in MODELS}] == [
        name_of(model) for model in MODELS
    ]
    assert ["P3D199", "66,492,240"] in [row[:2] for row in rows]


def test_models_are_given_as_json(tricklab: CommandLine) -> None:
    models = json.loads(tricklab("models", "--json").out)
    assert [model["name"] for model in models] == [name_of(model) for model in MODELS]
    sizes = {size["title"]: size["parameters"] for model in models for size in model["sizes"]}
    assert sizes["P3D199"] == 66_492_240


def test_runs_are_listed_newest_first(
    tricklab: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "out", Console(width=120))
    lab = tricklab.lab()
    lab.train(tiny_config(), name="first")
    lab.add(tiny_config(), name="a [bold]strange[/bold] name")
    said = tricklab("runs")
    heading, second, first = said.out.splitlines()
    assert heading.split() == ["run", "name", "status", "step", "score", "seconds", "reason"]
    assert second.split()[:5] == ["2", "a", "[bold]strange[/bold]", "name", "queued"]
    run = lab.run(1)
    expected = ["1", "first", "finished", "4", f"{run.result['val_accuracy']:.4g}"]
    assert first.split()[:5] == expected


def test_runs_are_listed_as_json_by_status_and_number(tricklab: CommandLine) -> None:
    lab = tricklab.lab()
    lab.train(tiny_config(), name="done")
    for _ in range(3):
        lab.add(tiny_config())

    def numbers(*options: str) -> list[int]:
        found = json.loads(tricklab("runs", "--json", *options).out)
        return [run["id"] for run in found]

    assert numbers() == [4, 3, 2, 1]
    assert numbers("--limit", "2") == [4, 3]
    assert numbers("--status", "finished") == [1]
    (done,) = json.loads(tricklab("runs", "--json", "--status", "finished").out)
    assert done["name"] == "done"
    assert done["metrics"]["val_accuracy"]["last"] == lab.run(1).result["val_accuracy"]
    assert tricklab.refused("runs", "--status", "lost") == [
        "there is no status 'lost'; there are queued, running, paused, finished, failed, cancelled"
    ]


def test_a_run_is_shown_as_json_by_number_and_by_name(tricklab: CommandLine) -> None:
    lab = tricklab.lab()
    config = tiny_config(
        loss={"name": "mse"},
        optimizer={"learning_rate": 1000},
        budget={"stop_when_diverged": False},
    )
    run_id = lab.train(config, name="diverged", note="why")
    shown = json.loads(tricklab("show", "diverged").out)
    assert shown == json.loads(tricklab("show", str(run_id)).out)
    assert (shown["id"], shown["status"], shown["note"]) == (run_id, Status.FINISHED, "why")
    assert shown["config"] == config.model_dump(mode="json")
    # JSON has no number for it
    assert shown["metrics"]["train_loss"]["last"] in ("NaN", "Infinity")
    assert tricklab.refused("show", "nobody") == ["there is no run nobody"]


# -- training -------------------------------------------------------------------------------


def test_a_config_file_is_trained_here_and_now(tricklab: CommandLine, tmp_path: Path) -> None:
    said = tricklab("train", written(tmp_path, TINY), "--name", "mine")
    assert said.code == 0
    assert "Run 1, mine: finished" in said.err
    assert "val_accuracy" in said.err
    run = tricklab.lab().run(1)
    assert (run.status, run.recipe, run.step) == (Status.FINISHED, "", 4)
    assert run.config["model"] == {"name": "small_cnn", "width": 2, "dropout": 0.0}
    assert run.config["tricks"] == [{"name": "seed"}]


def test_a_config_that_was_shown_can_be_trained_from_its_json(
    tricklab: CommandLine, tmp_path: Path
) -> None:
    config = tiny_config(seed=4)
    said = tricklab("train", written(tmp_path, config.model_dump_json(), "config.json"))
    assert said.code == 0
    assert tricklab.lab().run(1).config == config.model_dump(mode="json")


def test_a_recipe_is_trained_by_its_name(
    tricklab: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a real recipe takes too long here
    recipe = RECIPES["digits-mlp"]
    short = {name: value for name, value in vars(recipe).items() if name != "config"}
    monkeypatch.setitem(
        RECIPES,  # type: ignore[arg-type]
        "digits-short",
        type(recipe)(**short, config=tiny_config()),
    )
    assert tricklab("train", "digits-short", "--device", "cpu").code == 0
    run = tricklab.lab().run(1)
    assert (run.status, run.recipe, run.config["device"]) == ("finished", "digits-short", "cpu")


def test_a_run_that_fails_here_gives_its_reason_and_an_exit_code(
    tricklab: CommandLine, tmp_path: Path
) -> None:
    path = written(tmp_path, TINY.replace('"seed"', '"gradient_accumulation"\nsteps = 9'))
    said = tricklab("train", path)
    assert said.code == 1
    assert "failed" in said.err
    assert "an epoch has 4 batches; lower steps or the batch size" in said.err
    assert "Traceback" not in said.err.split("Run 1")[-1]


def test_ctrl_c_stops_a_run_at_its_next_step_and_finishes_it(
    tricklab: CommandLine, tmp_path: Path
) -> None:
    lab = tricklab.lab()

    def interrupt() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with reading(lab.engine) as connection:
                found = list_runs(connection, RunQuery())
            if found and found[0]["step"] >= 5:
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.05)

    watching = threading.Thread(target=interrupt)
    watching.start()
    said = tricklab("train", written(tmp_path, TINY.replace("epochs = 1", "epochs = 99999")))
    watching.join()
    run = lab.run(1)
    assert (said.code, run.status) == (0, Status.FINISHED)
    assert run.reason == f"stopped at step {run.step}"
    assert "Stopping at the next step; once more to kill it." in said.err


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ("nope", "there is no recipe 'nope'; there are digits-cnn, "),
        ("missing.toml", "missing.toml cannot be read: No such file or directory"),
        ("config.yaml", "config.yaml is neither a recipe nor a .toml or .json file"),
    ],
)
def test_a_config_that_is_not_there_is_refused(
    tricklab: CommandLine, config: str, complaint: str
) -> None:
    (line,) = tricklab.refused("train", config)
    assert line.startswith(complaint)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("config.toml", "model = [", "is no TOML: "),
        ("config.json", "{", "is no JSON: "),
        ("config.toml", "\xff", "is no TOML: "),
    ],
)
def test_a_file_that_cannot_be_parsed_is_refused_by_name(
    tricklab: CommandLine, tmp_path: Path, name: str, content: str, complaint: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("latin-1"))
    (line,) = tricklab.refused("train", str(path))
    assert line.startswith(f"{path} {complaint}")


def test_every_bad_value_of_a_file_is_told_in_a_line_of_its_own(
    tricklab: CommandLine, tmp_path: Path
) -> None:
    bad = 'seed = -1\noptimizer = { name = "sgd", learning_rate = -0.1 }\nepochs = 3\n'
    assert tricklab.refused("train", written(tmp_path, bad)) == [
        "optimizer.sgd.learning_rate: Input should be greater than 0",
        "seed: Input should be greater than or equal to 0",
        "epochs: Extra inputs are not permitted",
    ]
    assert not tricklab.folder.exists(), "nothing was begun"


def test_a_bad_device_is_refused(tricklab: CommandLine) -> None:
    (line,) = tricklab.refused("train", "digits-cnn", "--device", "toaster")
    assert line.startswith("device: ")
    assert tricklab.refused("worker", "--device", "cuda:77") == [
        "this machine has no device 'cuda:77'; choose auto or cpu"
    ]


def test_a_bad_setting_is_refused_by_name(
    tricklab: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRICKLAB_PORT", "99999")
    (line,) = tricklab.refused("runs")
    assert line == "port: Input should be less than or equal to 65535"


@pytest.mark.parametrize("command", ["serve", "demo"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "lab.example"])
@pytest.mark.parametrize("access", ["off", "token"])
def test_serving_beyond_this_machine_is_refused_to_who_asks_nobody_or_knows_nobody(
    tricklab: CommandLine, command: str, host: str, access: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRICKLAB_ACCESS", access)
    (line,) = tricklab.refused(command, "--host", host)
    why = "TRICKLAB_ACCESS=off lets everybody in" if access == "off" else "nobody could log in yet"
    assert line.startswith(f"{host} can be reached from other machines, and {why}")
    assert not tricklab.folder.exists(), "nothing was begun"


def test_a_database_of_a_newer_program_is_refused(tricklab: CommandLine) -> None:
    lab = tricklab.lab()
    with writing(lab.engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    (line,) = tricklab.refused("runs")
    assert line.startswith(f"sqlite:///{tricklab.folder}/tricklab.db has schema 9999, which this")


# -- the rest -------------------------------------------------------------------------------


def test_stop_ends_a_run_that_waits(tricklab: CommandLine) -> None:
    lab = tricklab.lab()
    run_id = lab.add(tiny_config(), name="waiting")
    assert tricklab("stop", "waiting", "--cancel").out == f"Run {run_id} was asked to cancel\n"
    assert lab.run(run_id).status == Status.CANCELLED
    assert tricklab.refused("stop", "waiting") == [
        f"run {run_id} is cancelled; there is nothing to stop"
    ]


def test_migrate_makes_a_database_and_says_where(tricklab: CommandLine) -> None:
    said = tricklab("migrate")
    assert said.code == 0
    where = f"sqlite:///{tricklab.folder}/tricklab.db"
    assert said.out.replace("\n", "") == f"{where} has the newest schema"
    assert (tricklab.folder / "tricklab.db").exists()


def test_the_password_of_a_database_is_not_printed(
    monkeypatch: pytest.MonkeyPatch, tricklab: CommandLine
) -> None:
    monkeypatch.setenv("TRICKLAB_DATABASE", "postgresql+psycopg://me:secret@here/lab")
    assert cli.shown_url(cli.with_flags()) == "postgresql+psycopg://me:***@here/lab"


def test_the_sample_comparison_is_queued_once(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    assert add_samples_once(lab.engine) == [1, 2, 3, 4]
    assert add_samples_once(lab.engine) == []
    rows: list[Any] = [lab.run(run_id) for run_id in (1, 2, 3, 4)]
    assert [row.recipe for row in rows] == list(SAMPLE_COMPARISON)
    assert all(row.note == RECIPES[row.recipe].purpose for row in rows)


# -- who may come in ------------------------------------------------------------------------


def test_tokens_are_made_listed_and_revoked(tricklab: CommandLine) -> None:
    made = tricklab("token", "make", "ann", "--role", "viewer").out.strip()
    assert made.startswith("tl_")
    listed = tricklab("token", "--json").out
    assert '"ann"' in listed
    assert made not in listed
    assert "ann has no token any more" in tricklab("token", "revoke", "ann").out
    assert tricklab.refused("token", "revoke", "ann") == ["there is no token 'ann'"]
    assert tricklab.refused("token", "revoke", "7")[0].startswith("there is no token 7")
    (line,) = tricklab.refused("token", "make", "ann", "--role", "king")
    assert line == "there is no role 'king'; there are viewer, editor, owner"
    (line,) = tricklab.refused("token", "make", "a b")
    assert line.startswith("'a b' cannot name a token")


def test_an_address_that_logs_in_is_printed_for_the_port(tricklab: CommandLine) -> None:
    said = tricklab("login", "--port", "9000").out.strip()
    assert said.startswith("http://127.0.0.1:9000/login?code=tl_")
    assert tricklab("audit", "--json").out.strip() == "[]"
