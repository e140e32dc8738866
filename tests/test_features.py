"""Features: a finished run's network up to a layer, computed by a worker, asked over the API."""

import base64
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab import Lab, quick_config
from server import API, client_of, refusal, serving, wait_for
from sqlalchemy import update
from torch import nn

from app.inquiries import desk
from app.inquiries.answering import answer_claimed
from app.inquiries.desk import State
from app.models import workers
from app.settings import Settings
from app.sources import data_folders
from trainer.build import build_setup
from trainer.config import RunConfig
from trainer.inquiries import Features
from trainer.inquiries.features import up_to
from trainer.inquiry import Bench
from trainer.part import Refused
from trainer.probe import Place
from trainer.sources import trained_by
from trainer.store.database import reading, writing

ADDRESS = f"{API}/runs/1/features"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab.at(tmp_path_factory.mktemp("lab"))
    lab.train(quick_config(budget={"epochs": 1}), name="learned")
    lab.add(name="waits")
    return lab


@pytest.fixture
def bench(lab: Lab) -> Bench:
    return Bench(torch.device("cpu"), data_folders(lab.settings), lambda *told: None)


@pytest.fixture
def client(lab: Lab) -> Iterator[Any]:
    with client_of(lab.settings) as found:
        yield found


def trained(lab: Lab) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """The run's network, its test inputs as the model takes them, and their targets."""
    found = trained_by(data_folders(lab.settings).sources, "1")  # type: ignore[arg-type]
    config = RunConfig.model_validate(found.config)
    data = config.task.load(lab.settings.data_folders)
    model = build_setup(config, data, torch.device("cpu")).model
    model.load_state_dict(dict(found.model))
    inputs = (data.test.inputs.float() - data.mean) / data.spread
    return model.eval(), inputs, data.test.targets


def values_of(answer: Any) -> torch.Tensor:
    numbers = np.frombuffer(base64.b64decode(answer["values"]), "<f4").reshape(answer["shape"])
    return torch.from_numpy(numbers.copy())


@pytest.mark.parametrize("layer", ["block1.conv", "block2", "block3.relu", "head"])
def test_features_are_those_of_a_forward_pass_to_the_bit(
    lab: Lab, bench: Bench, layer: str
) -> None:
    examples = (7, 0, 300)
    answer = Features(run="learned", layer=layer, examples=examples).answer(bench)
    model, inputs, targets = trained(lab)
    with torch.no_grad():
        wanted = inputs[list(examples)]
        for name, module in model.named_children():
            if layer.startswith(f"{name}."):
                for inner, part in module.named_children():
                    wanted = part(wanted)
                    if f"{name}.{inner}" == layer:
                        break
                break
            wanted = module(wanted)
            if name == layer:
                break
    assert torch.equal(values_of(answer), wanted)
    assert answer["targets"] == targets[list(examples)].tolist()
    assert answer["shape"] == list(wanted.shape)


def test_nothing_behind_the_layer_is_computed(lab: Lab) -> None:
    model, inputs, _ = trained(lab)
    calls: list[str] = []
    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(lambda *_, name=name: calls.append(name))  # type: ignore[misc]
    up_to(model, inputs[:2], Place("block1.norm", 0))
    assert calls == ["block1.conv", "block1.norm"]


def test_making_features_leaves_the_network_as_it_was(lab: Lab) -> None:
    model, inputs, _ = trained(lab)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    output = up_to(model, inputs[:2], Place("block2.relu", 0))
    assert model.training
    assert not output.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"layer": "block9"}, "no layer 'block9'; it has block1, block1.conv"),
        ({"layer": "head", "call": 1}, "used less often"),
        ({"layer": "head", "examples": (360,)}, "they go from 0 to 359"),
        ({"layer": "head", "run": "waits"}, "wait until it has finished"),
        ({"layer": "head", "run": "nobody"}, "there is no run nobody"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_way_out(
    bench: Bench, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        Features(**{"run": "1", **fields}).answer(bench)


def test_an_answer_larger_than_its_budget_is_refused_before_it_is_held(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.inquiries.features.MOST_BYTES", 16 * 8 * 8 * 4 * 3)
    assert Features(run="1", layer="block1", examples=(0, 1, 2)).answer(bench)["shape"][0] == 3
    with pytest.raises(Refused, match="at most 3 examples at a time"):
        Features(run="1", layer="block1", examples=(0, 1, 2, 3)).answer(bench)


# -- over the API ---------------------------------------------------------------------------


def test_without_an_answer_in_time_the_inquiry_is_given(client: Any, lab: Lab) -> None:
    response = client.post(f"{ADDRESS}?wait=0", json={"layer": "head", "examples": [1]})
    assert response.status_code == 202
    number = response.json()["id"]
    assert response.headers["location"] == f"{API}/inquiries/{number}"
    with reading(lab.engine) as connection:
        row = desk.find(connection, number)
    assert (row.status, row.run_id) == (State.QUEUED, 1)
    client.post(f"{API}/inquiries/{number}/cancel")


def test_what_can_be_told_at_once_asks_nobody(client: Any) -> None:
    before = len(client.get(f"{API}/inquiries").json()["inquiries"])
    problem = client.post(ADDRESS, json={"layer": "block9"})
    assert problem.status_code == 422
    assert "block1.conv" in problem.text
    assert "wait until it has finished" in refusal(
        client.post(f"{API}/runs/2/features", json={"layer": "head"}), 409
    )
    assert client.post(f"{API}/runs/99/features", json={"layer": "head"}).status_code == 404
    assert len(client.get(f"{API}/inquiries").json()["inquiries"]) == before


def is_asked(lab: Lab) -> bool:
    with reading(lab.engine) as connection:
        return desk.is_waiting(connection, lab.worker_id, alone=False)


def test_features_come_as_an_archive_of_numpy(client: Any, lab: Lab) -> None:
    answers: list[Any] = []
    body = {"layer": "block3", "examples": [3, 4]}
    asking = threading.Thread(
        target=lambda: answers.append(client.post(f"{ADDRESS}?format=npz&wait=60", json=body))
    )
    with writing(lab.engine) as connection:
        connection.execute(update(workers).values(seen_at=time.time()))
    asking.start()
    wait_for(lambda: is_asked(lab))
    with writing(lab.engine) as connection:
        errand = desk.claim(connection, lab.worker_id, alone=False)
    assert errand is not None
    answer_claimed(errand, lab.settings)
    asking.join()
    (response,) = answers
    assert response.status_code == 200, response.text
    archive = np.load(io.BytesIO(response.content))
    model, inputs, targets = trained(lab)
    with torch.no_grad():
        wanted = up_to(model, inputs[[3, 4]], Place("block3", 0))
    assert np.array_equal(archive["features"], wanted.numpy())
    assert archive["targets"].tolist() == targets[[3, 4]].tolist()
    assert archive["examples"].tolist() == [3, 4]


def test_a_worker_computes_them_and_not_the_server(lab: Lab, tmp_path: Path) -> None:
    settings = Settings(folder=lab.settings.folder)
    lab.forget_worker()
    with serving(settings) as served:
        wait_for(lambda: served.client.get(f"{API}/workers").json()["workers"])
        body = {"layer": "head", "examples": [0, 1]}
        answer = served.client.post(f"{ADDRESS}?wait=60", json=body).json()
    model, inputs, _ = trained(lab)
    with torch.no_grad():
        assert answer["values"] == pytest.approx(np.asarray(model(inputs[:2])))
    assert answer["shape"] == [2, 10]
