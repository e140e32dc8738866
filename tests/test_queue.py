"""The queue: what may become of a run, who may change it, and that nobody gets what another has."""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from lab import Lab, tiny_config
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from app import finding, labels, order, queue
from app.missing import RunMissing
from app.models import Asked, Status, run_events, runs, workers
from app.names import readable_name
from app.queue import Claim, ClaimLost
from trainer.failures import Cause, Failure
from trainer.part import Refused
from trainer.store.database import connect, reading, writing


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.at(tmp_path)


def do(lab: Lab, action: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """One call of the queue in a transaction of its own."""
    with writing(lab.engine) as connection:
        return action(connection, *arguments, **more)


def put(lab: Lab, status: Status) -> int:
    """A new run that came to this status in an ordinary way."""
    run_id = lab.add(tiny_config())
    if status != Status.QUEUED:
        claim = lab.claim(run_id)
        if status != Status.RUNNING:
            do(lab, queue.conclude, claim, status)
    return run_id


# -- adding ---------------------------------------------------------------------------------


def test_a_new_run_waits_under_a_readable_name_with_all_it_was_given(lab: Lab) -> None:
    parent = lab.add()
    run_id = lab.add(tiny_config(seed=5), recipe="digits-cnn", note="why", priority=2, parent_id=1)
    run = lab.run(run_id)
    assert (run.status, run.asked, run.attempt, run.fence) == (Status.QUEUED, "", 0, 0)
    assert (run.name, run.recipe, run.note) == (readable_name(run_id), "digits-cnn", "why")
    assert (run.priority, run.parent_id) == (2, parent)
    assert run.config["seed"] == 5
    assert lab.events(run_id) == [("queued", "")]


def test_a_name_that_is_taken_is_refused(lab: Lab) -> None:
    lab.add(name="baseline")
    other = lab.add()
    with pytest.raises(Refused, match="a run named 'baseline' exists already; choose another"):
        lab.add(name="baseline")
    with pytest.raises(Refused, match="a run named 'baseline' exists already; choose another"):
        do(lab, labels.rename, other, "baseline")


def test_a_name_of_digits_is_refused_as_it_would_be_taken_for_a_number(lab: Lab) -> None:
    run_id = lab.add()
    with pytest.raises(Refused, match="'12' would be taken for a run's number; add a letter"):
        lab.add(name="12")
    with pytest.raises(Refused, match="'12' would be taken for a run's number; add a letter"):
        do(lab, labels.rename, run_id, "12")


def test_a_readable_name_that_a_person_gave_away_is_not_given_twice(lab: Lab) -> None:
    lab.add(name=readable_name(2))
    second = lab.run(lab.add())
    assert second.name != readable_name(2)
    assert second.name.endswith("-2")


def test_a_run_is_found_by_number_and_by_name(lab: Lab) -> None:
    run_id = lab.add(name="baseline")
    with reading(lab.engine) as connection:
        assert finding.find(connection, "baseline") == run_id
        assert finding.find(connection, str(run_id)) == run_id
        for reference in ("nobody", "77", "9" * 30):
            with pytest.raises(RunMissing, match=f"there is no run {reference}"):
                finding.find(connection, reference)


def test_a_renamed_and_noted_run_says_so_in_its_events(lab: Lab) -> None:
    run_id = lab.add(name="old")
    do(lab, labels.rename, run_id, "new")
    do(lab, labels.rename, run_id, "new")
    do(lab, labels.annotate, run_id, "best so far")
    run = lab.run(run_id)
    assert (run.name, run.note) == ("new", "best so far")
    assert lab.events(run_id)[1:] == [("renamed", "new"), ("renamed", "new"), ("noted", "")]


def test_the_same_request_key_adds_one_run(lab: Lab) -> None:
    first = do(lab, queue.add_once, tiny_config(), request_key="k")
    assert first == (1, True)
    assert do(lab, queue.add_once, tiny_config(), request_key="k") == (1, False)
    assert do(lab, queue.add_once, tiny_config(), request_key=None) == (2, True)
    assert do(lab, queue.add_once, tiny_config(), request_key=None) == (3, True)
    with pytest.raises(Refused, match="the key 'k' was used for run 1, which has another config"):
        do(lab, queue.add_once, tiny_config(seed=1), request_key="k")


# -- claiming -------------------------------------------------------------------------------


def test_the_highest_priority_goes_first_and_then_the_oldest(lab: Lab) -> None:
    numbers = [lab.add(priority=priority) for priority in (0, 5, 0, 5, -1)]
    claimed = [lab.claim().run_id for _ in numbers]
    assert claimed == [numbers[n] for n in (1, 3, 0, 2, 4)]


def test_a_claim_says_what_to_train_and_under_which_fence(lab: Lab) -> None:
    config = tiny_config(seed=9)
    claim = lab.claim(lab.add(config))
    run = lab.run(claim.run_id)
    assert claim == Claim(run.id, lab.worker_id, fence=1, attempt=1, config=config)
    assert (run.status, run.worker_id, run.fence, run.attempt) == ("running", lab.worker_id, 1, 1)
    assert lab.events(run.id)[-1] == ("running", "attempt 1 on cpu")


def test_an_empty_queue_gives_no_claim(lab: Lab) -> None:
    assert do(lab, queue.claim, lab.worker_id) is None
    running = put(lab, Status.RUNNING)
    assert do(lab, queue.claim, lab.worker_id) is None
    assert do(lab, queue.claim, lab.worker_id, running) is None


def test_a_run_keeps_the_time_of_its_first_start(lab: Lab) -> None:
    run_id = put(lab, Status.PAUSED)
    started = lab.run(run_id).started_at
    do(lab, queue.resume, run_id)
    lab.claim(run_id)
    assert lab.run(run_id).started_at == started


def claim_all(url: str, worker_id: int, together: Barrier, found: Any) -> None:
    """Claim until nothing is left; the main function of one racing process."""
    engine = connect(url)
    together.wait(timeout=60)
    claimed = []
    while True:
        with writing(engine) as connection:
            claim = queue.claim(connection, worker_id)
        if claim is None:
            break
        claimed.append(claim.run_id)
        # a moment for the others: whoever comes back at once finds them waiting to try again
        time.sleep(0.01)
    engine.dispose()
    found.put(claimed)


def test_racing_processes_never_claim_the_same_run_and_leave_none(lab: Lab) -> None:
    numbers = [lab.add(tiny_config()) for _ in range(40)]
    # processes of their own, that inherit no open file; torch is loaded once for all of them
    starting = multiprocessing.get_context("forkserver")
    starting.set_forkserver_preload(["app.executors.training", "hypothesis.stateful", "pytest"])
    together, found = starting.Barrier(4), starting.Queue()
    arguments = (lab.settings.database_url, lab.worker_id, together, found)
    racers = [starting.Process(target=claim_all, args=arguments) for _ in range(4)]
    for racer in racers:
        racer.start()
    claimed = [found.get(timeout=90) for _ in racers]
    for racer in racers:
        racer.join()
    assert sorted(run_id for each in claimed for run_id in each) == numbers
    assert sum(bool(each) for each in claimed) > 1, "one process claimed all: it was no race"
    with reading(lab.engine) as connection:
        starts = select(func.count()).select_from(run_events).filter_by(kind="running")
        assert connection.execute(starts).scalar() == 40


# -- asking ---------------------------------------------------------------------------------

PAUSE, STOP, CANCEL = Asked.PAUSE, Asked.STOP, Asked.CANCEL


@pytest.mark.parametrize("asked", [PAUSE, STOP, CANCEL])
def test_a_running_run_is_told_what_is_asked_and_stays_running(lab: Lab, asked: Asked) -> None:
    claim = lab.claim(lab.add())
    do(lab, queue.ask, claim.run_id, asked)
    assert lab.run(claim.run_id).status == Status.RUNNING
    assert do(lab, queue.asked, claim) == asked
    assert do(lab, queue.report, claim, step=1) == asked
    assert lab.events(claim.run_id)[-1] == (f"asked to {asked}", "")


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        (Status.QUEUED, PAUSE, Status.PAUSED),
        (Status.QUEUED, STOP, Status.CANCELLED),
        (Status.QUEUED, CANCEL, Status.CANCELLED),
        (Status.PAUSED, STOP, Status.CANCELLED),
        (Status.PAUSED, CANCEL, Status.CANCELLED),
    ],
)
def test_a_waiting_run_does_what_is_asked_at_once(
    lab: Lab, before: Status, asked: Asked, after: Status
) -> None:
    run_id = put(lab, before)
    do(lab, queue.ask, run_id, asked)
    run = lab.run(run_id)
    assert run.status == after
    assert (run.ended_at is not None) == after.is_over
    assert lab.events(run_id)[-1] == (after, "")
    assert do(lab, queue.claim, lab.worker_id) is None


