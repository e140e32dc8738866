"""Inquiries: asked, claimed, answered by a process, cancelled, lost; never two at once."""

import errno
import math
import multiprocessing
import threading
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from lab import Lab, tiny_config
from server import API, client_of, refusal, told, wait_for
from sqlalchemy import insert, update

from app.api import shapes
from app.executors.local import LocalExecutor
from app.inquiries import desk
from app.inquiries.answering import answer_claimed
from app.inquiries.desk import Errand, ErrandLost, State, TooManyWait
from app.inquiries.lane import Lane
from app.liveness import Liveness
from app.models import workers
from app.pages.inquiries import fragment
from app.sources import data_folders
from trainer.batch import Batch
from trainer.failures import Cause, Failure
from trainer.inquiries import (
    INQUIRIES,
    AboutConfig,
    Bench,
    Equivalence,
    Features,
    Inquiry,
    Preflight,
    Reproducibility,
)
from trainer.part import Refused, name_of
from trainer.proofs.reproducibility import reproduce
from trainer.setup import Setup, StepOutcome, plain_backward
from trainer.store.database import reading, writing
from trainer.tricks import GradientAccumulation, Seed

QUICK = Preflight(config=tiny_config())


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.at(tmp_path)


def ask(lab: Lab, inquiry: Inquiry = QUICK) -> int:
    with writing(lab.engine) as connection:
        return desk.add(connection, inquiry)


def claim(lab: Lab, worker_id: int | None = None, *, alone: bool = False) -> Errand | None:
    with writing(lab.engine) as connection:
        return desk.claim(connection, worker_id or lab.worker_id, alone=alone)


def held(lab: Lab, inquiry: Inquiry = QUICK) -> Errand:
    ask(lab, inquiry)
    errand = claim(lab, alone=inquiry.needs_device_alone)
    assert errand is not None
    return errand


def found(lab: Lab, number: int = 1) -> Any:
    with reading(lab.engine) as connection:
        return desk.find(connection, number)


# -- the catalogue --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", INQUIRIES, ids=name_of)
def test_an_inquiry_is_described_and_its_answer_is_json_with_whatever_numbers(
    lab: Lab, kind: type[Inquiry]
) -> None:
    assert kind.title
    assert "\n\n" in (kind.__doc__ or "")
    for field, schema in kind.model_json_schema()["properties"].items():
        assert field == "name" or len(schema.get("description", "")) > 10, field
    config = tiny_config(tricks=[{"name": "gradient_accumulation", "steps": 2}])
    errand = held(lab, kind(config=config) if issubclass(kind, AboutConfig) else kind())
    with writing(lab.engine) as connection:
        desk.conclude(connection, errand, {"value": math.nan, "deep": [{"far": math.inf}]})
    row = found(lab)
    assert row.status == State.FINISHED
    assert row.answer == {"value": "NaN", "deep": [{"far": "Infinity"}], "beside_run": None}
    assert (row.share, row.doing) == (1, "")


def test_an_answer_is_given_in_this_process_as_in_another(lab: Lab) -> None:
    errand = held(lab)
    answer_claimed(errand, lab.settings)
    row = found(lab)
    assert row.status == State.FINISHED, row.reason
    assert row.answer["ok"] is True
    assert row.answer["beside_run"] is None


@pytest.mark.parametrize("kind", INQUIRIES, ids=name_of)
def test_every_kind_of_answer_has_its_place_on_a_page(
    lab: Lab, kind: type[Inquiry], monkeypatch: pytest.MonkeyPatch
) -> None:
    # each process that is spawned loads torch anew
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr("trainer.proofs.reproducibility.fresh_processes", lambda: fork)
    quick: dict[str, Any] = {"steps": 1, "workers": (0,), "seconds": 0.01, "trick": "seed"}
    quick |= {"config": tiny_config(loader={"batch_size": 400})}
    fields = {name: value for name, value in quick.items() if name in kind.model_fields}
    if issubclass(kind, Features):
        fields = {"run": str(lab.train(tiny_config())), "layer": "head"}
    elif not issubclass(kind, AboutConfig):
        fields = {}
    answer = kind(**fields).answer(bench_here(lab))
    errand = held(lab)
    with writing(lab.engine) as connection:
        desk.conclude(connection, errand, answer)
        row = desk.find(connection, 1)
    shown = types.SimpleNamespace(**{**row._mapping, "kind": name_of(kind)})
    page = fragment(shown)  # type: ignore[arg-type]
    assert 'role="status"' in page or "Errors are relative" in page or 'class="figures"' in page


