"""What the lab takes on its disk, and what each clean-up gives back and leaves alone."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, tiny_config
from sqlalchemy import func, select

from app import labels, offspring, queue, storage
from app.cleaning import Cleaning, Freed, Sweep, clean
from app.models import Asked, Status, runs
from app.settings import Settings
from trainer.config import RunConfig
from trainer.part import Refused
from trainer.store.database import reading, writing
from trainer.store.reader import list_checkpoints
from trainer.store.tables import layer_outputs, log_chunks

OLD, ARCHIVED, LEFT_OVER = Cleaning


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.at(tmp_path / "lab")


def saving_often() -> RunConfig:
    """Eight steps, and checkpoints at the third, the sixth and the end."""
    often = {"checkpoint_steps": 3, "checkpoints_kept": 3}
    return tiny_config(budget={"epochs": 2}, recording=often)


def looking(**changes: Any) -> RunConfig:
    return tiny_config(recording={"layer_steps": "end"}, **changes)


def usage(lab: Lab, **more: Any) -> dict[str, Any]:
    with reading(lab.engine) as connection:
        return storage.usage(connection, lab.settings, **more)


def cleaned(lab: Lab, what: Cleaning, **more: Any) -> Freed:
    return clean(lab.engine, lab.settings, what, **more)


def folder(lab: Lab, run_id: int) -> Path:
    return lab.settings.run_folder(run_id) / "checkpoints"


def files(lab: Lab, run_id: int) -> Mapping[str, int]:
    """The checkpoint files of a run and their sizes."""
    return {path.name: path.stat().st_size for path in sorted(folder(lab, run_id).glob("*"))}


def rows(lab: Lab, run_id: int) -> list[str]:
    with reading(lab.engine) as connection:
        return sorted(row.file for row in list_checkpoints(connection, run_id))


def is_there(lab: Lab, run_id: int) -> bool:
    with reading(lab.engine) as connection:
        return bool(connection.execute(select(runs.c.id).filter_by(id=run_id)).all())


def archived(lab: Lab, run_id: int) -> int:
    with writing(lab.engine) as connection:
        labels.archive(connection, run_id)
    return run_id


def continued(lab: Lab, run_id: int) -> int:
    with writing(lab.engine) as connection:
        return offspring.continue_run(connection, lab.settings, run_id, 1)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# -- what it takes --------------------------------------------------------------------------


def test_what_everything_takes_is_what_lies_there(lab: Lab) -> None:
    run_id = lab.train(looking())
    home = lab.settings.folder
    for name, size in (("datasets/digits/x", 700), ("backups/a.db", 800), ("ballast", 900)):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(bytes(size))
    with writing(lab.engine) as connection:
        row = {"run_id": run_id, "number": 0, "attempt": 1, "written_at": 0.0, "text": "x" * 600}
        connection.execute(log_chunks.insert().values(**row))
        payloads = select(layer_outputs.c.payload).filter_by(run_id=run_id)
        outputs = [len(payload) for payload in connection.execute(payloads).scalars()]
    assert outputs
    found = usage(lab)
    checkpoints = files(lab, run_id)

    def taken(count: int, size: int) -> dict[str, Any]:
        return {"count": count, "bytes": size, "is_complete": True}

    assert found["folder"] == str(home)
    assert found["database_bytes"] == sum(path.stat().st_size for path in home.glob("tricklab.db*"))
    assert found["ballast_bytes"] == 900
    assert found["checkpoints"] == taken(1, sum(checkpoints.values()))
    assert found["layer_outputs"] == taken(len(outputs), sum(outputs))
    assert found["logs"] == taken(1, 600)
    assert found["datasets"] == taken(1, 700)
    assert found["backups"] == taken(1, 800)
    assert found["left_overs"] == found["archived"] == taken(0, 0)
    assert found["free_bytes"] > 0
    assert found["trouble"] == ""


def test_an_empty_lab_takes_its_database(lab: Lab) -> None:
    found = usage(lab)
    assert found["database_bytes"] > 0
    assert found["checkpoints"]["bytes"] == found["layer_outputs"]["bytes"] == 0
    assert found["largest"] == []


def test_a_disk_that_is_nearly_full_is_said(lab: Lab) -> None:
    free = usage(lab)["free_bytes"]
    short = lab.settings.model_copy(update={"reserve_megabytes": free // 10**6 + 10**4})
    found = usage(replace(lab, settings=short))
    assert found["trouble"].startswith("the disk is nearly full")


def test_a_checkpoint_that_two_runs_share_is_counted_once(lab: Lab) -> None:
    run_id = lab.train(tiny_config())
    alone = usage(lab)["checkpoints"]
    child = continued(lab, run_id)
    assert rows(lab, child) == rows(lab, run_id)
    assert usage(lab)["checkpoints"] == alone
    # a file system without links makes a copy, which takes its own room
    (copy,) = folder(lab, child).iterdir()
    content = copy.read_bytes()
    copy.unlink()
    copy.write_bytes(content)
    assert usage(lab)["checkpoints"] == {**alone, "count": 2, "bytes": 2 * alone["bytes"]}


def test_the_runs_that_take_most_are_named_the_largest_first(lab: Lab) -> None:
    small = lab.train(tiny_config())
    large = lab.train(tiny_config(model={"width": 16}), name="large [one]")
    looked = archived(lab, lab.train(looking(model={"width": 4})))
    found = usage(lab)["largest"]
    assert [run["id"] for run in found] == [large, looked, small]
    assert found[0]["name"] == "large [one]"
    assert found[0]["checkpoint_bytes"] == sum(files(lab, large).values()) == found[0]["bytes"]
    assert found[1]["layer_output_bytes"] > 0
    assert found[1]["bytes"] == found[1]["checkpoint_bytes"] + found[1]["layer_output_bytes"]
    assert (found[1]["archived_at"] is None, found[2]["archived_at"]) == (False, None)
    assert [run["id"] for run in usage(lab, largest=1)["largest"]] == [large]
    size = found[1]["bytes"]
    assert usage(lab)["archived"] == {"count": 1, "bytes": size, "is_complete": True}


def test_counting_files_stops_somewhere(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}").write_bytes(b"xx")
    assert storage.files_in([tmp_path], most=5) == storage.Taken(5, 10)
    assert storage.files_in([tmp_path], most=4) == storage.Taken(4, 8, is_complete=False)


# -- old checkpoints ------------------------------------------------------------------------


def test_of_a_run_that_is_over_the_newest_checkpoint_stays(lab: Lab) -> None:
    run_id = lab.train(saving_often())
    before = files(lab, run_id)
    *old, newest = before
    assert len(old) == 2
    freed = cleaned(lab, OLD)
    assert (freed.runs, freed.files) == (1, 2)
    assert freed.bytes == sum(before[name] for name in old)
    assert rows(lab, run_id) == list(files(lab, run_id)) == [newest]
    assert lab.events(run_id)[-1][0] == "cleaned up"
    assert lab.run(continued(lab, run_id)).status == Status.QUEUED
    assert cleaned(lab, OLD).files == 0


def test_where_the_newest_checkpoint_is_damaged_the_one_before_stays(lab: Lab) -> None:
    run_id = lab.train(saving_often())
    _, before, newest = files(lab, run_id)
    damage(folder(lab, run_id) / newest)
    assert cleaned(lab, OLD).files == 2
    assert rows(lab, run_id) == list(files(lab, run_id)) == [before]


def test_where_no_checkpoint_is_whole_none_is_deleted(lab: Lab) -> None:
    run_id = lab.train(saving_often())
    before = files(lab, run_id)
    for name in before:
        damage(folder(lab, run_id) / name)
    assert cleaned(lab, OLD).files == 0
    assert files(lab, run_id) == before
    assert rows(lab, run_id) == list(before)


@pytest.mark.parametrize("status", [Status.PAUSED, Status.QUEUED, Status.RUNNING])
def test_a_run_that_is_not_over_keeps_every_checkpoint(lab: Lab, status: Status) -> None:
    run_id = lab.add(saving_often())
    lab.train_until(run_id, 7)
    if status != Status.PAUSED:
        with writing(lab.engine) as connection:
            queue.resume(connection, run_id)
    if status == Status.RUNNING:
        lab.claim(run_id)
    before = files(lab, run_id)
    assert (lab.run(run_id).status, len(before)) == (status, 3)
    for what in Cleaning:
        assert cleaned(lab, what, dry_run=True).files == cleaned(lab, what).files == 0
    assert files(lab, run_id) == before
    assert rows(lab, run_id) == list(before)


def test_a_run_that_is_retried_while_others_are_cleaned_keeps_its_checkpoints(lab: Lab) -> None:
    run_id = lab.add(saving_often())
    lab.train_until(run_id, 7)
    before = files(lab, run_id)
    sweep = Sweep(lab.engine, lab.settings, dry_run=False, seconds=60)
    sweep.forget(run_id, folder(lab, run_id), list(before))
    assert files(lab, run_id) == before
    assert rows(lab, run_id) == list(before)


def test_a_shared_checkpoint_gives_nothing_back_while_the_other_run_has_it(lab: Lab) -> None:
    parent = lab.train(saving_often())
    child = continued(lab, parent)
    lab.train_until(child, 10)
    with writing(lab.engine) as connection:
        queue.ask(connection, child, Asked.CANCEL)
    of_parent, of_child = files(lab, parent), files(lab, child)
    first, second, shared = of_parent
    same, middle, newest = of_child
    assert same == shared
    would = cleaned(lab, OLD, dry_run=True)
    freed = cleaned(lab, OLD)
    # the shared one is the parent's newest: only its second name goes
    assert freed.files == 4
    assert freed.bytes == of_parent[first] + of_parent[second] + of_child[middle]
    assert would == replace(freed, dry_run=True)
    assert list(files(lab, parent)) == [shared]
    assert list(files(lab, child)) == [newest]
    assert continued(lab, parent)


# -- archived runs --------------------------------------------------------------------------


def test_archived_runs_go_with_everything_and_the_others_stay(lab: Lab) -> None:
    gone, stays = archived(lab, lab.train(looking())), lab.train(looking())
    own = select(func.sum(func.length(layer_outputs.c.payload))).filter_by(run_id=gone)
    with reading(lab.engine) as connection:
        recorded = connection.execute(own).scalar_one()
    size = sum(files(lab, gone).values())
    freed = cleaned(lab, ARCHIVED)
    assert freed == Freed(ARCHIVED, False, 1, 1, size, recorded, True)
    assert not is_there(lab, gone)
    assert not lab.settings.run_folder(gone).exists()
    assert is_there(lab, stays)
    assert rows(lab, stays) == list(files(lab, stays))
    with reading(lab.engine) as connection:
        assert connection.execute(own).scalar_one() is None


def test_an_archived_run_that_was_taken_back_meanwhile_stays(lab: Lab) -> None:
    run_id = lab.add()
    with writing(lab.engine) as connection:
        queue.ask(connection, run_id, Asked.CANCEL)
    archived(lab, run_id)
    sweep = Sweep(lab.engine, lab.settings, dry_run=False, seconds=60)
    with writing(lab.engine) as connection:
        queue.retry(connection, run_id)
    sweep.remove(run_id)
    assert is_there(lab, run_id)
    with writing(lab.engine) as connection:
        queue.ask(connection, run_id, Asked.CANCEL)
    sweep.remove(run_id)
    assert is_there(lab, run_id), "over, but not archived any more"
    archived(lab, run_id)
    sweep.remove(run_id)
    assert not is_there(lab, run_id)


def test_a_file_of_two_archived_runs_gives_its_room_back_once(lab: Lab) -> None:
    parent = lab.train(tiny_config())
    child = continued(lab, parent)
    with writing(lab.engine) as connection:
        queue.ask(connection, child, Asked.CANCEL)
    (size,) = files(lab, parent).values()
    archived(lab, parent)
    assert cleaned(lab, ARCHIVED, dry_run=True).bytes == 0
    archived(lab, child)
    would = cleaned(lab, ARCHIVED, dry_run=True)
    freed = cleaned(lab, ARCHIVED)
    assert (freed.files, freed.bytes) == (2, size)
    assert would == replace(freed, dry_run=True)


# -- left-over files ------------------------------------------------------------------------


def left_over(lab: Lab, name: str, size: int = 10) -> Path:
    path = lab.settings.folder / "runs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def test_files_of_runs_that_are_gone_are_left_over(lab: Lab) -> None:
    known = lab.train(tiny_config())
    before = files(lab, known)
    left_over(lab, "77/checkpoints/step-000000004-1.safetensors", 100)
    left_over(lab, "77/.hidden/deep/other", 20)
    left_over(lab, "78/something", 3)
    assert usage(lab)["left_overs"] == {"count": 3, "bytes": 123, "is_complete": True}
    freed = cleaned(lab, LEFT_OVER)
    assert freed == Freed(LEFT_OVER, False, 2, 3, 123, 0, True)
    assert [path.name for path in (lab.settings.folder / "runs").iterdir()] == [str(known)]
    assert files(lab, known) == before
    assert usage(lab)["left_overs"]["count"] == 0


def test_checkpoints_that_no_row_points_to_are_left_over_of_a_run_that_is_over(lab: Lab) -> None:
    over, paused = lab.train(tiny_config()), lab.add(saving_often())
    lab.train_until(paused, 2)
    before = files(lab, over)
    for run_id in (over, paused):
        left_over(lab, f"{run_id}/checkpoints/.step-000000003-1.safetensors", 7)
        left_over(lab, f"{run_id}/checkpoints/step-000000003-9.safetensors", 8)
        left_over(lab, f"{run_id}/checkpoints/notes.txt", 9)
    untouched = files(lab, paused)
    assert usage(lab)["left_overs"] == {"count": 2, "bytes": 15, "is_complete": True}
    freed = cleaned(lab, LEFT_OVER)
    assert (freed.runs, freed.files, freed.bytes) == (1, 2, 15)
    assert files(lab, over) == {**before, "notes.txt": 9}
    assert files(lab, paused) == untouched


def test_what_a_link_leads_to_is_not_deleted(lab: Lab, tmp_path: Path) -> None:
    lab.add()
    elsewhere = tmp_path / "precious"
    elsewhere.mkdir()
    (elsewhere / "data").write_bytes(b"x")
    stray = left_over(lab, "77/x").parent
    (stray / "folder").symlink_to(elsewhere)
    (stray / "file").symlink_to(elsewhere / "data")
    (lab.settings.folder / "runs" / "78").symlink_to(elsewhere)
    assert cleaned(lab, LEFT_OVER).files == 3
    assert not stray.exists()
    assert (elsewhere / "data").read_bytes() == b"x"


def test_a_database_that_knows_no_run_is_taken_for_the_wrong_one(lab: Lab) -> None:
    path = left_over(lab, "1/checkpoints/step-000000004-1.safetensors")
    with pytest.raises(Refused, match="it may be the wrong database"):
        cleaned(lab, LEFT_OVER)
    assert path.exists()


def test_a_file_that_cannot_be_deleted_is_named(lab: Lab) -> None:
    run_id = lab.train(tiny_config())
    odd = folder(lab, run_id) / "step-000000009-1.safetensors"
    odd.mkdir()
    with pytest.raises(Refused, match=rf"{odd} cannot be deleted \(Is a directory\)"):
        cleaned(lab, LEFT_OVER)


# -- all of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("what", Cleaning)
def test_a_dry_run_counts_the_same_and_deletes_nothing(lab: Lab, what: Cleaning) -> None:
    several, put_away = lab.train(saving_often()), archived(lab, lab.train(looking()))
    stray = left_over(lab, "77/checkpoints/step-000000004-1.safetensors")
    before = [files(lab, run_id) for run_id in (several, put_away)]
    would = cleaned(lab, what, dry_run=True)
    assert [files(lab, run_id) for run_id in (several, put_away)] == before
    assert [rows(lab, run_id) for run_id in (several, put_away)] == [list(b) for b in before]
    assert stray.exists()
    did = cleaned(lab, what)
    assert did.files > 0
    assert would == replace(did, dry_run=True)


@pytest.mark.parametrize("what", Cleaning)
def test_what_there_was_no_time_for_is_done_the_next_time(lab: Lab, what: Cleaning) -> None:
    lab.train(saving_often())
    archived(lab, lab.train(tiny_config()))
    left_over(lab, "77/x")
    first = cleaned(lab, what, seconds=-1)
    assert (first.is_complete, first.files) == (False, 0)
    second = cleaned(lab, what, seconds=60)
    assert second.is_complete
    assert second.files > 0


def test_cleaning_a_lab_without_a_folder_of_runs_frees_nothing(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    assert not (Settings(folder=tmp_path).folder / "runs").exists()
    for what in Cleaning:
        assert cleaned(lab, what) == Freed(what, False, 0, 0, 0, 0, True)
