"""Commands that steer runs, the queue and the storage."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hostile import TERMINAL
from lab import Lab, tiny_config
from sqlalchemy import update
from test_command_line import CommandLine
from typer.main import get_command

from app import cli, order, queue
from app.access import audit
from app.cleaning import Cleaning
from app.commands.console import named, size
from app.models import Asked, Status, runs, workers
from app.settings import ROOT
from trainer.store.database import reading, writing


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.at(tmp_path / "lab")


@pytest.fixture
def tricklab(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    for name, value in lab.settings.as_environment().items():
        monkeypatch.setenv(name, value)
    return CommandLine(lab.settings.folder, capsys)


def lines(tricklab: CommandLine, *arguments: str) -> list[str]:
    """What a command prints that must succeed."""
    said = tricklab(*arguments)
    assert (said.code, said.err) == (0, "")
    return [line.rstrip() for line in said.out.splitlines()]


def statuses(lab: Lab, *numbers: int) -> list[str]:
    return [lab.run(run_id).status for run_id in numbers]


def in_order(lab: Lab) -> list[int]:
    with reading(lab.engine) as connection:
        return [row.id for row in order.waiting_runs(connection)]


# -- runs -----------------------------------------------------------------------------------


def test_runs_are_paused_and_resumed_by_number_and_by_name(tricklab: CommandLine, lab: Lab) -> None:
    first, second = lab.add(name="first [b]"), lab.add(name="second")
    assert lines(tricklab, "pause", "first [b]", str(second)) == [
        f"Run {first}, first [b], is paused",
        f"Run {second}, second, is paused",
    ]
    assert statuses(lab, first, second) == [Status.PAUSED, Status.PAUSED]
    assert lines(tricklab, "resume", str(first)) == [f"Run {first}, first [b], waits to go on"]
    assert statuses(lab, first, second) == [Status.QUEUED, Status.PAUSED]


@pytest.mark.parametrize(
    ("command", "asked", "said"),
    [
        ("pause", Asked.PAUSE, "pauses at its next step"),
        ("cancel", Asked.CANCEL, "ends at its next step"),
    ],
)
def test_a_run_that_trains_is_asked(
    tricklab: CommandLine, lab: Lab, command: str, asked: Asked, said: str
) -> None:
    run_id = lab.add(name="it")
    lab.claim(run_id)
    assert lines(tricklab, command, "it") == [f"Run {run_id}, it, {said}"]
    assert lab.run(run_id).asked == asked


def test_all_runs_of_a_command_change_or_none(tricklab: CommandLine, lab: Lab) -> None:
    waits, over = lab.add(name="waits"), lab.add(name="over")
    assert lines(tricklab, "cancel", "over") == [f"Run {over}, over, is cancelled"]
    assert tricklab.refused("cancel", "waits", "over") == [
        f"run {over} is cancelled; there is nothing to cancel"
    ]
    assert tricklab.refused("pause", "waits", "nobody") == ["there is no run nobody"]
    assert statuses(lab, waits) == [Status.QUEUED]


def test_a_cancelled_run_is_retried(tricklab: CommandLine, lab: Lab) -> None:
    run_id = lab.add(name="it")
    tricklab("cancel", "it")
    assert lines(tricklab, "retry", "it") == [f"Run {run_id}, it, waits to go on"]
    assert statuses(lab, run_id) == [Status.QUEUED]
    assert tricklab.refused("retry", "it") == [
        f"run {run_id} is queued; only a failed or cancelled run can be retried"
    ]


def test_a_lighter_retry_is_a_new_run_with_half_the_batch(tricklab: CommandLine, lab: Lab) -> None:
    run_id = lab.add(tiny_config(), name="it")
    tricklab("cancel", "it")
    (line,) = lines(tricklab, "retry", "it", "--lighter")
    child = lab.run(run_id + 1)
    assert line == f"Run {child.id}, {child.name}, waits in the queue: made from run {run_id}"
    assert child.config["loader"]["batch_size"] == 180
    assert statuses(lab, run_id) == [Status.CANCELLED]


def test_runs_are_cloned(tricklab: CommandLine, lab: Lab) -> None:
    first, second = lab.add(tiny_config(seed=1)), lab.add(tiny_config(seed=2))
    assert len(lines(tricklab, "clone", str(first), str(second))) == 2
    assert [lab.run(second + n).config["seed"] for n in (1, 2)] == [1, 2]
    assert [lab.run(second + n).parent_id for n in (1, 2)] == [first, second]


def test_a_finished_run_is_continued(tricklab: CommandLine, lab: Lab) -> None:
    run_id = lab.train(tiny_config())
    (line,) = lines(tricklab, "continue", str(run_id), "--epochs", "2")
    child = lab.run(run_id + 1)
    assert line == f"Run {child.id}, {child.name}, waits in the queue: made from run {run_id}"
    assert child.config["budget"]["epochs"] == 3
    assert tricklab("continue", str(run_id)).code == 2, "for how long must be said"
    waiting = lab.add()
    assert tricklab.refused("continue", str(waiting), "--epochs", "1") == [
        f"run {waiting} is queued; only a finished run can be continued"
    ]
    (line,) = tricklab.refused("continue", str(run_id), "--epochs", "999999999")
    assert line.startswith("budget.epochs: ")


def test_runs_are_archived_and_taken_back(tricklab: CommandLine, lab: Lab) -> None:
    run_id = lab.train(tiny_config(), name="it")
    assert lines(tricklab, "archive", "it") == [f"Run {run_id}, it, is archived"]
    assert lab.run(run_id).archived_at is not None
    assert lines(tricklab, "unarchive", "it") == [f"Run {run_id}, it, is back in the lists"]
    assert lab.run(run_id).archived_at is None


# -- the queue ------------------------------------------------------------------------------


def test_the_queue_is_shown_in_its_order(tricklab: CommandLine, lab: Lab) -> None:
    assert lines(tricklab, "queue") == ["Nothing waits"]
    running, low, high = lab.add(name="now"), lab.add(name="[b]low[/b]"), lab.add(priority=5)
    lab.claim(running)
    first, heading, *rest = lines(tricklab, "queue")
    assert first == f"Run {running}, now, trains: step 0, starting"
    assert heading.split() == ["run", "name", "priority", "device", "step"]
    name = lab.run(high).name
    assert [line.split() for line in rest] == [
        ["1", str(high), name, "5", "auto", "0"],
        ["2", str(low), "[b]low[/b]", "0", "auto", "0"],
    ]


def test_the_queue_says_once_what_holds_all_up(tricklab: CommandLine, lab: Lab) -> None:
    with writing(lab.engine) as connection:
        connection.execute(update(workers).values(ended_at=1.0))
    for _ in range(3):
        lab.add()
    last = lines(tricklab, "queue")[-1]
    assert last == "Runs 1, 2 and 3: No worker is there: start one with `tricklab worker`."


def test_the_queue_is_given_as_json(tricklab: CommandLine, lab: Lab) -> None:
    run_id = lab.add()
    shown = json.loads(tricklab("queue", "--json").out)
    assert [run["id"] for run in shown["waiting"]] == [run_id]
    assert (shown["paused_at"], shown["waiting_total"]) == (None, 1)


def test_the_queue_is_paused_and_resumed(tricklab: CommandLine, lab: Lab) -> None:
    running, waiting = lab.add(), lab.add()
    lab.claim(running)
    assert lines(tricklab, "queue", "pause", "--reason", "demo [b]") == ["The queue is paused"]
    assert lab.run(running).asked == Asked.NOTHING
    with writing(lab.engine) as connection:
        assert queue.claim(connection, lab.worker_id) is None
    first, *_, last = lines(tricklab, "queue")
    assert first.startswith("Paused since 20")
    assert first.endswith(" demo [b]")
    assert last.startswith(f"Run {waiting}: The queue is paused (demo [b])")
    assert lines(tricklab, "queue", "resume") == ["The queue goes on"]
    assert lab.claim().run_id == waiting


def test_those_that_train_can_be_held_too(tricklab: CommandLine, lab: Lab) -> None:
    run_id = lab.add()
    lab.claim(run_id)
    assert lines(tricklab, "queue", "pause", "--running") == [
        "The queue is paused",
        f"Run {run_id} will be saved at the next step and wait again",
    ]
    assert lab.run(run_id).asked == Asked.GIVE_BACK


def test_a_run_is_moved_in_the_queue(tricklab: CommandLine, lab: Lab) -> None:
    first, second, third = (lab.add() for _ in range(3))
    assert lines(tricklab, "queue", "move", str(third), "1") == [f"Run {third} is number 1 of 3"]
    assert in_order(lab) == [third, first, second]
    assert lines(tricklab, "queue", "move", str(third), "99") == [f"Run {third} is number 3 of 3"]
    assert in_order(lab) == [first, second, third]
    assert tricklab("queue", "move", str(first), "0").code == 2
    tricklab("cancel", str(first))
    assert tricklab.refused("queue", "move", str(first), "1") == [
        f"run {first} is cancelled; only a waiting run has a place in the queue"
    ]


@pytest.mark.parametrize("priority", [9, -9])
def test_a_run_is_given_another_priority(tricklab: CommandLine, lab: Lab, priority: int) -> None:
    first, second = lab.add(), lab.add()
    said = lines(tricklab, "queue", "priority", str(first), str(priority))
    assert said == [f"Run {first} has priority {priority}"]
    assert in_order(lab) == ([first, second] if priority > 0 else [second, first])
    assert tricklab.refused("queue", "priority", str(first), "1001") == [
        "a priority is from -1000 to 1000, not 1001"
    ]


# -- the storage ----------------------------------------------------------------------------


def test_the_storage_is_shown_with_the_largest_runs(tricklab: CommandLine, lab: Lab) -> None:
    run_id = lab.train(tiny_config(), name="[mine]")
    printed = lines(tricklab, "storage")
    assert printed[0].startswith(f"{lab.settings.folder}: ")
    assert printed[0].endswith(" free")
    (file,) = (lab.settings.run_folder(run_id) / "checkpoints").iterdir()
    bytes_in_words = size(file.stat().st_size).split()
    assert ["checkpoints", *bytes_in_words, "1"] in [line.split() for line in printed]
    assert printed[-1].split()[:5] == [str(run_id), "[mine]", "finished", *bytes_in_words]


def test_the_storage_is_given_as_json(tricklab: CommandLine, lab: Lab) -> None:
    run_id = lab.train(tiny_config())
    found = json.loads(tricklab("storage", "--json", "--largest", "1").out)
    assert [run["id"] for run in found["largest"]] == [run_id]
    assert found["checkpoints"]["count"] == 1


def test_the_storage_is_cleaned(tricklab: CommandLine, lab: Lab) -> None:
    often = {"checkpoint_steps": 3, "checkpoints_kept": 3}
    run_id = lab.train(tiny_config(budget={"epochs": 2}, recording=often))
    folder = lab.settings.run_folder(run_id) / "checkpoints"
    old = size(sum(path.stat().st_size for path in sorted(folder.iterdir())[:2]))
    command = ("storage", "clean", "old-checkpoints")
    assert lines(tricklab, *command, "--dry-run") == [
        f"Would delete 2 files of 1 run: {old} on the disk"
    ]
    assert len(list(folder.iterdir())) == 3
    assert lines(tricklab, *command) == [f"Deleted 2 files of 1 run: {old} on the disk"]
    assert len(list(folder.iterdir())) == 1
    assert json.loads(tricklab(*command, "--json").out)["files"] == 0


def test_room_inside_the_database_is_told_apart(tricklab: CommandLine, lab: Lab) -> None:
    run_id = lab.train(tiny_config(recording={"layer_steps": "end"}))
    tricklab("archive", str(run_id))
    _, second = lines(tricklab, "storage", "clean", "archived-runs")
    assert second.endswith(" inside the database, for what is recorded next")


def test_an_unknown_clean_up_is_refused_with_the_names_of_all(tricklab: CommandLine) -> None:
    assert tricklab.refused("storage", "clean", "everything") == [
        f"there is no clean-up 'everything'; there are {', '.join(Cleaning)}"
    ]
    words = tricklab("storage", "clean", "--help").out
    assert [what for what in Cleaning if what not in words] == []


# -- all of them ----------------------------------------------------------------------------


def commands(group: Any, before: str = "tricklab") -> dict[str, str]:
    """Every command by its whole name, with its help."""
    found = {}
    for name, command in getattr(group, "commands", {}).items():
        found[f"{before} {name}"] = command.help
        found |= commands(command, f"{before} {name}")
    return found


def test_every_command_says_what_it_does() -> None:
    helps = commands(get_command(cli.app))
    assert {"tricklab continue", "tricklab queue move", "tricklab storage clean"} <= helps.keys()
    assert [name for name, words in helps.items() if not words] == []


def test_the_page_on_commands_has_all_of_them_and_no_other() -> None:
    def command_of(line: str) -> str:
        group: Any = get_command(cli.app)
        name, *words = line.split()
        for word in words:
            if not hasattr(group, "commands"):
                break
            group, name = group.commands[word], f"{name} {word}"
        return name

    page = (ROOT / "docs/commands.md").read_text()
    shown = re.findall(r"`(tricklab [a-z].*?)`", page)
    assert {command_of(line) for line in shown} == commands(get_command(cli.app)).keys()


def test_a_text_of_somebody_else_gives_no_orders_to_the_terminal(
    tricklab: CommandLine, lab: Lab
) -> None:
    run_id = lab.add(tiny_config())
    with writing(lab.engine) as connection:
        connection.execute(update(runs).where(runs.c.id == run_id).values(reason=TERMINAL))
        order.pause_queue(connection, running_too=False, reason=TERMINAL)
        line = {"who": TERMINAL, "role": TERMINAL, "address": TERMINAL, "method": TERMINAL}
        audit.note(connection, **line, path=f"/runs/{TERMINAL}", status=403)
    for command in ("audit", "runs", "queue"):
        said = " ".join(lines(tricklab, command))
        assert "\x1b" not in said, command
        assert "\x07" not in said, command
        assert r"\x1b" in said, command


def test_runs_are_named_shortly() -> None:
    assert named([3]) == "Run 3"
    assert named([3, 4]) == "Runs 3 and 4"
    assert named(range(1, 7)) == "Runs 1, 2, 3, 4, 5 and 6"
    assert named(range(1, 2001)) == "Runs 1, 2, 3, 4, 5 and 1,995 more"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (2_000_000, "2.0 MB"),
        (3 * 10**12, "3,000.0 GB"),
    ],
)
def test_sizes_are_told_in_words(count: int, words: str) -> None:
    assert size(count) == words