def page_of(inquiry: Inquiry, answer: Mapping[str, Any]) -> str:
    """A finished inquiry as its page shows it."""
    kind = name_of(type(inquiry))
    row = {"kind": kind, "status": State.FINISHED, "beside_run": None, "ended_at": time.time()}
    row |= {"cause": "", "reason": ""}
    return fragment(types.SimpleNamespace(**row, answer=dict(answer)))  # type: ignore[arg-type]


def test_the_page_of_a_proof_tells_what_batch_norm_does(lab: Lab) -> None:
    tricks = [{"name": "gradient_accumulation", "steps": 2}, {"name": "freeze", "layers": "block1"}]
    inquiry = Equivalence(config=tiny_config(loader={"batch_size": 64}, tricks=tricks))
    page = page_of(inquiry, inquiry.answer(bench_here(lab)))
    assert "holds but for BatchNorm2d" in page
    assert "<td>128</td>" in page
    assert "1-(1-m)^(1/k)" in page
    assert "not judged" in page
    impossible = Equivalence(config=tiny_config(model={"name": "mlp"}), trick="cudnn_benchmark")
    page = page_of(impossible, impossible.answer(bench_here(lab)))
    assert "not possible" in page
    assert "no convolution" in page


def test_the_page_of_two_trainings_tells_how_far_they_are_apart(lab: Lab) -> None:
    config = tiny_config(model={"dropout": 0.5})
    fork = multiprocessing.get_context("fork")
    folders = lab.settings.data_folders
    answer = reproduce(config, folders, "cpu", 2, context=fork).told()
    page = page_of(Reproducibility(config=config, steps=2), answer)
    assert "Not repeatable" in page
    assert "the output of layer dropout (Dropout) differs at step 1" in page
    assert "values differ there" in page
    assert "Switch on the seed trick" in page


def bench_here(lab: Lab) -> Bench:
    return Bench(torch.device("cpu"), data_folders(lab.settings), lambda *told: None)


# -- the desk -------------------------------------------------------------------------------