@pytest.mark.parametrize(
    ("status", "asked"),
    [
        (status, asked)
        for status in (Status.FINISHED, Status.FAILED, Status.CANCELLED)
        for asked in (PAUSE, STOP, CANCEL)
    ]
    + [(Status.PAUSED, PAUSE)],
)
def test_what_cannot_be_asked_is_refused(lab: Lab, status: Status, asked: Asked) -> None:
    run_id = put(lab, status)
    before, told = lab.run(run_id), lab.events(run_id)
    with pytest.raises(Refused, match=f"^run {run_id} is {status}; there is nothing to {asked}$"):
        do(lab, queue.ask, run_id, asked)
    assert (lab.run(run_id), lab.events(run_id)) == (before, told)


def test_a_paused_run_waits_again_when_resumed_and_no_other_can_be(lab: Lab) -> None:
    paused = put(lab, Status.PAUSED)
    do(lab, queue.resume, paused)
    assert lab.run(paused).status == Status.QUEUED
    assert lab.events(paused)[-1] == ("resumed", "")
    for status in set(Status) - {Status.PAUSED}:
        run_id = put(lab, status)
        with pytest.raises(
            Refused, match=f"{run_id} is {status}; only a paused run can be resumed"
        ):
            do(lab, queue.resume, run_id)


