"""Proofs: what tricks change in a step, and whether a training can be repeated."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab import tiny_config
from server import ROOT
from torch import nn

from app.cli import main
from trainer.batch import Batch
from trainer.config import RunConfig
from trainer.inquiries import Bench, Cancelled, Equivalence
from trainer.losses import CrossEntropy
from trainer.models import Mlp
from trainer.part import Refused, name_of
from trainer.proofs.advice import advice
from trainer.proofs.equivalence import Proof, prove
from trainer.proofs.reproducibility import Difference, apart, first_difference, reproduce
from trainer.proofs.step import Ground
from trainer.proofs.trace import Mark, Place, Traced, digest, tensors_in, trace
from trainer.setup import Setup, StepOutcome
from trainer.streams import start_generators_anew
from trainer.tasks import DataFolders
from trainer.tricks import (
    TRICKS,
    Deterministic,
    Exactness,
    Freeze,
    GradientAccumulation,
    Seed,
    Trick,
)

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
    assert {one.sizes_without for one in proof.comparisons} == {(64,), (41,)}
    exact = [one for one in proof.comparisons if one.precision == "float64"]
    assert all(one.gradient < 1e-14 and one.update < 1e-13 for one in exact)
    assert set(proof.judged.layers) == {"1.weight", "1.bias", "3.weight", "3.bias"}


def test_what_batch_norm_does_to_accumulation_is_told_apart() -> None:
    proof = proof_of(tiny_config(loader={"batch_size": 16}), GradientAccumulation(steps=4))
    assert proof.holds
    assert proof.but_for == ("BatchNorm2d",)
    assert "BatchNorm2d looks at each batch by itself" in proof.note
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


SPOILED = {
    "a longer step": lambda setup: setup.parameter_rules.append(
        lambda name, weight: {"lr": 0.1} if name == "3.bias" else {}
    ),
    "a layer that stands still": lambda setup: setup.model.get_parameter("1.bias").requires_grad_(
        False
    ),
    "a gradient that is cut": lambda setup: setup.change_gradients.append(
        lambda setup: setup.model.get_parameter("3.bias").grad.mul_(0.9)
    ),
    "weights that move after the step": lambda setup: setup.after_step.append(
        lambda setup, step: setup.model.get_parameter("3.bias").data.add_(0.01)
    ),
    "inputs of another size": lambda setup: setup.change_batch.append(
        lambda batch: batch._replace(inputs=batch.inputs * 1.01)
    ),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_trick_that_claims_to_be_exact_and_changes_anything_is_caught(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Setup], None]
) -> None:
    assert proof_of(mlp(), Seed()).holds
    monkeypatch.setattr(Seed, "apply", lambda self, setup: spoil(setup))
    proof = proof_of(mlp(), Seed())
    assert proof.holds is False
    assert proof.note


def test_batch_norm_is_no_excuse_for_a_trick_that_leaves_the_batches_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def in_the_norms(self: Seed, setup: Setup) -> None:
        for module in setup.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.register_forward_hook(
                    lambda module, inputs, output: output * 1.01 if module.training else output
                )

    config = tiny_config(
        loader={"batch_size": 16}, tricks=[GradientAccumulation(steps=4).model_dump()]
    )
    proof = proof_of(config, Seed())
    assert proof.holds
    assert all(one.sizes == one.sizes_without for one in proof.comparisons)
    assert proof.running_statistics == ()
    monkeypatch.setattr(Seed, "apply", in_the_norms)
    assert proof_of(config, Seed()).holds is False


def test_a_learning_rate_rule_is_told_and_not_held_against_the_step() -> None:
    trick = GradientAccumulation(steps=4, learning_rate_rule="linear")
    proof = proof_of(mlp(), trick)
    assert proof.holds
    assert "the learning rate 4 times as high" in proof.note
    assert {one.learning_rate_factor for one in proof.comparisons} == {4.0}


def test_running_statistics_of_small_batches_follow_by_the_right_momentum() -> None:
    config = tiny_config(loader={"batch_size": 16}, model={"width": 8})
    proof = proof_of(config, GradientAccumulation(steps=4))
    untouched, divided, right = proof.running_statistics
    assert [one.rule for one in proof.running_statistics] == ["m", "m/k", "1-(1-m)^(1/k)"]
    assert [one.momentum for one in (untouched, divided)] == [0.1, 0.025]
    assert right.momentum == pytest.approx(0.026, abs=1e-4)
    assert right.mean < divided.mean / 2 < untouched.mean / 20
    assert right.variance < divided.variance < untouched.variance


def test_freezing_the_first_layer_leaves_the_gradients_of_the_others() -> None:
    proof = proof_of(mlp(), Freeze(layers="1"))
    assert proof.holds is None
    assert proof.judged.without_gradient == ("1.bias", "1.weight")
    assert "2 of 2 gradients the same to the bit; 2 get none" in proof.note


NEEDS_ANOTHER_RUN = {"starting_weights"}


def test_every_trick_finds_something_to_change_somewhere() -> None:
    inquiry = Equivalence(config=mlp(), trick="all")
    answer = inquiry.answer(Bench(CPU, NOWHERE, lambda *told: None))
    found = {proof["trick"]: proof for proof in answer["proofs"]}
    assert list(found) == [name_of(trick) for trick in TRICKS]
    assert {name for name, proof in found.items() if proof["judged"] is None} == NEEDS_ANOTHER_RUN
    assert found["seed"]["recipe"] == ""
    # the given config has no convolution
    assert found["cudnn_benchmark"]["recipe"] == "digits-cnn-cudnn-benchmark"


def test_a_trick_that_cannot_be_proved_says_why() -> None:
    inquiry = Equivalence(config=mlp(), trick="cudnn_benchmark")
    (proof,) = inquiry.answer(Bench(CPU, NOWHERE, lambda *told: None))["proofs"]
    assert proof["error"] is None
    assert "no convolution" in proof["note"]


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


def traced(config: RunConfig, steps: int = 3, wanted: Place | None = None) -> Traced:
    # as a fresh process would
    start_generators_anew()
    return trace(config, NOWHERE, "cpu", steps, wanted=wanted)


def difference_of(one: RunConfig, other: RunConfig | None = None) -> Difference:
    """The first difference of two trainings that are not the same."""
    found = first_difference(traced(one).steps, traced(other or one).steps)
    assert found is not None
    return found


def test_a_seeded_training_is_the_same_to_the_last_bit() -> None:
    config = tiny_config(model=DROPPED, tricks=[Seed().model_dump()])
    first, second = traced(config), traced(config)
    assert first_difference(first.steps, second.steps) is None
    assert first.losses == second.losses
    assert len(first.steps) == 4
    phases = [mark.phase for mark in first.steps[2]]
    assert list(dict.fromkeys(phases)) == ["data", "forward", "gradient", "weights", "loss"]
    assert len({mark.digest for mark in first.steps[2]}) > len(first.steps[2]) / 2


def test_dropout_that_nobody_seeded_is_named() -> None:
    config = tiny_config(model=DROPPED)
    difference = difference_of(config)
    assert difference.sentence == "the output of layer 3 (Dropout) differs at step 1"
    assert "seed trick" in advice(config, difference.mark, {})
    one, other = (traced(config, wanted=difference.place).caught for _ in range(2))
    size = apart(one, other)
    assert size is not None
    # of 16 outputs of each of 360 examples, three in ten are dropped
    assert size.values == 16 * 360
    assert 0.1 < size.differing / size.values < 0.42
    assert 0.1 < size.relative < 2


class Trembling(nn.Linear):
    """A layer whose outputs depend on the time."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = super().forward(inputs)
        outputs[0, 0] += 1e-7 * (time.perf_counter_ns() % 1000 + 1)
        return outputs