def test_two_workers_never_get_the_same_inquiry(lab: Lab) -> None:
    numbers = {ask(lab) for _ in range(40)}
    taken: list[int] = []

    def work() -> None:
        while (errand := claim(lab)) is not None:
            taken.append(errand.inquiry_id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(numbers)


def test_what_needs_the_device_alone_is_not_for_the_lane_beside(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Preflight, "needs_device_alone", True)
    number = ask(lab)
    assert claim(lab) is None
    errand = claim(lab, alone=True)
    assert errand is not None
    assert errand.inquiry_id == number


def test_the_two_lanes_of_a_worker_take_turns(lab: Lab) -> None:
    turn, executor = Lock(), LocalExecutor(lab.settings)
    lane, other = (
        Lane(lab.engine, lab.settings, executor, lab.worker_id, bool, alone=alone, turn=turn)
        for alone in (False, True)
    )
    ask(lab)
    with turn:
        # told to wait, and not that nothing is there
        assert lane.answer_next()
        assert not other.answer_next()
        assert found(lab).status == State.QUEUED
    assert lane.answer_next()
    assert found(lab).status == State.FINISHED
    assert not turn.locked()


def test_a_lane_outlives_a_process_that_cannot_be_started(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_many(*given: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    executor = LocalExecutor(lab.settings)
    lane = Lane(lab.engine, lab.settings, executor, lab.worker_id, bool, alone=False)
    monkeypatch.setattr(executor, "start", too_many)
    ask(lab)
    assert lane.answer_next()
    row = found(lab)
    assert (row.status, row.cause) == (State.FAILED, "exception")
    assert "Resource temporarily unavailable" in row.reason
    assert not lane.answer_next()


def test_a_worker_on_another_device_leaves_it(lab: Lab) -> None:
    config = tiny_config().model_copy(update={"device": "cuda:1"})
    ask(lab, Preflight(config=config))
    assert claim(lab) is None


def test_the_run_that_trains_meanwhile_is_told_also_when_it_began_later(lab: Lab) -> None:
    before = held(lab)
    assert found(lab).beside_run is None
    run = lab.add()
    lab.claim(run)
    held(lab)
    assert found(lab, 2).beside_run == run
    with writing(lab.engine) as connection:
        desk.conclude(connection, before, {"value": 1})
    assert found(lab).beside_run == run
    assert found(lab).answer == {"value": 1, "beside_run": run}


def test_cancelled_while_it_waits_it_is_over_at_once(lab: Lab) -> None:
    number = ask(lab)
    with writing(lab.engine) as connection:
        desk.cancel(connection, number)
    assert found(lab).status == State.CANCELLED
    assert claim(lab) is None
    with writing(lab.engine) as connection, pytest.raises(Refused, match="is cancelled"):
        desk.cancel(connection, number)


def test_whoever_lost_an_inquiry_writes_nothing_more(lab: Lab) -> None:
    errand = held(lab)
    with writing(lab.engine) as connection:
        desk.give_back(connection, errand.inquiry_id, errand.fence, "its worker was lost")
    later = claim(lab)
    assert later is not None
    assert later.fence == errand.fence + 1
    for write in (
        lambda c: desk.report(c, errand, 0.5, "", None),
        lambda c: desk.conclude(c, errand, {}),
        lambda c: desk.fail(c, errand, Failure(Cause.EXCEPTION, "")),
        lambda c: desk.withdraw(c, errand),
    ):
        with writing(lab.engine) as connection, pytest.raises(ErrandLost):
            write(connection)
    assert found(lab).status == State.RUNNING


def test_one_that_is_lost_again_fails_instead_of_ending_worker_after_worker(lab: Lab) -> None:
    for _ in range(desk.MOST_CLAIMS):
        errand = claim(lab) if found_any(lab) else held(lab)
        assert errand is not None
        with writing(lab.engine) as connection:
            desk.give_back(connection, errand.inquiry_id, errand.fence, "its worker was lost")
    assert found(lab).status == State.FAILED
    assert found(lab).cause == "lost"


def test_one_whose_worker_is_only_stopped_may_be_given_back_as_often_as_that(lab: Lab) -> None:
    ask(lab)
    for _ in range(desk.MOST_CLAIMS + 1):
        errand = claim(lab)
        assert errand is not None
        with writing(lab.engine) as connection:
            desk.give_back(connection, errand.inquiry_id, errand.fence, "stopped", is_lost=False)
        assert found(lab).status == State.QUEUED


def test_a_worker_of_another_device_does_not_even_ask_for_the_lock(lab: Lab) -> None:
    ask(lab, Preflight(config=tiny_config().model_copy(update={"device": "cuda:1"})))
    assert not found_any(lab)
    ask(lab)
    assert found_any(lab)


def found_any(lab: Lab) -> bool:
    with reading(lab.engine) as connection:
        return desk.is_waiting(connection, lab.worker_id, alone=False)


def test_what_a_lost_worker_held_is_given_back(lab: Lab) -> None:
    errand = held(lab)
    with writing(lab.engine) as connection:
        connection.execute(update(workers).values(ended_at=time.time()))
    Liveness(lab.engine, lab.settings).look()
    assert found(lab).status == State.QUEUED
    with writing(lab.engine) as connection:
        row = insert(workers).values(
            host="h", process=2, device="cpu", started_at=0.0, seen_at=time.time()
        )
        added = connection.execute(row).inserted_primary_key
    assert added is not None
    again = claim(lab, added[0])
    assert again is not None
    assert again.fence == errand.fence + 1


def test_what_was_to_be_cancelled_is_not_begun_again_when_its_worker_is_lost(lab: Lab) -> None:
    errand = held(lab)
    with writing(lab.engine) as connection:
        desk.cancel(connection, errand.inquiry_id)
        desk.give_back(connection, errand.inquiry_id, errand.fence, "its worker was lost")
    assert found(lab).status == State.CANCELLED
    assert found(lab).ended_at is not None


def test_too_many_are_refused_and_old_ones_forgotten(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "MOST_WAITING", 2)
    monkeypatch.setattr(desk, "KEPT", 3)
    for _ in range(6):
        errand = held(lab)
        with writing(lab.engine) as connection:
            desk.conclude(connection, errand, {})
    ask(lab)
    with reading(lab.engine) as connection:
        rows = connection.exec_driver_sql("SELECT id FROM inquiries ORDER BY id").scalars().all()
    assert rows == [4, 5, 6, 7]
    ask(lab)
    with pytest.raises(TooManyWait, match="2 questions wait already"):
        ask(lab)


# -- the lane -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab whose worker has a lane for inquiries."""
    lab = Lab.at(tmp_path_factory.mktemp("lab"), inquiry_seconds=60.0)
    executor = LocalExecutor(lab.settings)
    executor.warm_up()
    with Lane(lab.engine, lab.settings, executor, lab.worker_id, lambda: False, alone=False):
        yield lab


def is_over(lab: Lab, number: int) -> bool:
    return found(lab, number).ended_at is not None


def test_a_lane_answers_one_after_the_other(working: Lab) -> None:
    numbers = [ask(working), ask(working, Preflight(config=tiny_config(seed=5)))]
    for number in numbers:
        wait_for(lambda number=number: is_over(working, number))
        row = found(working, number)
        assert row.status == State.FINISHED, row.reason
        assert row.answer["ok"]


SLOW = Preflight(
    config=tiny_config(
        model={"name": "resnet20", "width": 128}, loader={"batch_size": 1437}, threads=1
    )
)


def test_a_cancelled_answer_ends_within_seconds_and_the_next_one_starts(working: Lab) -> None:
    number = ask(working, SLOW)
    wait_for(lambda: found(working, number).doing not in ("", "starting"))
    began = time.monotonic()
    with writing(working.engine) as connection:
        desk.cancel(connection, number)
    wait_for(lambda: is_over(working, number))
    assert time.monotonic() - began < 10
    assert found(working, number).status == State.CANCELLED
    following = ask(working)
    wait_for(lambda: is_over(working, following))
    assert found(working, following).status == State.FINISHED


def test_an_answer_that_takes_too_long_is_ended_by_name(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path, inquiry_seconds=0.5)
    number = ask(lab, SLOW)
    executor = LocalExecutor(lab.settings)
    lane = Lane(lab.engine, lab.settings, executor, lab.worker_id, lambda: False, alone=False)
    assert lane.answer_next()
    assert not lane.answer_next()
    row = found(lab, number)
    assert (row.status, row.cause) == (State.FAILED, "hung")
    assert "no answer after 0.5 s" in row.reason


def test_an_error_is_told_and_the_lane_goes_on(working: Lab) -> None:
    number = ask(working, Equivalence(config=tiny_config(), trick="sorcery"))
    wait_for(lambda: is_over(working, number))
    row = found(working, number)
    assert (row.status, row.cause) == (State.FAILED, "refused")
    assert "there is no trick 'sorcery'" in row.reason


# -- over REST ------------------------------------------------------------------------------


@pytest.fixture
def client(lab: Lab) -> Iterator[TestClient]:
    with client_of(lab.settings) as client:
        yield client


def posted(client: TestClient, **inquiry: Any) -> Any:
    return client.post(f"{API}/inquiries", json=inquiry)


def test_an_inquiry_is_asked_read_listed_and_cancelled(client: TestClient, lab: Lab) -> None:
    answer = posted(client, name="preflight", config={"seed": 3})
    assert answer.status_code == 201
    number = answer.json()["id"]
    assert answer.headers["Location"] == f"{API}/inquiries/{number}"
    assert answer.json()["request"]["config"]["seed"] == 3
    second = posted(client, name="equivalence", trick="all").json()["id"]
    listed = client.get(f"{API}/inquiries?limit=1").json()
    assert [one["id"] for one in listed["inquiries"]] == [second]
    rest = client.get(f"{API}/inquiries?before={listed['next']}").json()
    assert [one["id"] for one in rest["inquiries"]] == [number]
    only = client.get(f"{API}/inquiries?kind=preflight&status=queued").json()["inquiries"]
    assert [one["id"] for one in only] == [number]
    cancelled = client.post(f"{API}/inquiries/{number}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert "is cancelled" in refusal(client.post(f"{API}/inquiries/{number}/cancel"), 409)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "oracle"}, "there is no 'oracle'"),
        ({}, "its name is missing"),
        ({"name": "preflight", "config": {"seed": -1}}, "config.seed"),
        ({"name": "reproducibility", "steps": 0}, "steps"),
        ({"name": "equivalence", "config": {"model": {"name": "unet"}}}, "config.model.name"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_with_its_field(
    client: TestClient, body: Mapping[str, Any], said: str
) -> None:
    assert said in refusal(client.post(f"{API}/inquiries", json=body), 422)


def test_a_question_that_nobody_asked_is_not_there(client: TestClient) -> None:
    assert "there is no inquiry 7" in refusal(client.get(f"{API}/inquiries/7"), 404)


def test_where_there_is_no_answer_there_is_advice(client: TestClient, lab: Lab) -> None:
    errand = held(lab)
    address = f"{API}/inquiries/{errand.inquiry_id}"
    assert told(client.get(address), shapes.Inquiry)["advice"] == ""
    with writing(lab.engine) as connection:
        desk.fail(connection, errand, Failure(Cause.HUNG, "there was no answer"))
    answer = told(client.get(address), shapes.Inquiry)
    assert "TRICKLAB_INQUIRY_SECONDS" in answer["advice"]
    assert "TRICKLAB_INQUIRY_SECONDS" in fragment(found(lab))


def test_too_many_questions_are_told_to_wait(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "MOST_WAITING", 1)
    posted(client, name="preflight")
    answer = posted(client, name="preflight")
    assert "ask later" in refusal(answer, 429)
    assert answer.headers["Retry-After"] == "10"


# -- the pre-flight -------------------------------------------------------------------------


def answer_of(lab: Lab, **config: Any) -> Mapping[str, Any]:
    answer_claimed(held(lab, Preflight(config=tiny_config(**config))), lab.settings)
    row = found(lab)
    assert row.status == State.FINISHED, row.reason
    answer: Mapping[str, Any] = row.answer
    return answer


def test_a_preflight_tells_time_memory_shapes_and_what_tricks_did(lab: Lab) -> None:
    trick = GradientAccumulation(steps=2).model_dump()
    answer = answer_of(lab, tricks=[trick], loader={"batch_size": 100})
    assert answer["ok"]
    assert answer["steps_tried"] >= 2
    assert answer["step_seconds"] > 0
    assert answer["run_seconds"] == pytest.approx(answer["step_seconds"] * answer["steps"])
    assert answer["steps_per_epoch"] == 8
    assert answer["input_shape"] == [100, 1, 8, 8]
    assert answer["output_shape"] == [100, 10]
    assert answer["target_shape"] == [100]
    assert answer["peak_memory_bytes"] > 10**7
    assert answer["evidence"]["gradient_accumulation"]["effective_batch_size"] == 200
    assert set(answer["seconds_by_activity"]) >= {"forward", "backward", "optimizer"}
    assert sum(answer["seconds_by_activity"].values()) < 3 * answer["step_seconds"]


def test_a_preflight_changes_nothing(lab: Lab) -> None:
    answer_of(lab)
    with reading(lab.engine) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 0
        assert connection.exec_driver_sql("SELECT count(*) FROM series").scalar() == 0
    assert not (lab.settings.folder / "runs").exists()


def test_a_config_that_cannot_be_trained_is_an_answer_with_the_field_to_blame(lab: Lab) -> None:
    answer = answer_of(lab, model={"name": "unet"})
    assert answer["ok"] is False
    assert answer["field"] == "model.name"
    assert "choose mlp" in answer["reason"]


def test_what_fails_while_it_trains_is_an_answer_too(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved(self: object, setup: object, window: object) -> None:
        raise MemoryError

    monkeypatch.setattr("trainer.setup.plain_backward", lambda setup, window: starved(0, 0, 0))
    answer = answer_of(lab)
    assert answer["ok"] is False
    assert answer["cause"] == "out of memory"
    assert answer["field"] == "loader.batch_size"
    assert "smaller batch" in answer["advice"]


def test_a_loss_that_is_no_number_is_an_answer_unless_the_run_would_go_on(lab: Lab) -> None:
    optimizer = {"name": "sgd", "learning_rate": 1000.0, "momentum": 0.99}
    wild = {"optimizer": optimizer, "schedule": {"name": "constant"}, "budget": {"epochs": 20}}
    answer = answer_of(lab, **wild, loss={"name": "cross_entropy", "reduction": "sum"})
    assert answer["ok"] is False
    assert answer["cause"] == "diverged"
    assert answer["field"] == "optimizer.name"
    assert "the training loss became" in answer["reason"]
    assert "learning rate is too high" in answer["advice"]


def test_a_trick_that_finds_nothing_to_change_is_the_field_to_blame(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(trick: object, setup: object) -> None:
        raise Refused("gradient_accumulation has nothing to add up")

    monkeypatch.setattr(GradientAccumulation, "apply", refuse)
    tricks = [Seed().model_dump(), GradientAccumulation(steps=2).model_dump()]
    answer = answer_of(lab, tricks=tricks)
    assert answer["ok"] is False
    assert answer["field"] == "tricks.1.name"
    assert answer["reason"] == "gradient_accumulation has nothing to add up"


def test_a_preflight_computes_with_as_many_threads_as_the_run_would(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, seen = torch.get_num_threads(), []

    def step(setup: Setup, window: Sequence[Batch]) -> StepOutcome:
        seen.append(torch.get_num_threads())
        return plain_backward(setup, window)

    monkeypatch.setattr("trainer.setup.plain_backward", step)
    assert answer_of(lab, threads=usual + 1)["ok"]
    assert set(seen) == {usual + 1}
    assert torch.get_num_threads() == usual


def test_warnings_of_the_check_come_with_the_preflight(lab: Lab) -> None:
    loss = {"name": "cross_entropy", "reduce": False}
    answer = answer_of(lab, loss=loss)
    assert any("reduce=False" in text for text in answer["warnings"])