def test_what_was_asked_of_an_earlier_attempt_does_not_reach_the_next(lab: Lab) -> None:
    claim = lab.claim(lab.add())
    do(lab, queue.ask, claim.run_id, PAUSE)
    do(lab, queue.conclude, claim, Status.PAUSED)
    do(lab, queue.resume, claim.run_id)
    assert do(lab, queue.asked, lab.claim(claim.run_id)) == Asked.NOTHING


def test_a_run_is_deleted_with_its_events_but_not_while_it_is_trained(lab: Lab) -> None:
    claim = lab.claim(lab.add())
    with pytest.raises(Refused, match=f"run {claim.run_id} is running; cancel it first"):
        do(lab, queue.remove, claim.run_id)
    do(lab, queue.conclude, claim, Status.CANCELLED)
    child = lab.add(parent_id=claim.run_id)
    do(lab, queue.remove, claim.run_id)
    assert lab.events(claim.run_id) == []
    assert lab.run(child).parent_id is None
    assert lab.add() > child, "a number is never given twice"


def test_whatever_is_done_to_a_run_that_is_not_there_says_so(lab: Lab) -> None:
    for action, arguments in (
        (queue.ask, (CANCEL,)),
        (queue.resume, ()),
        (labels.rename, ("name",)),
        (labels.annotate, ("note",)),
        (queue.remove, ()),
    ):
        with pytest.raises(RunMissing, match="there is no run 77"):
            do(lab, action, 77, *arguments)


# -- ending ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.QUEUED, Status.RUNNING)])
def test_a_run_is_concluded_once_with_its_reason_and_result(lab: Lab, status: Status) -> None:
    claim = lab.claim(lab.add())
    do(lab, queue.conclude, claim, status, "because", {"val_loss": 0.5}, {"seed": {"seed": 0}})
    run = lab.run(claim.run_id)
    assert (run.status, run.reason, run.worker_id) == (status, "because", None)
    assert (run.result, run.evidence) == ({"val_loss": 0.5}, {"seed": {"seed": 0}})
    assert (run.ended_at is not None) == status.is_over
    assert lab.events(claim.run_id)[-1] == (status, "because")
    with pytest.raises(ClaimLost):
        do(lab, queue.conclude, claim, Status.FAILED)


