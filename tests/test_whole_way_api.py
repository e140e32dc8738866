"""The whole way: `tricklab serve` and its worker, used by a program through the REST API."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from lab import Lab, changed, quick_config
from server import (
    API,
    PATIENCE,
    Served,
    end_workers,
    is_alive,
    refusal,
    serving,
    states,
    told,
    wait_for,
)

from app.api import shapes
from app.settings import ROOT, Settings
from trainer.config import RunConfig

CONFIG = quick_config(
    # one thread: several people's processes may want the same few cores
    threads=1,
    budget={"epochs": 8},
    tricks=({"name": "seed"},),
    recording={"layers": ["block2.conv"], "layer_examples": 2},
)
LONG = changed(CONFIG, budget={"epochs": 25}, recording={"layer_steps": "never"})


@pytest.mark.timeout(4 * PATIENCE)
def test_runs_are_trained_watched_and_read_and_outlive_the_server(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path / "served")
    try:
        with serving(settings) as served:
            run = queued(served, CONFIG)
            # meanwhile the same config in this process
            lab = Lab.at(tmp_path / "here")
            twin = lab.train(CONFIG)
            watch_to_the_end(served, run)
            look_at_the_result(served, run)
            compare_with_its_twin(served, run, lab, twin)
            long_run = queued(served, LONG)
            wait_for(lambda: get(served, long_run)["step"] > 0)
            served.stop(signal.SIGKILL)
        with serving(settings) as served:
            assert get(served, long_run)["status"] in ("running", "finished")
            watch_to_the_end(served, long_run)
            look_at_what_outlived_the_server(served, long_run)
            clean_up(served, run)
            # the worker before ended when its run was over, as its server was gone
            [worker] = wait_for(psutil.Process(served.process.pid).children)
        wait_for(lambda: not is_alive(worker.pid))
    finally:
        end_workers(settings)


def test_a_worker_ends_whose_server_died_while_it_was_starting(tmp_path: Path) -> None:
    parent = subprocess.Popen(["true"])
    parent.wait()
    worker = subprocess.run(
        [sys.executable, "-m", "app", "worker", f"--parent={parent.pid}"],
        env={**os.environ, "TRICKLAB_FOLDER": str(tmp_path), "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=False,
    )
    assert worker.returncode == 0


def queued(served: Served, config: RunConfig) -> int:
    body = {"config": config.model_dump(mode="json")}
    answer = served.client.post(f"{API}/runs", json=body)
    run: dict[str, Any] = told(answer, shapes.Run, 201)
    return int(run["id"])


def get(served: Served, run_id: int) -> dict[str, Any]:
    run: dict[str, Any] = told(served.client.get(f"{API}/runs/{run_id}"), shapes.Run)
    return run


def watch_to_the_end(served: Served, run_id: int) -> None:
    steps = []
    with served.client.stream("GET", f"{API}/live", params={"runs": str(run_id)}) as stream:
        for state in states(stream):
            steps.append(state["step"])
            if state["status"] not in ("queued", "running"):
                break
    assert (state["status"], state["progress"]) == ("finished", 1), state["reason"]
    assert steps == sorted(steps)
    assert steps[-1] == state["total_steps"]


def look_at_the_result(served: Served, run_id: int) -> None:
    run = get(served, run_id)
    assert run["result"]["val_accuracy"] >= 0.98
    assert run["evidence"]["seed"]
    [worker] = told(served.client.get(f"{API}/workers"), shapes.Workers)["workers"]
    assert (worker["device"], worker["is_alive"]) == ("cpu", True)
    events = told(served.client.get(f"{API}/runs/{run_id}/events"), shapes.Events)["events"]
    assert [event["kind"] for event in events] == ["queued", "running", "finished"]
    log = told(served.client.get(f"{API}/runs/{run_id}/log"), shapes.Log)["text"]
    assert "epoch 8 of 8: val_loss" in log
    output = served.client.get(f"{API}/runs/{run_id}/layers/block2.conv", params={"example": 1})
    values = np.float32(told(output, shapes.LayerOutput)["values"])
    assert values.shape == (32, 4, 4)
    assert values.std() > 0


def compare_with_its_twin(served: Served, run_id: int, lab: Lab, twin: int) -> None:
    for name in ("train_loss", "train_accuracy", "learning_rate", "val_loss", "val_accuracy"):
        answer = told(served.client.get(f"{API}/runs/{run_id}/series/{name}"), shapes.Points)
        points = lab.points(twin, name)
        assert answer["steps"] == points.steps.tolist()
        assert answer["values"] == points.values.tolist(), name


def look_at_what_outlived_the_server(served: Served, run_id: int) -> None:
    run = get(served, run_id)
    assert run["attempt"] == 1
    answer = told(served.client.get(f"{API}/runs/{run_id}/series/train_loss"), shapes.Points)
    assert answer["steps"] == list(range(1, run["total_steps"] + 1))


def clean_up(served: Served, run_id: int) -> None:
    assert served.client.delete(f"{API}/runs/{run_id}").status_code == 204
    assert refusal(served.client.get(f"{API}/runs/{run_id}"), 404)
