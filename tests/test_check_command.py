"""`tricklab check`: a pre-flight without a server, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab import tiny_config

from app.settings import ROOT


def check(folder: Path, *options: str, fault: str = "", **config: Any) -> Any:
    """The command on a tiny config in a folder where nothing is."""
    (folder / "config.json").write_text(tiny_config(**config).model_dump_json())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRICKLAB_FOLDER": str(folder / "lab")}
    if fault:
        (folder / "faults").mkdir()
        (folder / "faults" / "inquiry.answer").write_text(fault)
        environment["TRICKLAB_FAILPOINTS"] = str(folder / "faults")
    return subprocess.run(
        [sys.executable, "-m", "app", "check", "config.json", *options],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def test_it_tells_time_and_memory_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = check(tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("360x1x8x8", "examples per second", "the whole run", "peak memory"):
        assert words in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.slow
def test_it_prints_the_whole_answer_as_json(tmp_path: Path) -> None:
    done = check(tmp_path, "--json", tricks=[{"name": "gradient_accumulation", "steps": 2}])
    answer = json.loads(done.stdout)
    assert answer["ok"] is True
    assert answer["evidence"]["gradient_accumulation"]["effective_batch_size"] == 720


def test_it_fails_with_every_field_to_blame(tmp_path: Path) -> None:
    layers = {"layers": ["no_such_layer"], "layer_steps": "end"}
    loader = {"batch_size": 2000, "drop_last": True}
    done = check(tmp_path, loader=loader, recording=layers)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["recording.layers", "loader.batch_size"]
    assert "larger than the 1437 training examples" in lines[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"),
    [("crash", "was killed by SIGABRT"), ("kill", "was killed by SIGKILL")],
)
def test_the_death_of_its_process_is_told_in_a_line(tmp_path: Path, fault: str, words: str) -> None:
    done = check(tmp_path, fault=fault)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("tricklab: ")]
    assert words in line
    assert "Traceback" not in done.stderr
