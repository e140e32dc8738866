"""Proofs: what tricks change in a step, and whether a training can be repeated."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lab import tiny_config
from server import ROOT

from trainer.batch import Batch
from trainer.config import RunConfig
from trainer.inquiries import Bench, Equivalence
from trainer.losses import CrossEntropy
from trainer.part import Refused, name_of
from trainer.proofs.equivalence import Ground, Proof, prove
from trainer.proofs.reproducibility import advice, first_difference
from trainer.proofs.trace import Mark, trace
from trainer.setup import Setup, StepOutcome
from trainer.streams import start_generators_anew
from trainer.tasks import DataFolders
from trainer.tricks import TRICKS, Exactness, GradientAccumulation, Seed, Trick

CPU = torch.device("cpu")
NOWHERE = DataFolders(Path("nowhere"), download=False)
WEIGHTS = (0.1, 5.0, 1.0, 0.2, 1.0, 3.0, 1.0, 0.5, 2.0, 1.0)
WEIGHTED = CrossEntropy(weighting="given", weights=WEIGHTS)


def mlp(**more: Any) -> RunConfig:
    return tiny_config(model={"name": "mlp", "hidden": [16]}, loader={"batch_size": 16}, **more)


def proof_of(config: RunConfig, trick: Trick) -> Proof:
    return prove(config, trick, Ground(config.task.load(NOWHERE), CPU))


# -- equivalence ----------------------------------------------------------------------------


@pytest.mark.parametrize("trick", TRICKS, ids=name_of)
def test_what_a_trick_claims_of_a_step_holds(trick: type[Trick]) -> None:
    inquiry = Equivalence(config=tiny_config(loader={"batch_size": 16}), trick=name_of(trick))
    (proof,) = inquiry.answer(Bench(CPU, NOWHERE, lambda *told: None))["proofs"]
    assert json.dumps(proof)
    assert proof["exactness"] == trick.exactness
    if proof["error"] is None:
        # nothing to change here: it says why
        assert len(proof["note"]) > 30
    else:
        assert proof["holds"] is (None if trick.exactness is Exactness.DIFFERENT else True)


def test_accumulation_is_exact_without_batch_norm_in_every_window() -> None:
    proof = proof_of(mlp(loss=WEIGHTED.model_dump()), GradientAccumulation(steps=4))
    assert proof.holds
    assert proof.note == ""
    windows = {one.sizes for one in proof.comparisons}
    assert windows == {(16, 16, 16, 16), (16, 16, 9)}
    exact = [one for one in proof.comparisons if one.precision == "float64"]
    assert all(one.gradient < 1e-14 and one.update < 1e-13 for one in exact)
    assert set(proof.judged.layers) == {"1.weight", "1.bias", "3.weight", "3.bias"}


def test_what_batch_norm_does_to_accumulation_is_told_apart() -> None:
    proof = proof_of(tiny_config(loader={"batch_size": 16}), GradientAccumulation(steps=4))
    assert proof.holds
    assert "batch norm" in proof.note
    as_trained = [one for one in proof.comparisons if not one.in_eval]
    assert min(one.gradient for one in as_trained) > 0.05
    assert max(one.gradient for one in proof.comparisons if one.in_eval) < 1e-5
    # with momentum m', the running statistics are those of the large batch all the same
    even = next(one for one in as_trained if len(set(one.sizes)) == 1)
    assert even.statistics < 0.02


def mean_of_means(setup: Setup, window: Sequence[Batch]) -> StepOutcome:
    """What most write."""
    for batch in map(setup.ready, window):
        loss = setup.criterion.value(setup.forward(setup, batch), batch.targets)
        (loss / len(window)).backward()
    return setup.outcome(loss, (), ())


@pytest.mark.parametrize("loss", [CrossEntropy(), WEIGHTED], ids=["plain", "weights"])
def test_a_proof_finds_a_wrong_divisor(monkeypatch: pytest.MonkeyPatch, loss: CrossEntropy) -> None:
    monkeypatch.setattr("trainer.tricks.gradient_accumulation.accumulate", mean_of_means)
    proof = proof_of(mlp(loss=loss.model_dump()), GradientAccumulation(steps=4))
    assert proof.holds is False
    assert "where at most 1e-12 is claimed" in proof.note
    assert proof.judged.gradient > 0.01


def test_tricks_that_cannot_be_proved_are_told_with_the_reason() -> None:
    inquiry = Equivalence(config=mlp(), trick="all")
    answer = inquiry.answer(Bench(CPU, NOWHERE, lambda *told: None))
    found = {proof["trick"]: proof for proof in answer["proofs"]}
    assert set(found) == {name_of(trick) for trick in TRICKS}
    refused = found["cudnn_benchmark"]
    assert refused["error"] is None
    assert "no convolution" in refused["note"]


def test_a_trick_that_clashes_with_the_configs_is_refused_with_both_names() -> None:
    config = tiny_config(tricks=[{"name": "deterministic"}])
    inquiry = Equivalence(config=config, trick="cudnn_benchmark")
    (proof,) = inquiry.answer(Bench(CPU, NOWHERE, lambda *told: None))["proofs"]
    assert "deterministic" in proof["note"]
    assert "cudnn_benchmark" in proof["note"]


@pytest.mark.parametrize(("trick", "said"), [("", "has no trick"), ("sorcery", "there are seed")])
def test_a_proof_of_nothing_is_refused(trick: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        Equivalence(config=mlp(), trick=trick).answer(Bench(CPU, NOWHERE, lambda *told: None))


# -- reproducibility ------------------------------------------------------------------------

DROPPED: dict[str, Any] = {"name": "mlp", "hidden": [16], "dropout": 0.3}


def traced(config: RunConfig, steps: int = 3) -> list[list[Mark]]:
    # as a fresh process would
    start_generators_anew()
    return trace(config, NOWHERE, "cpu", steps)


def test_a_seeded_training_is_the_same_to_the_last_bit() -> None:
    config = tiny_config(model=DROPPED, tricks=[Seed().model_dump()])
    first, second = traced(config), traced(config)
    assert first_difference(first, second) is None
    assert len(first) == 4
    phases = [mark.phase for mark in first[2]]
    assert list(dict.fromkeys(phases)) == ["data", "forward", "gradient", "weights", "loss"]


def test_dropout_that_nobody_seeded_is_named() -> None:
    config = tiny_config(model=DROPPED)
    difference = first_difference(traced(config), traced(config))
    assert difference is not None
    assert difference.sentence == "the output of layer 3 (Dropout) differs at step 1"
    assert 0 < difference.relative < 1
    assert "seed trick" in advice(config, difference)


def test_a_gradient_that_is_disturbed_later_is_found_at_its_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Disturbed(Seed):
        """A seeded training in which the second step's gradient of one weight is off by a bit."""

        name: Literal["seed"] = "seed"

        def apply(self, setup: Setup) -> None:
            seen = []

            def disturb(setup: Setup) -> None:
                seen.append(setup)
                weight = setup.model.get_parameter("3.weight")
                if len(seen) == 2:
                    weight.grad.view(torch.int32)[0, 0] += 1  # type: ignore[union-attr]

            setup.change_gradients.append(disturb)

    config = mlp(tricks=[Seed().model_dump()])
    plain = traced(config)
    monkeypatch.setattr(Seed, "apply", Disturbed.apply)
    difference = first_difference(plain, traced(config))
    assert difference is not None
    assert (difference.step, difference.phase, difference.name) == (2, "gradient", "3.weight")
    assert difference.relative < 1e-6


def test_a_trace_that_ends_earlier_differs_where_it_ends() -> None:
    one = Mark("forward", "a", "00", 1.0)
    difference = first_difference([[one, one]], [[one]])
    assert difference is not None
    assert math.isnan(difference.relative)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def config_file(folder: Path, **config: Any) -> str:
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    return str(file)


def test_two_trainings_in_processes_of_their_own_are_compared(tmp_path: Path) -> None:
    config = config_file(tmp_path, model=DROPPED, loader={"batch_size": 128})
    done = command("reproduce", config, "--steps", "3", "--json")
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    assert answer["identical"] is False
    assert answer["difference"]["name"] == "3 (Dropout)"
    assert answer["conditions"]["torch"] == torch.__version__


def test_prove_all_prints_a_line_for_each_trick() -> None:
    done = command("prove", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    for trick in TRICKS:
        (line,) = [line for line in done.stdout.splitlines() if f" {name_of(trick)} " in line]
        assert f" {trick.exactness.value} " in line


def test_prove_tells_every_layer_and_the_verdict() -> None:
    done = command("prove", "gradient_accumulation", "digits-mlp")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5.weight" in done.stdout
    assert "64+64+33" in done.stdout
    assert "at most 1e-12): that holds" in done.stdout