def test_a_layer_that_does_what_no_seed_governs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tricks = [Seed().model_dump(), Deterministic().model_dump()]
    config = tiny_config(model={"name": "mlp", "hidden": [16, 16]}, tricks=tricks)
    build = type(config.model).build

    def built(self: Mlp, *shape: Any) -> nn.Module:
        network = build(self, *shape)
        network[3].__class__ = Trembling  # type: ignore[index]
        return network

    assert first_difference(traced(config).steps, traced(config).steps) is None
    monkeypatch.setattr(Mlp, "build", built)
    difference = difference_of(config)
    assert difference.sentence == "the output of layer 3 (Trembling) differs at step 1"
    assert "torch does not know of" in advice(config, difference.mark, {})
    size = apart(*(traced(config, wanted=difference.place).caught for _ in range(2)))
    assert size is not None
    assert (size.values, size.differing) == (16 * 360, 1)
    assert size.largest < 2e-4


def test_examples_that_are_changed_by_chance_are_told_from_those_that_are_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny_config(tricks=[{"name": "random_shift"}])
    phases = {mark.phase for mark in traced(config).steps[1]}
    assert {"data", "changed"} < phases
    assert first_difference(traced(config).steps, traced(config).steps) is None
    monkeypatch.setattr(
        "trainer.tricks.random_shift.sample_draws",
        lambda seed, epoch, examples, purpose, count: torch.randint(99, (len(examples), count)),
    )
    difference = difference_of(config)
    assert difference.sentence == (
        "the inputs of the batch, as the tricks change them, differs at step 1"
    )
    assert "sample_draws" in advice(config, difference.mark, {})


