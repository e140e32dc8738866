"""The pages of tricks and the lab: made from the classes, with what this lab knows of them."""

import html
import itertools
import re
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import pytest
from lab import Lab, tiny_config
from server import BROWSER, client_of

from app.inquiries import desk
from app.inquiries.desk import State
from app.pages.preflight import notes, slices
from trainer.check import check
from trainer.config import RunConfig
from trainer.inquiries import Reproducibility
from trainer.lessons import LESSONS
from trainer.part import name_of
from trainer.store.database import reading, writing
from trainer.tricks import TRICKS, Claim, Exactness, Stage, Trick

SEED = {"name": "seed"}
SHIFT = {"name": "random_shift"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    for number, tricks in enumerate([[], [SEED], [SEED, SHIFT], [SEED]]):
        lab.add(tiny_config(tricks=tricks), name=f"run-{number}")
    return lab


@pytest.fixture(scope="module")
def client(lab: Lab) -> Iterator[Any]:
    with client_of(lab.settings) as found:
        found.headers.update(BROWSER)
        yield found


def text_of(page: str) -> str:
    """What a page says, without its tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_the_catalogue_counts_the_runs_that_have_each_trick(client: Any) -> None:
    page = text_of(client.get("/tricks").text)
    for trick in TRICKS:
        assert trick.title in page
        assert trick.claim.promise in page
    assert page.count("not used here yet") == len(TRICKS) - 2
    assert "in 3 runs here" in page
    assert "in 1 run here" in page


@pytest.mark.parametrize("trick", TRICKS, ids=name_of)
def test_the_page_of_a_trick_says_all_that_its_class_says(client: Any, trick: type[Trick]) -> None:
    raw = client.get(f"/tricks/{name_of(trick)}").text
    page = text_of(raw).replace("` ", "").replace("`", "")
    for sentence in (*trick.helps, *trick.traps, trick.cost, trick.claim.source, *trick.sources):
        assert sentence.replace("`", "") in page
    for field, facts in trick.model_json_schema()["properties"].items():
        if field != "name":
            assert facts["description"] in page
    for other, why in trick.clashes.items():
        assert why in page
        assert f'href="/tricks/{other}"' in raw
    assert f'href="/runs/new?trick={name_of(trick)}"' in raw
    assert 'data-lesson="' in raw


def test_a_clash_is_told_on_both_pages(client: Any) -> None:
    assert "the search times candidates" in client.get("/tricks/cudnn_benchmark").text
    assert "the search times candidates" in client.get("/tricks/deterministic").text


def test_the_runs_that_have_a_trick_are_listed_newest_first(client: Any) -> None:
    page = client.get("/tricks/seed").text
    assert re.findall(r'href="/runs/(\d+)/evidence"', page) == ["4", "3", "2"]
    assert 'href="/runs/3/evidence"' in client.get("/tricks/random_shift").text
    assert "None yet." in client.get("/tricks/freeze").text


def test_trying_a_trick_opens_the_form_with_it_on(client: Any) -> None:
    page = client.get("/runs/new?trick=random_shift").text
    assert re.search(r'id="tricks.random_shift.on" checked', page)
    assert not re.search(r'id="tricks.freeze.on" checked', page)


@pytest.mark.parametrize("address", ["/tricks/luck", "/runs/new?trick=luck"])
def test_a_trick_that_is_not_there_is_named_with_those_that_are(client: Any, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 404
    assert "there is no trick" in answer.text
    assert "gradient_accumulation" in answer.text


def test_a_proof_is_asked_on_a_recipe_that_the_trick_fits(client: Any, lab: Lab) -> None:
    for trick in TRICKS:
        asked = client.post(f"/tricks/{name_of(trick)}/prove").json()
        with reading(lab.engine) as connection:
            row = desk.find(connection, asked["number"])
        assert row.kind == "equivalence"
        assert row.request["trick"] == name_of(trick)
        config = RunConfig.model_validate(row.request["config"])
        assert not check(config)
        assert trick in map(type, config.tricks)


def test_a_new_trick_has_a_page_without_further_code(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Luck(Trick):
        """Hope for the best.

        It costs nothing.
        """

        title: ClassVar[str] = "Luck"
        stage: ClassVar[Stage] = Stage.OPTIMIZER
        exactness: ClassVar[Exactness] = Exactness.DIFFERENT
        claim: ClassVar[Claim] = Claim("luck", lower=False, source="folklore")
        name: Literal["luck"] = "luck"

    monkeypatch.setattr("app.catalogue.KINDS", {"trick": (*TRICKS, Luck)})
    page = text_of(client.get("/tricks/luck").text)
    assert "Hope for the best." in page
    assert "It costs nothing." in page
    assert "higher luck" in page
    assert "Prove it" in page


# -- lessons --------------------------------------------------------------------------------


def test_the_lab_leads_to_every_lesson(client: Any) -> None:
    page = client.get("/lab").text
    for lesson in LESSONS:
        assert f'href="/lab/lessons/{name_of(lesson)}"' in page


@pytest.mark.parametrize("lesson", LESSONS, ids=name_of)
def test_a_lesson_takes_its_values_from_the_address(client: Any, lesson: Any) -> None:
    page = client.get(f"/lab/lessons/{name_of(lesson)}").text
    for field in lesson.model_fields:
        assert field == "name" or f'name="{field}"' in page
    for trick in lesson.tricks:
        assert f'href="/tricks/{trick}"' in page
    assert lesson.title in html.unescape(page)


def test_values_out_of_range_stand_beside_their_field_and_ask_nothing(client: Any) -> None:
    page = client.get("/lab/lessons/accumulation?batches=99&batch_size=many").text
    assert "less than or equal to 16" in page
    answer = client.post("/lab/lessons/accumulation/ask", data={"batches": "99"}).json()
    assert "number" not in answer
    assert "less than or equal to 16" in answer["errors"]["batches"]


def test_a_lesson_that_is_not_there_is_named_with_those_that_are(client: Any) -> None:
    answer = client.get("/lab/lessons/juggling")
    assert answer.status_code == 404
    assert "accumulation" in answer.text


def test_a_lesson_is_put_to_the_worker_and_not_answered_by_the_server(
    client: Any, lab: Lab
) -> None:
    number = client.post("/lab/lessons/running_mean/ask", data={"batches": "4"}).json()["number"]
    with reading(lab.engine) as connection:
        row = desk.find(connection, number)
    assert (row.kind, row.status) == ("running_mean", State.QUEUED)
    assert row.request["batches"] == 4
    assert "Waits for its turn" in client.get(f"/inquiries/{number}").json()["html"]


def test_lessons_never_push_out_the_evidence_of_a_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "KEPT", 2)
    lesson = LESSONS[0]()
    with writing(lab.engine) as connection:
        proof = desk.add(connection, Reproducibility(), run_id=1)
        desk.cancel(connection, proof)
        played = [desk.add(connection, lesson) for _ in range(5)]
        for number in played:
            desk.cancel(connection, number)
        desk.add(connection, lesson)
        assert desk.find(connection, proof).run_id == 1
        with pytest.raises(LookupError):
            desk.find(connection, played[0])


# -- what was checked ------------------------------------------------------------------------


def test_a_run_that_was_trained_twice_has_a_badge_with_its_conditions(
    client: Any, lab: Lab
) -> None:
    conditions = {"torch": "2.13.0", "device_title": "a CPU", "threads": 1}
    answer = {"identical": True, "sentence": "bit-identical over 20 steps"}
    with writing(lab.engine) as connection:
        number = desk.add(connection, Reproducibility(), run_id=2)
        errand = desk.claim(connection, lab.worker_id, alone=False)
        while errand is not None and errand.inquiry_id != number:
            errand = desk.claim(connection, lab.worker_id, alone=False)
        assert errand is not None
        desk.conclude(connection, errand, {**answer, "conditions": conditions})
    table = client.get("/runs").text
    assert table.count(">repeatable</a>") == 1
    assert "bit-identical over 20 steps; torch 2.13.0, a CPU, 1 threads" in table
    assert ">bit-identical</a>" in client.get("/runs/2").text


PREFLIGHT = {
    "ok": True,
    "device": "cpu",
    "step_seconds": 0.02,
    "samples_per_second": 3200.4,
    "seconds_by_activity": {"data": 0.005, "forward": 0.004, "backward": 0.01, "optimizer": 0.001},
    "parameters": 1234,
    "peak_memory_bytes": 5e8,
    "epoch_seconds": 2.0,
    "evaluation_seconds": 1.0,
    "run_seconds": 60.0,
}


def test_what_a_preflight_found_is_told_beside_the_fields_it_concerns() -> None:
    found = notes(PREFLIGHT)
    assert found["loader.batch_size"] == "20 ms a step, 3 200 examples a second"
    assert found["loader.workers"] == "waiting for data is 25 % of a step, 5 ms"
    assert found["model.name"].startswith("forward and backward are 70 % of a step, 14 ms; 1 234")
    assert found["budget.epochs"] == "an epoch takes 3.0 s, training in all 1 min 0 s"


def test_the_parts_of_a_step_fill_its_bar_end_to_end() -> None:
    parts = slices(PREFLIGHT)
    assert [part.name for part in parts] == ["data", "forward", "backward", "optimizer"]
    assert parts[0].start == 0
    for before, after in itertools.pairwise(parts):
        assert after.start == pytest.approx(before.start + before.width)
    assert parts[-1].start + parts[-1].width == pytest.approx(100)