def test_a_run_given_back_waits_again_and_the_try_does_not_count(lab: Lab) -> None:
    claim = lab.claim(lab.add())
    do(lab, queue.ask_to_give_back, claim)
    assert do(lab, queue.asked, claim) == Asked.GIVE_BACK
    do(lab, queue.give_back, claim, "its worker was stopped")
    run = lab.run(claim.run_id)
    assert (run.status, run.reason) == (Status.QUEUED, "its worker was stopped")
    assert (run.attempt, run.tries, run.asked, run.worker_id) == (1, 0, "", None)
    assert lab.events(claim.run_id)[-1] == ("queued", "its worker was stopped")


def test_a_worker_that_is_stopped_does_not_overrule_a_person(lab: Lab) -> None:
    claim = lab.claim(lab.add())
    do(lab, queue.ask, claim.run_id, CANCEL)
    do(lab, queue.ask_to_give_back, claim)
    assert do(lab, queue.asked, claim) == CANCEL


# -- the fence ------------------------------------------------------------------------------


def test_whoever_lost_a_run_can_write_nothing_more(lab: Lab) -> None:
    old = lab.claim(lab.add())
    do(lab, queue.requeue, old.run_id, old.fence, "frozen", 9)
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (queue.report, ()),
        (queue.conclude, (Status.FINISHED,)),
        (queue.asked, ()),
        (queue.give_back, ("stopped",)),
    ]

    def is_powerless() -> None:
        before = lab.run(old.run_id)
        for call, arguments in calls:
            with pytest.raises(ClaimLost, match=f"run {old.run_id} is no longer held"):
                do(lab, call, old, *arguments)
        with pytest.raises(ClaimLost):
            do(lab, queue.requeue, old.run_id, old.fence, "noticed twice", 9)
        do(lab, queue.ask_to_give_back, old)
        assert lab.run(old.run_id) == before

    # before anybody took it over, while another has it, when it is over, when it is gone
    is_powerless()
    new = lab.claim(old.run_id)
    assert new.fence > old.fence
    is_powerless()
    do(lab, queue.conclude, new, Status.FINISHED)
    is_powerless()
    do(lab, queue.remove, old.run_id)
    with pytest.raises(ClaimLost):
        do(lab, queue.report, old, step=1)


# -- losing a worker ------------------------------------------------------------------------


def test_a_lost_run_is_queued_again_until_it_was_tried_often_enough(lab: Lab) -> None:
    run_id = lab.add()
    for attempt in (1, 2):
        claim = lab.claim(run_id)
        assert claim.attempt == attempt
        assert do(lab, queue.requeue, run_id, claim.fence, "gone", 3) == Status.QUEUED
        assert lab.run(run_id).reason == "gone; queued again"
    last = lab.claim(run_id)
    assert do(lab, queue.requeue, run_id, last.fence, "gone", 3) == Status.FAILED
    run = lab.run(run_id)
    assert (run.status, run.reason) == (Status.FAILED, "gone; given up after 3 tries")
    assert run.ended_at is not None
    assert [kind for kind, _ in lab.events(run_id)] == ["queued"] + 2 * ["running", "queued"] + [
        "running",
        "failed",
    ]


@pytest.mark.parametrize(
    ("asked", "after"),
    [(PAUSE, Status.PAUSED), (CANCEL, Status.CANCELLED), (STOP, Status.CANCELLED)],
)
def test_what_was_asked_of_a_lost_run_is_done_and_not_forgotten(
    lab: Lab, asked: Asked, after: Status
) -> None:
    claim = lab.claim(lab.add())
    do(lab, queue.ask, claim.run_id, asked)
    assert do(lab, queue.requeue, claim.run_id, claim.fence, "gone", 3) == after
    run = lab.run(claim.run_id)
    assert (run.status, run.asked) == (after, "")
    assert run.reason == f"gone; {after}, as was asked"
    assert (run.ended_at is not None) == after.is_over


def test_a_new_checkpoint_gives_a_run_all_its_tries_again(lab: Lab) -> None:
    run_id = lab.add()
    for _ in range(5):
        claim = lab.claim(run_id)
        do(lab, queue.report, claim, tries=0)
        assert do(lab, queue.requeue, run_id, claim.fence, "gone", 1) == Status.QUEUED
    assert lab.run(run_id).attempt == 5


# -- what failed, and what is tried again ---------------------------------------------------

DIVERGED = Failure(Cause.DIVERGED, "the loss became NaN at step 3", {"step": 3})


