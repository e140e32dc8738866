"""The page of the settings: storage, clean-up, backups, and the settings in effect."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, quick_config, tiny_config
from server import client_of

from app import labels
from app.backup import backups_folder
from app.db import newest_revision
from app.pages.settings import in_effect
from app.pages.templates import size
from app.settings import Settings
from app.storage import usage
from trainer.store.database import reading, writing

BROWSER = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.at(tmp_path)


@pytest.fixture
def client(lab: Lab) -> Iterator[Any]:
    with client_of(lab.settings) as found:
        found.headers.update(BROWSER)
        yield found


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def checkpoints_on_disk(lab: Lab) -> list[str]:
    return sorted(path.name for path in lab.settings.folder.glob("runs/*/checkpoints/*"))


# -- storage --------------------------------------------------------------------------------


def test_an_empty_lab_has_a_page_that_says_so(client: Any) -> None:
    said = text_of(client.get("/settings").text)
    assert "No run has recorded anything" in said
    assert "No backup yet" in said


def test_the_table_tells_what_takes_how_much(client: Any, lab: Lab) -> None:
    lab.train(quick_config(), name="baseline")
    with reading(lab.engine) as connection:
        taken = usage(connection, lab.settings)
    said = text_of(client.get("/settings").text)
    assert f"Checkpoints {size(taken['checkpoints']['bytes'])} 1 file" in said
    assert f"{size(taken['layer_outputs']['bytes'])} layer outputs" in said
    assert re.search(rf"baseline ✓ finished .*{size(taken['largest'][0]['bytes'])}", said)


def test_the_pieces_of_the_bar_are_the_whole_bar(client: Any, lab: Lab) -> None:
    lab.train(tiny_config())
    page = client.get("/settings").text
    pieces = re.findall(r'<rect class="part-\d" x="([\d.]+)" y="0" width="([\d.]+)"', page)
    assert sum(float(width) for _, width in pieces) == pytest.approx(100, abs=0.1)
    end = 0.0
    for start, width in pieces:
        assert float(start) == pytest.approx(end, abs=0.01)
        end = float(start) + float(width)


def test_a_disk_that_is_nearly_full_is_told(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path, reserve_megabytes=10**6)
    with client_of(lab.settings) as client:
        assert "No run is started: the disk is nearly full" in client.get("/settings").text


# -- clean-up -------------------------------------------------------------------------------


def test_old_checkpoints_are_shown_before_they_go(client: Any, lab: Lab) -> None:
    run_id = lab.add(tiny_config(budget={"epochs": 3}))
    lab.train_until(run_id, 5)
    client.post(f"/runs/{run_id}/resume")
    lab.train_until(run_id, 9)
    client.post(f"/runs/{run_id}/cancel")
    before = checkpoints_on_disk(lab)
    assert len(before) == 2

    asked = client.post("/settings/clean", data={"what": "old-checkpoints"})
    assert "Delete 1 file<" in asked.text
    assert checkpoints_on_disk(lab) == before

    sent = {"what": "old-checkpoints", "confirmed": "yes"}
    done = client.post("/settings/clean", data=sent)
    assert done.status_code == 303
    assert checkpoints_on_disk(lab) == before[1:]
    freed = re.search(r"freed=(\d+)", done.headers["location"])
    assert freed
    assert size(int(freed[1])) in client.get(done.headers["location"]).text


def test_archived_runs_are_named_before_they_go(client: Any, lab: Lab) -> None:
    kept, away = lab.train(tiny_config(), name="kept"), lab.train(tiny_config(), name="away")
    with writing(lab.engine) as connection:
        labels.archive(connection, away)
    asked = client.post("/settings/clean", data={"what": "archived-runs"}).text
    assert "away" in asked
    assert "kept" not in asked
    client.post("/settings/clean", data={"what": "archived-runs", "confirmed": "yes"})
    assert client.get(f"/runs/{away}").status_code == 404
    assert client.get(f"/runs/{kept}").status_code == 200


def test_a_clean_up_with_nothing_to_do_offers_no_button(client: Any) -> None:
    asked = client.post("/settings/clean", data={"what": "left-over-files"}).text
    assert "nothing of that kind" in asked
    assert '<button class="danger"' not in asked


def test_an_unknown_clean_up_is_refused(client: Any) -> None:
    sent = {"what": "everything", "confirmed": "yes"}
    assert client.post("/settings/clean", data=sent).status_code == 422


# -- backups --------------------------------------------------------------------------------


def test_a_backup_is_made_listed_and_can_be_restored_as_told(client: Any, lab: Lab) -> None:
    lab.add(tiny_config())
    done = client.post("/settings/backup")
    assert done.status_code == 303
    made = list(backups_folder(lab.settings).glob("*.db"))
    assert len(made) == 1
    page = client.get(done.headers["location"]).text
    assert f"Backed up and checked: <code>{made[0].name}</code>" in page
    assert f"tricklab restore {made[0].absolute()}" in page
    assert "made by hand" in page


def test_the_address_cannot_make_the_page_say_what_one_likes(client: Any) -> None:
    assert client.get("/settings?backup=call 0800 now").status_code == 422


# -- in effect ------------------------------------------------------------------------------


def test_every_setting_is_shown_with_where_to_change_it(client: Any, lab: Lab) -> None:
    page = client.get("/settings").text
    for name in Settings.model_fields:
        assert f"<code>TRICKLAB_{name.upper()}</code>" in page
    assert f"schema {newest_revision()}" in page
    assert str(lab.settings.folder.absolute()) in page


def test_the_password_of_a_database_is_never_shown() -> None:
    url = "postgresql+psycopg://lab:hunter2@db.example/lab"
    values = [one.value for one in in_effect(Settings(database=url))]
    assert "hunter2" not in "".join(values)
    assert any("db.example" in value for value in values)