def test_other_data_differs_where_it_is_loaded() -> None:
    one = mlp(seed=1)
    assert difference_of(one, mlp(seed=2)).mark.phase == "start"
    other = mlp(seed=1)
    other = other.model_copy(update={"loader": other.loader.model_copy(update={"order_seed": 5})})
    difference = difference_of(one, other)
    assert (difference.place.step, difference.mark.phase) == (1, "data")
    assert "seed trick" in advice(one, difference.mark, {})


def test_a_gradient_that_is_disturbed_later_is_found_at_its_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def disturbed(self: Seed, setup: Setup) -> None:
        """The second step's gradient of one weight is off by a bit."""
        seen = []

        def disturb(setup: Setup) -> None:
            seen.append(setup)
            weight = setup.model.get_parameter("3.weight")
            if len(seen) == 2:
                weight.grad.view(torch.int32)[0, 0] += 1  # type: ignore[union-attr]

        setup.change_gradients.append(disturb)

    config = mlp(tricks=[Seed().model_dump()])
    plain = traced(config)
    monkeypatch.setattr(Seed, "apply", disturbed)
    difference = first_difference(plain.steps, traced(config).steps)
    assert difference is not None
    assert difference.sentence == "the gradient of 3.weight differs at step 2"
    assert "deterministic trick" in advice(config, difference.mark, {})


def test_batches_of_one_step_are_told_apart() -> None:
    config = mlp(tricks=[GradientAccumulation(steps=2).model_dump()])
    names = [mark.name for mark in traced(config).steps[1]]
    for name in ("inputs", "inputs, call 2", "layer 1 (Linear)", "layer 1 (Linear, call 2)"):
        assert names.count(name) == 1


def test_a_compiled_model_is_looked_at_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    config = mlp(tricks=[Seed().model_dump()])
    monkeypatch.setattr(Seed, "apply", lambda self, setup: setup.model.compile(backend="eager"))
    marks = traced(config, steps=1).steps[1]
    assert [mark.name for mark in marks if mark.phase == "forward"] == ["the whole model"]


def test_every_tensor_that_a_layer_gives_is_hashed() -> None:
    one, other, third = torch.ones(1), torch.ones(2), torch.ones(3)
    assert list(tensors_in((one, [other, None], {"third": third}))) == [one, other, third]
    assert digest(one) != digest(torch.ones(1).nextafter(torch.tensor([2.0])))
    turned = torch.arange(6.0).view(2, 3).t()
    assert digest(turned) == digest(turned.contiguous())
    assert digest(torch.tensor(1.0, dtype=torch.bfloat16)) != digest(torch.tensor(1.0))