def test_a_failed_run_is_named_and_one_that_lacks_disk_is_only_paused(lab: Lab) -> None:
    claim = lab.claim(lab.add())
    do(lab, queue.fail, claim, DIVERGED)
    run = lab.run(claim.run_id)
    assert (run.status, run.cause, run.failure) == (Status.FAILED, "diverged", {"step": 3})
    assert lab.events(run.id)[-1] == ("failed", "the loss became NaN at step 3")
    claim = lab.claim(lab.add())
    do(lab, queue.fail, claim, Failure(Cause.DISK_FULL, "the disk is full"))
    run = lab.run(claim.run_id)
    assert (run.status, run.cause, run.ended_at) == (Status.PAUSED, "disk full", None)


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_what_failed_or_was_cancelled_can_be_retried_with_all_its_tries(
    lab: Lab, status: Status
) -> None:
    run_id = put(lab, status)
    do(lab, queue.retry, run_id)
    run = lab.run(run_id)
    assert (run.status, run.tries, run.cause, run.failure) == (Status.QUEUED, 0, "", None)
    assert run.ended_at is None
    assert lab.events(run_id)[-1] == ("retried", "")


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.FAILED, Status.CANCELLED}))
def test_nothing_else_can_be_retried(lab: Lab, status: Status) -> None:
    run_id = put(lab, status)
    with pytest.raises(Refused, match=f"{run_id} is {status}; only a failed or cancelled run can"):
        do(lab, queue.retry, run_id)


def test_a_config_that_no_longer_fits_fails_by_name_and_the_next_run_is_claimed(lab: Lab) -> None:
    old, following = lab.add(), lab.add()
    with writing(lab.engine) as connection:
        connection.execute(
            update(runs).where(runs.c.id == old).values(config={"seed": "x", "gone": 1})
        )
    assert lab.claim().run_id == following
    run = lab.run(old)
    assert (run.status, run.cause) == (Status.FAILED, "refused")
    assert run.reason.startswith("its config does not fit this version of Tricklab: seed: ")


# -- which worker may train what ------------------------------------------------------------


def another_worker(lab: Lab, device: str) -> int:
    with writing(lab.engine) as connection:
        result = connection.execute(
            insert(workers).values(
                host="here", process=2, device=device, started_at=0.0, seen_at=time.time()
            )
        )
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


@pytest.mark.parametrize(
    ("device", "wanted", "claims"),
    [
        ("cpu", "cpu", True),
        ("cpu", "auto", True),
        ("cpu", "cuda", False),
        ("cpu", "cuda:0", False),
        ("cuda:1", "cuda:1", True),
        ("cuda:1", "cuda", True),
        ("cuda:1", "auto", True),
        ("cuda:1", "cuda:0", False),
        ("cuda:1", "cpu", False),
        ("mps", "mps", True),
    ],
)
def test_a_worker_claims_only_what_its_device_may_train(
    lab: Lab, device: str, wanted: str, claims: bool
) -> None:
    do(lab, lambda connection: connection.execute(delete(workers)))
    worker_id = another_worker(lab, device)
    lab.add(tiny_config(device=wanted))
    claim = do(lab, queue.claim, worker_id)
    assert (claim is not None) == claims
    if claim:
        assert claim.device == device


def test_where_a_faster_device_has_a_worker_the_cpu_leaves_it_the_choice(lab: Lab) -> None:
    lab.add(tiny_config(device="auto"))
    faster = another_worker(lab, "cuda:0")
    assert do(lab, queue.claim, lab.worker_id) is None
    do(lab, lambda connection: connection.execute(
        update(workers).where(workers.c.id == faster).values(ended_at=1.0)
    ))  # fmt: skip
    assert do(lab, queue.claim, lab.worker_id) is not None


# -- order ----------------------------------------------------------------------------------


def order_of(lab: Lab) -> list[int]:
    with reading(lab.engine) as connection:
        return [row.id for row in order.waiting_runs(connection)]


def test_a_run_is_moved_to_a_position_and_claimed_there(lab: Lab) -> None:
    a, b, c, d = (lab.add() for _ in range(4))
    do(lab, order.move, d, 1)
    assert order_of(lab) == [a, d, b, c]
    do(lab, order.move, a, 99)
    assert order_of(lab) == [d, b, c, a]
    do(lab, order.move, c, 0)
    assert [lab.claim().run_id for _ in range(4)] == [c, d, b, a]


