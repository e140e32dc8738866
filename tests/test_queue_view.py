"""The queue as it is shown: the order, and what holds each run up."""

import time
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, tiny_config
from sqlalchemy import insert, update

from app import order, queue, queue_view
from app.models import workers
from trainer.store.database import reading, writing


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.at(tmp_path)


def shown(lab: Lab) -> dict[str, Any]:
    with reading(lab.engine) as connection:
        return queue_view.queue_view(connection, lab.settings)


def hindrances(lab: Lab) -> dict[int, str]:
    return {run["id"]: run["waits_for"] for run in shown(lab)["waiting"]}


def add_worker(lab: Lab, device: str, **more: Any) -> int:
    with writing(lab.engine) as connection:
        values = {"host": "here", "process": 2, "started_at": 0.0, "seen_at": time.time(), **more}
        result = connection.execute(insert(workers).values(device=device, **values))
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def set_worker(lab: Lab, worker_id: int, **values: Any) -> None:
    with writing(lab.engine) as connection:
        connection.execute(update(workers).where(workers.c.id == worker_id).values(**values))


def test_what_waits_is_shown_in_the_order_in_which_it_is_claimed(lab: Lab) -> None:
    low, middle, high = lab.add(priority=-1), lab.add(), lab.add(priority=5)
    last = lab.add()
    with writing(lab.engine) as connection:
        order.move(connection, last, 1)
    waiting = shown(lab)["waiting"]
    assert [run["position"] for run in waiting] == [1, 2, 3, 4]
    claimed = [lab.claim().run_id for _ in range(4)]
    assert [run["id"] for run in waiting] == claimed == [high, last, middle, low]


def test_a_waiting_run_says_what_a_person_needs_to_tell_it_from_others(lab: Lab) -> None:
    config = tiny_config(device="cpu", tricks=[{"name": "seed"}])
    run_id = lab.add(config, name="mine", recipe="digits-cnn", priority=3)
    (run,) = shown(lab)["waiting"]
    assert run == {
        "id": run_id,
        "name": "mine",
        "recipe": "digits-cnn",
        "priority": 3,
        "position": 1,
        "wanted_device": "cpu",
        "created_at": lab.run(run_id).created_at,
        "step": 0,
        "total_steps": None,
        "attempt": 0,
        "reason": "",
        "tricks": ["seed"],
        "waits_for": "",
    }


def test_a_run_that_only_waits_for_its_turn_is_held_up_by_nothing(lab: Lab) -> None:
    running, waiting = lab.add(), lab.add()
    lab.claim(running)
    view = shown(lab)
    assert [run["id"] for run in view["running"]] == [running]
    assert view["running"][0]["status"] == "running"
    assert [(run["id"], run["waits_for"]) for run in view["waiting"]] == [(waiting, "")]
    assert [(worker["id"], worker["run"]) for worker in view["workers"]] == [
        (lab.worker_id, running)
    ]


def test_a_paused_queue_holds_up_everything_with_its_reason(lab: Lab) -> None:
    run_id = lab.add()
    with writing(lab.engine) as connection:
        order.pause_queue(connection, running_too=False, reason="the GPU is needed")
    view = shown(lab)
    assert view["paused_at"] == pytest.approx(time.time(), abs=5)
    assert view["paused_reason"] == "the GPU is needed"
    assert hindrances(lab)[run_id].startswith("The queue is paused (the GPU is needed): resume it")
    with writing(lab.engine) as connection:
        order.resume_queue(connection)
    assert shown(lab)["paused_at"] is None
    assert hindrances(lab) == {run_id: ""}


def test_without_any_worker_the_way_to_start_one_is_said(lab: Lab) -> None:
    set_worker(lab, lab.worker_id, ended_at=time.time())
    anywhere, on_gpu = lab.add(), lab.add(tiny_config(device="cuda:1"))
    assert hindrances(lab) == {
        anywhere: "No worker is there: start one with `tricklab worker`.",
        on_gpu: "No worker is there: start one with `tricklab worker --device cuda:1`.",
    }


def test_a_run_for_a_device_without_a_worker_says_so_and_the_others_do_not(lab: Lab) -> None:
    here, elsewhere = lab.add(tiny_config(device="cpu")), lab.add(tiny_config(device="cuda:1"))
    add_worker(lab, "cuda:0")
    found = hindrances(lab)
    assert found[here] == ""
    assert found[elsewhere] == (
        "No worker works on cuda:1, which its config asks for: start one with `tricklab worker "
        "--device cuda:1`, or clone the run with another device."
    )


def test_a_worker_in_trouble_is_named_with_its_trouble(lab: Lab) -> None:
    run_id = lab.add()
    set_worker(lab, lab.worker_id, trouble="the disk is nearly full: 3 MB are free")
    assert hindrances(lab)[run_id] == (
        f"Worker {lab.worker_id} on cpu starts nothing: the disk is nearly full: 3 MB are free."
    )
    add_worker(lab, "cpu")
    assert hindrances(lab)[run_id] == "", "another can take it"


def test_a_silent_worker_is_named(lab: Lab) -> None:
    run_id = lab.add()
    set_worker(lab, lab.worker_id, seen_at=time.time() - 60)
    said = hindrances(lab)[run_id]
    assert said.startswith(f"Worker {lab.worker_id} on cpu gave no sign for 6")
    assert said.endswith("once it counts as lost, another may take the run.")


def test_who_is_told_to_wait_is_exactly_whom_no_worker_here_may_claim(lab: Lab) -> None:
    """The sentence and the queue's own rule never contradict each other."""
    devices = ("auto", "cpu", "cuda", "cuda:0", "cuda:1", "mps")
    numbers = {lab.add(tiny_config(device=device)): device for device in devices}
    gpu = add_worker(lab, "cuda:1")
    free = {run_id for run_id, sentence in hindrances(lab).items() if not sentence}
    claimed = set()
    with writing(lab.engine) as connection:
        for worker_id in (lab.worker_id, gpu):
            while claim := queue.claim(connection, worker_id):
                claimed.add(claim.run_id)
    assert {numbers[run_id] for run_id in claimed} == {"auto", "cpu", "cuda", "cuda:1"}
    assert free == claimed


def test_a_long_queue_is_shown_in_part_and_counted_whole(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_view, "MOST_WAITING", 3)
    numbers = [lab.add() for _ in range(5)]
    view = shown(lab)
    assert [run["id"] for run in view["waiting"]] == numbers[:3]
    assert view["waiting_total"] == 5
    lab.claim()
    lab.claim()
    lab.claim()
    assert (len(shown(lab)["waiting"]), shown(lab)["waiting_total"]) == (2, 2)
