"""Learning rate by depth: which layers get which rate, and that a step is that large."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lab import Lab, tiny_config
from pydantic import ValidationError

from trainer.build import build_setup
from trainer.check import check
from trainer.config import RunConfig
from trainer.data_folders import DataFolders
from trainer.loop import set_learning_rate
from trainer.part import Refused
from trainer.setup import Setup

CPU = torch.device("cpu")


def config_of(
    *more: dict[str, Any], changes: dict[str, Any] | None = None, **how: Any
) -> RunConfig:
    trick = {"name": "layerwise_learning_rate", **how}
    return tiny_config(tricks=[*more, trick], **(changes or {}))


def setup_of(config: RunConfig) -> Setup:
    data = config.task.load(DataFolders(Path("nowhere"), download=False))
    setup = build_setup(config, data, CPU)
    for trick in config.tricks:
        trick.apply(setup)
    setup.place()
    setup.start_fresh()
    return setup


def peaks(setup: Setup) -> dict[str, float]:
    """The peak rate of each parameter."""
    of = {
        id(p): group["peak_lr"] for group in setup.optimizer.param_groups for p in group["params"]
    }
    return {name: of[id(p)] for name, p in setup.model.named_parameters() if id(p) in of}


def test_the_rate_falls_by_the_decay_from_module_to_module() -> None:
    rates = peaks(setup_of(config_of(decay=0.5)))
    for name, rate in rates.items():
        depth = ["head", "block3", "block2", "block1"].index(name.partition(".")[0])
        assert rate == 0.05 * 0.5**depth
    assert len(rates) == 11


def test_named_layers_have_a_factor_of_their_own_and_the_last_that_fits_counts() -> None:
    rates = peaks(setup_of(config_of(decay=1.0, factors="block*=0.5, *.norm = 0.25, head=2")))
    assert rates["block1.conv.weight"] == 0.05 * 0.5
    assert rates["block2.norm.bias"] == 0.05 * 0.25
    assert rates["head.weight"] == 0.1


def test_a_step_is_that_much_smaller_in_every_layer() -> None:
    plain, tricked = setup_of(tiny_config()), setup_of(config_of(decay=0.5))
    moves = []
    for setup in (plain, tricked):
        before = {name: p.detach().clone() for name, p in setup.model.named_parameters()}
        set_learning_rate(setup, 2, None)
        (batch,) = list(setup.batches(setup, 0, 3))
        setup.backward(setup, (batch,))
        setup.optimizer.step()
        moves.append({name: p - before[name] for name, p in setup.model.named_parameters()})
    rates = peaks(tricked)
    for name, whole in moves[0].items():
        assert whole.abs().max() > 0
        share = rates[name] / 0.05
        torch.testing.assert_close(moves[1][name], whole * share, rtol=1e-3, atol=1e-7)


def test_the_recorded_rate_is_that_of_a_run_without_the_trick(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    # its first group is not that of the head
    runs = lab.train(tiny_config()), lab.train(config_of(decay=0.5))
    one, other = (lab.points(run_id, "learning_rate").values.tolist() for run_id in runs)
    assert one == other
    assert len(set(one)) == 4
    evidence = lab.run(runs[1]).evidence["layerwise_learning_rate"]
    assert [group["factor"] for group in evidence["groups"]] == [0.125, 0.25, 0.5, 1.0]
    assert evidence["groups"][0]["layers"] == ["block1.conv", "block1.norm"]
    assert evidence["groups"][0]["weights"] == 2 * 9 + 4
    assert evidence["groups"][0]["peak_rate"] == 0.05 / 8
    assert evidence["groups"][3]["last_rate"] == one[-1]


def test_layers_that_thaw_come_with_the_rate_of_their_depth() -> None:
    freeze = {"name": "freeze", "layers": "block1, block2", "unfreeze": "at_once"}
    setup = setup_of(config_of(freeze, decay=0.5, changes={"budget": {"epochs": 2}}))
    assert set(peaks(setup).values()) == {0.05, 0.025}
    setup.on_epoch[0](setup, 1)
    assert peaks(setup)["block2.conv.weight"] == 0.0125
    assert peaks(setup)["block1.conv.weight"] == 0.00625
    at_step = setup.lr_multiplier(setup.steps_per_epoch, setup.total_steps)
    assert setup.optimizer.param_groups[-1]["lr"] == 0.0125 * at_step


@pytest.mark.parametrize(
    ("how", "freeze"),
    [
        ({"decay": 1.0}, {}),
        ({"decay": 1.0, "factors": "head=1"}, {}),
        ({}, {"name": "freeze"}),
        ({"changes": {"model": {"name": "mlp", "hidden": ()}}}, {}),
    ],
)
def test_what_would_change_no_rate_is_refused(how: dict[str, Any], freeze: dict[str, str]) -> None:
    config = config_of(*([freeze] if freeze else []), **how)
    (problem,) = check(config)
    assert problem.field == f"tricks.{len(config.tricks) - 1}.decay"
    assert "layerwise_learning_rate changes nothing" in problem.message
    with pytest.raises(Refused):
        setup_of(config)


def test_a_pattern_that_names_no_layer_is_refused() -> None:
    (problem,) = check(config_of(factors="blok1=2"))
    assert "no layer with weights is named 'blok1'" in problem.message


@pytest.mark.parametrize("factors", ["head", "head=", "=2", "head=0", "head=-1", "head=inf"])
def test_what_is_no_factor_is_refused_beside_its_field(factors: str) -> None:
    with pytest.raises(ValidationError, match="no layer=factor") as refusal:
        config_of(factors=factors)
    (error,) = refusal.value.errors()
    assert error["loc"][-1] == "factors"