def test_a_run_moved_between_others_takes_a_priority_that_lets_it_stand_there(lab: Lab) -> None:
    urgent, plain, last = lab.add(priority=5), lab.add(), lab.add(priority=-5)
    do(lab, order.move, last, 0)
    assert (order_of(lab), lab.run(last).priority) == ([last, urgent, plain], 5)
    do(lab, order.move, urgent, 2)
    assert (order_of(lab), lab.run(urgent).priority) == ([last, plain, urgent], 0)
    assert lab.events(urgent)[-1] == ("moved", "priority 0")


def test_a_gap_that_is_used_up_by_moving_is_opened_again(lab: Lab) -> None:
    first, second, third = (lab.add() for _ in range(3))
    for number in range(120):
        do(lab, order.move, (second, third)[number % 2], 1)
        assert order_of(lab)[0] == first
        assert order_of(lab)[1] == (second, third)[number % 2]
    newest = lab.add()
    assert order_of(lab)[-1] == newest


def test_a_priority_is_bounded_and_only_waiting_runs_have_a_place(lab: Lab) -> None:
    first, second = lab.add(), lab.add()
    do(lab, order.prioritise, second, 7)
    assert order_of(lab) == [second, first]
    with pytest.raises(Refused, match="a priority is from -1000 to 1000, not 1001"):
        do(lab, order.prioritise, second, 1001)
    running = put(lab, Status.FINISHED)
    for action in (order.prioritise, order.move):
        with pytest.raises(Refused, match="is finished; only a waiting run has a place"):
            do(lab, action, running, 1)


def test_a_paused_queue_gives_out_nothing_but_what_is_named(lab: Lab) -> None:
    held, first, second = lab.claim(lab.add()), lab.add(), lab.add()
    assert do(lab, order.pause_queue, running_too=False, reason="a demo") == []
    assert do(lab, queue.asked, held) == Asked.NOTHING
    assert do(lab, queue.claim, lab.worker_id) is None
    assert do(lab, queue.claim, lab.worker_id, second) is not None
    with reading(lab.engine) as connection:
        state = order.queue_status(connection)
    assert state.reason == "a demo"
    assert abs(state.paused_at - time.time()) < 60
    do(lab, order.resume_queue)
    assert do(lab, queue.claim, lab.worker_id).run_id == first


def test_pausing_the_queue_may_have_running_runs_save_and_wait(lab: Lab) -> None:
    held = lab.claim(lab.add())
    assert do(lab, order.pause_queue, running_too=True) == [held.run_id]
    assert do(lab, queue.asked, held) == Asked.GIVE_BACK
    assert lab.events(held.run_id)[-1] == ("asked to wait", "the queue was paused")


# -- put away -------------------------------------------------------------------------------


def test_a_run_that_is_over_is_archived_and_comes_back(lab: Lab) -> None:
    run_id = put(lab, Status.FINISHED)
    do(lab, labels.archive, run_id)
    assert lab.run(run_id).archived_at is not None
    with pytest.raises(Refused, match=f"^run {run_id} is archived already$"):
        do(lab, labels.archive, run_id)
    do(lab, labels.unarchive, run_id)
    assert lab.run(run_id).archived_at is None
    with pytest.raises(Refused, match=f"run {run_id} is not archived"):
        do(lab, labels.unarchive, run_id)
    for status in (Status.QUEUED, Status.RUNNING, Status.PAUSED):
        with pytest.raises(Refused, match=f"is {status}; only a run that is over can be archived"):
            do(lab, labels.archive, put(lab, status))


# -- against a plain model ------------------------------------------------------------------


@dataclass(frozen=True)
class Plain:
    """A run as the model beside the queue sees it."""

    status: Status = Status.QUEUED
    priority: int = 0
    asked: Asked = Asked.NOTHING
    attempt: int = 0
    tries: int = 0
    holder: int | None = None
    """Which claim, of all there ever were, holds it."""


