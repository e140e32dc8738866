"""Thawing: frozen layers that learn later come into the optimizer as a plain loop would do it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lab import Lab, tiny_config
from safetensors.torch import load_file

from app.models import Status
from trainer.build import build_setup
from trainer.check import check
from trainer.config import RunConfig
from trainer.data_folders import DataFolders
from trainer.loop import set_learning_rate
from trainer.part import Refused
from trainer.setup import Setup
from trainer.tricks.frozen import thaws

CPU = torch.device("cpu")
SGD = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
ADAMW = {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1}
both_optimizers = pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])


def config_of(optimizer: dict[str, Any] = SGD, *, epochs: int = 3, **how: Any) -> RunConfig:
    """Four steps an epoch."""
    return tiny_config(
        tricks=[{"name": "freeze", **how}],
        model={"name": "small_cnn", "width": 2},
        optimizer=optimizer,
        budget={"epochs": epochs},
    )


def setup_of(config: RunConfig) -> Setup:
    data = config.task.load(DataFolders(Path("nowhere"), download=False))
    setup = build_setup(config, data, CPU)
    for trick in config.tricks:
        trick.apply(setup)
    setup.place()
    setup.start_fresh()
    return setup


def weights_of(lab: Lab, run_id: int) -> dict[str, torch.Tensor]:
    folder = lab.settings.run_folder(run_id) / "checkpoints"
    tensors = load_file(max(folder.iterdir(), key=lambda path: path.name))
    return {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}


# -- against a loop written by hand ---------------------------------------------------------


def plainly_trained(config: RunConfig, thawed_at: dict[int, str]) -> dict[str, torch.Tensor]:
    """The weights of a loop that freezes blocks 1 and 2 and thaws them after these epochs."""
    plain = config.model_copy(update={"tricks": ()})
    setup = setup_of(plain)
    frozen = [setup.model.get_submodule(f"block{number}") for number in (1, 2)]
    for block in frozen:
        block.requires_grad_(False)
    learning = [p for p in setup.model.parameters() if p.requires_grad]
    optimizer = plain.optimizer.build([{"params": learning}])
    step = 0
    for epoch in range(plain.budget.epochs):
        for name in thawed_at.get(epoch, "").split():
            block = setup.model.get_submodule(name).requires_grad_(True)
            frozen.remove(block)
            optimizer.add_param_group({"params": list(block.parameters())})
        setup.model.train()
        for block in frozen:
            block.eval()
        for batch in setup.batches(setup, epoch, 0):
            batch = setup.ready(batch)
            rate = plain.optimizer.learning_rate
            for group in optimizer.param_groups:
                group["lr"] = rate * plain.schedule.multiplier(step, setup.total_steps)
            F.cross_entropy(setup.model(batch.inputs), batch.targets).backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    return setup.model.state_dict()


@both_optimizers
@pytest.mark.parametrize("schedule", ["one_cycle", "constant"])
@pytest.mark.parametrize(
    ("unfreeze", "thawed_at"),
    [
        ("never", {}),
        ("at_once", {1: "block1 block2"}),
        ("from_the_top", {1: "block2", 2: "block1"}),
    ],
)
def test_a_run_ends_with_the_weights_of_a_loop_written_by_hand(
    tmp_path: Path,
    optimizer: dict[str, Any],
    schedule: str,
    unfreeze: str,
    thawed_at: dict[int, str],
) -> None:
    config = config_of(optimizer, layers="block1, block2", unfreeze=unfreeze)
    config = RunConfig.model_validate(config.model_dump() | {"schedule": {"name": schedule}})
    lab = Lab.at(tmp_path)
    run_id = lab.train(config)
    by_hand, trained = plainly_trained(config, thawed_at), weights_of(lab, run_id)
    assert [name for name in by_hand if not torch.equal(by_hand[name], trained[name])] == []


# -- over a pause ---------------------------------------------------------------------------


@both_optimizers
@pytest.mark.parametrize("pause", [3, 4, 5, 8, 9])
def test_a_run_paused_around_a_thaw_ends_as_if_nothing_had_been(
    tmp_path: Path, optimizer: dict[str, Any], pause: int
) -> None:
    lab = Lab.at(tmp_path)
    config = config_of(optimizer, layers="block1, block2", unfreeze="from_the_top")
    whole, resumed = lab.train(config), lab.add(config)
    lab.train_until(resumed, pause)
    assert (lab.run(resumed).status, lab.run(resumed).step) == (Status.PAUSED, pause)
    lab.resume(resumed)
    lab.train_claimed(resumed)
    one, other = weights_of(lab, whole), weights_of(lab, resumed)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    curves = [lab.points(run_id, "train_loss").values.tolist() for run_id in (whole, resumed)]
    assert curves[0] == curves[1]
    assert lab.run(whole).evidence == lab.run(resumed).evidence


def test_evidence_says_when_each_module_thawed_and_that_it_had_not_moved(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    config = config_of(unfreeze="from_the_top", unfreeze_epoch=1, unfreeze_every=2, epochs=4)
    evidence = lab.run(lab.train(config)).evidence["freeze"]
    assert evidence["thawed"] == [
        {"layers": "block3", "after_epoch": 1, "after_step": 4},
        {"layers": "block2", "after_epoch": 3, "after_step": 12},
    ]
    assert evidence["unchanged"] is True
    assert evidence["frozen_in_optimizer"] == 0
    setup = setup_of(config)
    block1 = sum(p.numel() for p in setup.model.get_submodule("block1").parameters())
    assert evidence["frozen_weights"] == block1


@pytest.mark.parametrize("name", ["block1.conv.weight", "block1.norm.running_var"])
def test_what_moved_before_it_thawed_is_named_though_it_learns_now(name: str) -> None:
    config = config_of(layers="block1", unfreeze="at_once")
    setup = setup_of(config)
    setup.model.state_dict()[name].flatten()[0] += 1e-6
    setup.on_epoch[0](setup, 1)
    evidence = config.tricks[0].evidence(setup)
    assert (evidence["unchanged"], evidence["moved"]) == (False, [name])


@both_optimizers
def test_the_optimizer_keeps_what_it_knows_and_the_rates_agree(optimizer: dict[str, Any]) -> None:
    config = config_of(optimizer, layers="block*", unfreeze="at_once")
    setup = setup_of(config)
    set_learning_rate(setup, 0, None)
    (batch,) = list(setup.batches(setup, 0, 3))
    setup.backward(setup, (batch,))
    setup.optimizer.step()
    head = setup.model.get_submodule("head").weight
    key = "momentum_buffer" if optimizer is SGD else "exp_avg"
    assert isinstance(head, torch.nn.Parameter)
    kept = setup.optimizer.state[head][key]
    before = kept.clone()
    setup.on_epoch[0](setup, 1)
    assert setup.optimizer.state[head][key] is kept
    assert torch.equal(kept, before)
    old, new = setup.optimizer.param_groups
    assert new["peak_lr"] == old["peak_lr"] == config.optimizer.learning_rate
    at_step = setup.lr_multiplier(setup.steps_per_epoch, setup.total_steps)
    assert new["lr"] == new["peak_lr"] * at_step
    assert {key: new[key] for key in old if key not in ("params", "lr")} == {
        key: old[key] for key in old if key not in ("params", "lr")
    }


def test_a_thawed_batch_norm_gathers_statistics_again() -> None:
    setup = setup_of(config_of(layers="block1", unfreeze="at_once"))
    norm = setup.model.get_submodule("block1.norm")
    setup.on_epoch[0](setup, 1)
    setup.model.train()
    setup.model(torch.randn(4, 1, 8, 8))
    assert norm.training
    assert norm.num_batches_tracked == 1


# -- when -----------------------------------------------------------------------------------


def test_modules_thaw_from_the_one_nearest_to_the_result() -> None:
    paths = ["conv", "stage1.0.conv1", "stage1.1.conv1", "stage2.0.conv1"]
    schedule = thaws(paths, "from_the_top", 2, 3)
    assert [(thaw.name, thaw.after_epoch) for thaw in schedule] == [
        ("stage2", 2),
        ("stage1", 5),
        ("conv", 8),
    ]
    assert schedule[1].paths == ("stage1.0.conv1", "stage1.1.conv1")


def test_what_would_never_thaw_is_refused_beside_its_field() -> None:
    config = config_of(layers="block1", unfreeze="at_once", unfreeze_epoch=3)
    (problem,) = check(config)
    assert problem.field == "tricks.0.unfreeze_epoch"
    assert "the run has 3 epochs" in problem.message
    with pytest.raises(Refused, match="nothing learns after 3"):
        setup_of(config)