def test_a_trace_that_ends_earlier_differs_where_it_ends() -> None:
    one = Mark("forward", "a", "00")
    difference = first_difference([[one, one]], [[one]])
    assert difference is not None
    assert difference.place == (0, 1)


def test_how_far_apart_tensors_are() -> None:
    one = np.array([3.0, 4.0, np.nan])
    assert apart(one, one.copy()) is None
    assert apart(one, np.zeros(2)) is None
    assert apart(one, None) is None
    assert apart(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == (2, 1, 0.5, 0.1)
    agreed = Difference(Place(1, 0), Mark("forward", "a", "00"))
    assert agreed.told()["relative"] is None
    assert "now and then" in agreed.told()["size"]


FORK = multiprocessing.get_context("fork")
"""Quick; and what is spawned loads torch anew, as the commands below do."""


def test_two_trainings_in_processes_of_their_own_are_compared() -> None:
    found = reproduce(tiny_config(model=DROPPED), NOWHERE, "cpu", 3, context=FORK)
    answer = json.loads(json.dumps(found.told()))
    assert answer["identical"] is False
    assert answer["sentence"] == "the output of layer 3 (Dropout) differs at step 1"
    assert answer["difference"]["name"] == "layer 3 (Dropout)"
    assert answer["difference"]["relative"] > 0.1
    assert "Switch on the seed trick" in answer["advice"]
    assert answer["losses"][0] != answer["losses"][1]
    assert answer["conditions"]["torch"] == torch.__version__
    assert answer["conditions"]["deterministic_algorithms"] is False


def test_a_training_that_fails_says_why() -> None:
    config = tiny_config(tricks=[{"name": "freeze", "layers": "nowhere"}])
    with pytest.raises(Refused, match="no layer with weights is named 'nowhere'"):
        reproduce(config, NOWHERE, "cpu", 2, context=FORK)


def test_a_training_whose_trace_nobody_wants_any_more_ends() -> None:
    def unwanted(share: float, doing: str) -> None:
        if share > 0:
            raise Cancelled

    with pytest.raises(Cancelled):
        reproduce(mlp(), NOWHERE, "cpu", 10_000, unwanted, FORK)
    assert not multiprocessing.active_children()


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


def test_what_is_seeded_is_the_same_in_processes_of_their_own(tmp_path: Path) -> None:
    tricks = [{"name": "seed"}, {"name": "deterministic"}]
    config = config_file(tmp_path, model=DROPPED, tricks=tricks, threads=1)
    done = command("reproduce", config, "--steps", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    said, conditions = done.stdout.splitlines()
    assert said == "Bit-identical over 5 steps"
    assert f"torch {torch.__version__}" in conditions
    assert "1 thread, tricks: seed, deterministic" in conditions


@pytest.mark.slow
def test_what_differs_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.proofs.reproducibility.fresh_processes", lambda: FORK)
    file = config_file(tmp_path, model=DROPPED, loader={"batch_size": 128})
    monkeypatch.setattr("sys.argv", ["tricklab", "reproduce", file, "--steps", "2"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said, _, size, advised = capsys.readouterr().out.splitlines()
    assert said == "The output of layer 3 (Dropout) differs at step 1"
    assert "values differ there" in size
    assert advised.startswith("Switch on the seed trick")


def test_prove_all_prints_a_line_for_each_trick() -> None:
    done = command("prove", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    for trick in TRICKS:
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(name_of(trick))]
        assert f" {trick.exactness.value} " in line


@pytest.mark.slow
def test_prove_tells_every_layer_and_the_verdict() -> None:
    done = command("prove", "gradient_accumulation", "digits-mlp")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5.weight" in done.stdout
    assert "2x64+33 : 161" in done.stdout
    assert "at most 1e-12): that holds" in done.stdout