class QueueMachine(RuleBasedStateMachine):
    """Any sequence of what people and workers do leaves the queue where a plain model is."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.lab = Lab.at(Path(self.folder.name))
        self.model: dict[int, Plain] = {}
        self.waiting: list[int] = []
        self.is_paused = False
        self.claimed = 0

    def teardown(self) -> None:
        self.lab.engine.dispose()
        self.folder.cleanup()

    def do(self, action: Callable[..., Any], *arguments: Any) -> Any:
        return do(self.lab, action, *arguments)

    def become(self, run_id: int, **changes: Any) -> None:
        self.model[run_id] = replace(self.model[run_id], **changes)
        if self.model[run_id].status != Status.QUEUED and run_id in self.waiting:
            self.waiting.remove(run_id)
        if self.model[run_id].status == Status.QUEUED:
            self.line_up(run_id)

    def line_up(self, run_id: int) -> None:
        """Where a run stands that waits (again): among those of its priority, by number, unless
        it or others were moved; then only the order of those that were there is known."""
        if run_id not in self.waiting:
            self.waiting = [row.id for row in self.stored_order() if row.id in self.model]

    def stored_order(self) -> Sequence[Row[Any]]:
        with reading(self.lab.engine) as connection:
            return order.waiting_runs(connection)

    def any_run(self, draw: int) -> int:
        """A run that is there, or a number that none has."""
        return [*self.model, 10**6][draw % (len(self.model) + 1)]

    @rule(priority=st.integers(-1, 1))
    def add(self, priority: int) -> None:
        run_id = self.lab.add(CONFIG, priority=priority)
        assert run_id not in self.model
        self.model[run_id] = Plain(priority=priority)
        later = [i for i, id in enumerate(self.waiting) if self.model[id].priority < priority]
        self.waiting.insert(later[0] if later else len(self.waiting), run_id)

    @rule(target=claims)
    def claim(self) -> tuple[int, Claim] | None:
        claim = self.do(queue.claim, self.lab.worker_id)
        if claim is None:
            assert not self.waiting or self.is_paused
            return None
        assert not self.is_paused
        assert claim.run_id == self.waiting[0]
        self.waiting.remove(claim.run_id)
        self.claimed += 1
        self.become(
            claim.run_id,
            status=Status.RUNNING,
            holder=self.claimed,
            asked=Asked.NOTHING,
            attempt=self.model[claim.run_id].attempt + 1,
            tries=self.model[claim.run_id].tries + 1,
        )
        assert claim.attempt == self.model[claim.run_id].attempt
        return self.claimed, claim

    def holds(self, held: tuple[int, Claim]) -> bool:
        run = self.model.get(held[1].run_id)
        return run is not None and run.holder == held[0]

    def if_held(self, held: tuple[int, Claim], action: Callable[..., Any], *more: Any) -> bool:
        """Do it and see that it succeeds exactly for whoever holds the run."""
        if self.holds(held):
            self.do(action, *more)
            return True
        with pytest.raises(ClaimLost):
            self.do(action, *more)
        return False

    @rule(held=claims)
    def report(self, held: tuple[int, Claim] | None) -> None:
        if held:
            self.if_held(held, queue.report, held[1])

    @rule(
        held=claims,
        status=st.sampled_from([s for s in Status if s not in (Status.QUEUED, Status.RUNNING)]),
    )
    def conclude(self, held: tuple[int, Claim] | None, status: Status) -> None:
        if held and self.if_held(held, queue.conclude, held[1], status):
            self.become(held[1].run_id, status=status, holder=None, asked=Asked.NOTHING)

    @rule(held=claims)
    def give_back(self, held: tuple[int, Claim] | None) -> None:
        if held and self.if_held(held, queue.give_back, held[1], "stopped"):
            self.become(
                held[1].run_id, status=Status.QUEUED, holder=None, asked=Asked.NOTHING, tries=0
            )

    @rule(held=consumes(claims))
    def lose(self, held: tuple[int, Claim] | None) -> None:
        if held is None:
            return
        claim = held[1]
        if not self.if_held(held, queue.requeue, claim.run_id, claim.fence, "gone", 2):
            return
        run = self.model[claim.run_id]
        after = {PAUSE: Status.PAUSED, STOP: Status.CANCELLED, CANCEL: Status.CANCELLED}.get(
            run.asked, Status.FAILED if run.tries >= 2 else Status.QUEUED
        )
        self.become(claim.run_id, status=after, holder=None, asked=Asked.NOTHING)

    @rule(draw=st.integers(0, 99), asked=st.sampled_from([PAUSE, STOP, CANCEL]))
    def ask(self, draw: int, asked: Asked) -> None:
        run_id = self.any_run(draw)
        status = self.model[run_id].status if run_id in self.model else None
        if status == Status.RUNNING:
            self.do(queue.ask, run_id, asked)
            self.become(run_id, asked=asked)
        elif status == Status.QUEUED or (status == Status.PAUSED and asked != PAUSE):
            self.do(queue.ask, run_id, asked)
            self.become(run_id, status=Status.PAUSED if asked == PAUSE else Status.CANCELLED)
        else:
            with pytest.raises((Refused, RunMissing)):
                self.do(queue.ask, run_id, asked)

    @rule(draw=st.integers(0, 99))
    def resume(self, draw: int) -> None:
        run_id = self.any_run(draw)
        if run_id in self.model and self.model[run_id].status == Status.PAUSED:
            self.do(queue.resume, run_id)
            self.become(run_id, status=Status.QUEUED, tries=0)
        else:
            with pytest.raises((Refused, RunMissing)):
                self.do(queue.resume, run_id)

    @rule(draw=st.integers(0, 99))
    def retry(self, draw: int) -> None:
        run_id = self.any_run(draw)
        ended_badly = (Status.FAILED, Status.CANCELLED)
        if run_id in self.model and self.model[run_id].status in ended_badly:
            self.do(queue.retry, run_id)
            self.become(run_id, status=Status.QUEUED, tries=0)
        else:
            with pytest.raises((Refused, RunMissing)):
                self.do(queue.retry, run_id)

    @rule(draw=st.integers(0, 99), position=st.integers(0, 6))
    def move(self, draw: int, position: int) -> None:
        run_id = self.any_run(draw)
        if run_id not in self.waiting:
            with pytest.raises((Refused, RunMissing)):
                self.do(order.move, run_id, position)
            return
        self.do(order.move, run_id, position)
        self.waiting.remove(run_id)
        self.waiting.insert(position, run_id)
        priorities = {row.id: row.priority for row in self.stored_order()}
        self.model[run_id] = replace(self.model[run_id], priority=priorities[run_id])

    @rule(paused=st.booleans())
    def pause_or_resume(self, paused: bool) -> None:
        if paused:
            self.do(lambda connection: order.pause_queue(connection, running_too=False))
        else:
            self.do(order.resume_queue)
        self.is_paused = paused

    @rule(draw=st.integers(0, 99))
    def remove(self, draw: int) -> None:
        run_id = self.any_run(draw)
        if run_id in self.model and self.model[run_id].status != Status.RUNNING:
            self.do(queue.remove, run_id)
            del self.model[run_id]
            self.waiting = [id for id in self.waiting if id != run_id]
        else:
            with pytest.raises((Refused, RunMissing)):
                self.do(queue.remove, run_id)

    @invariant()
    def the_queue_is_where_the_model_is(self) -> None:
        c = runs.c
        with reading(self.lab.engine) as connection:
            columns = (c.id, c.status, c.asked, c.attempt, c.worker_id)
            rows = connection.execute(select(*columns)).all()
            last = latest_kinds(connection)
        assert [row.id for row in self.stored_order()] == self.waiting
        stored = {row.id: (row.status, row.asked, row.attempt) for row in rows}
        assert stored == {
            run_id: (run.status, run.asked, run.attempt) for run_id, run in self.model.items()
        }
        for row in rows:
            assert (row.worker_id is not None) == (row.status == Status.RUNNING)
            # the events tell the same story as the row
            asked_back = ("resumed", "retried")
            assert last[row.id] == row.status or (
                row.status == Status.QUEUED and last[row.id] in asked_back
            )


def latest_kinds(connection: Connection) -> dict[int, str]:
    """The last event of each run, leaving out what was merely asked."""
    query = select(run_events.c.run_id, run_events.c.kind).where(
        run_events.c.kind.not_like("asked to %"), run_events.c.kind != "moved"
    )
    return {row.run_id: row.kind for row in connection.execute(query.order_by(run_events.c.id))}


CONFIG = tiny_config()
TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
