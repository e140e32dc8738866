"""Everything that can be chosen: each model, loss, optimizer, schedule and recipe, by contract."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lab import tiny_config
from torch import nn

from trainer.anatomy import anatomy, chosen_layers, model_anatomy
from trainer.batch import Batch
from trainer.build import build_setup
from trainer.check import check, facts, fits
from trainer.config import Recording, RunConfig
from trainer.losses import LOSSES
from trainer.models import MODELS, Mlp, Model, ResNet20, SmallCnn, UNet
from trainer.optimizers import OPTIMIZERS, AdamW, Optimizer, Sgd
from trainer.part import Part, Refused
from trainer.probe import Probe
from trainer.recipes import RECIPES, SAMPLE_COMPARISON, recipe
from trainer.schedules import SCHEDULES, Constant, Cosine, OneCycle, Schedule
from trainer.tasks import TASKS, DataFolders, Task


def name(part: object) -> str:
    chosen = part if isinstance(part, type) else type(part)
    return str(chosen.model_fields["name"].default) if issubclass(chosen, Part) else str(part)


every_model = pytest.mark.parametrize("model", [model() for model in MODELS], ids=name)
FITTING = [(m(), t()) for t in TASKS for m in MODELS if fits(m(), t().facts())]


def fitting_task(model: Model) -> Task:
    return next(task for other, task in FITTING if other == model)


every_pair = pytest.mark.parametrize(("model", "task"), FITTING, ids=name)


@pytest.mark.parametrize(
    "part", [*TASKS, *MODELS, *LOSSES, *OPTIMIZERS, *SCHEDULES], ids=lambda part: part.__name__
)
def test_a_part_is_named_and_described_in_every_field(part: type[Part]) -> None:
    assert part.title
    assert part.__doc__
    assert part.__doc__.split("\n")[0].rstrip(".") != ""
    for field, schema in part.model_json_schema()["properties"].items():
        if field != "name":
            assert len(schema.get("description", "")) > 10, field


def test_no_two_parts_of_a_kind_share_a_name() -> None:
    for kind in (TASKS, MODELS, LOSSES, OPTIMIZERS, SCHEDULES):
        names = [name(part) for part in kind]
        assert len(set(names)) == len(names)


# -- models ---------------------------------------------------------------------------------


@every_pair
def test_a_model_gives_what_is_held_against_the_targets(model: Model, task: Task) -> None:
    facts = task.facts()
    network = model.build(facts.input_shape, facts.outputs)
    output = network(torch.randn(3, *facts.input_shape))
    assert output.shape == (3, *facts.output_shape)
    assert output.dtype == torch.float32
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("model", MODELS, ids=name)
@pytest.mark.parametrize("task", TASKS, ids=name)
def test_a_model_that_does_not_suit_a_task_is_refused_naming_those_that_do(
    model: type[Model], task: type[Task]
) -> None:
    facts = task().facts()
    losses = [loss() for loss in LOSSES if facts.kind in loss.suits]
    config = RunConfig(task=task(), model=model(), loss=losses[0])  # type: ignore[arg-type]
    problems = check(config)
    if fits(model(), facts):
        assert problems == ()
    else:
        assert [problem.field for problem in problems] == ["model.name"]
        fitting = {name(other) for other, of in FITTING if of == task()}
        assert any(choice in problems[0].message for choice in fitting)


def test_every_task_has_a_model_and_a_loss() -> None:
    assert {name(task) for _, task in FITTING} == {name(task) for task in TASKS}
    for task in TASKS:
        assert any(task().facts().kind in loss.suits for loss in LOSSES)


@every_pair
def test_the_anatomy_is_that_of_the_network(model: Model, task: Task) -> None:
    facts = task.facts()
    layers = model_anatomy(model, facts)
    network = model.build(facts.input_shape, facts.outputs)
    modules = {path: module for path, module in network.named_modules() if path}
    assert [layer.path for layer in layers] == list(modules)
    assert [layer.kind for layer in layers] == [type(m).__name__ for m in modules.values()]
    assert sum(layer.parameters for layer in layers) == sum(p.numel() for p in network.parameters())
    assert [layer.is_leaf for layer in layers] == [not [*m.children()] for m in modules.values()]


@every_pair
def test_every_layers_output_has_the_announced_shape(model: Model, task: Task) -> None:
    facts = task.facts()
    layers = model_anatomy(model, facts)
    network = model.build(facts.input_shape, facts.outputs)
    batch = Batch(torch.randn(2, *facts.input_shape), torch.zeros(2, dtype=torch.int64))
    look = Probe(Recording(), [layer.path for layer in layers], batch).look(network, 0)
    seen = {place.layer for place in look.statistics}
    assert seen == {layer.path for layer in layers if layer.output_shape is not None}
    announced = {layer.path: layer.output_shape for layer in layers}
    # of a layer that is called repeatedly, the first call is announced
    captured = [output for output in look.outputs if output.view == "channels" and not output.call]
    assert {output.layer for output in captured} == seen
    for output in captured:
        assert output.full_shape == (2, *announced[output.layer]), output.layer


@every_model
def test_a_models_anatomy_allocates_no_weight(model: Model) -> None:
    built: list[nn.Module] = []

    class Watched(type(model)):  # type: ignore[misc]
        def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
            built.append(super().build(input_shape, outputs))
            return built[-1]

    before = torch.get_rng_state()
    model_anatomy(Watched(), fitting_task(model).facts())
    tensors = [*built[0].parameters(), *built[0].buffers()]
    assert tensors
    assert all(tensor.is_meta for tensor in tensors)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_anatomy_of_a_network_far_too_large_for_memory_is_told() -> None:
    assert facts(RunConfig(model=Mlp(hidden=(65_536,) * 32))).parameters > 10**11


@every_model
def test_initial_weights_come_from_the_process_wide_generator(model: Model) -> None:
    facts = fitting_task(model).facts()

    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        network = model.build(facts.input_shape, facts.outputs)
        return torch.cat([parameter.flatten() for parameter in network.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_a_unet_gives_a_score_for_every_class_and_pixel(levels: int) -> None:
    network = UNet(width=2, levels=levels).build((3, 32, 48), 7)
    assert network.eval()(torch.randn(2, 3, 32, 48)).shape == (2, 7, 32, 48)
    assert sum("down" in path and path.endswith("conv") for path, _ in network.named_modules()) == (
        2 * levels
    )


def test_a_unet_refuses_sides_that_it_cannot_halve() -> None:
    with pytest.raises(Refused, match=r"sides divide by 4, not \(1, 30, 32\)"):
        UNet().build((1, 30, 32), 5)


@pytest.mark.parametrize("model", [SmallCnn(), ResNet20()], ids=name)
@pytest.mark.parametrize("shape", [(64,), (1, 3, 8), (1, 8, 3)])
def test_a_model_for_pictures_refuses_what_is_none(model: Model, shape: tuple[int, ...]) -> None:
    with pytest.raises(Refused, match=rf"^{name(model)} needs pictures .* choose mlp$"):
        model.build(shape, 10)


@pytest.mark.parametrize("side", [4, 5, 8, 13, 28, 64])
def test_a_model_for_pictures_takes_any_size(side: int) -> None:
    for model in (SmallCnn(width=2), ResNet20(width=2)):
        assert model.build((3, side, side), 7).eval()(torch.randn(2, 3, side, side)).shape == (2, 7)


def test_resnet20_has_as_many_parameters_as_in_its_paper() -> None:
    # He et al. (2016), table 6: 0.27 M for 3 x 32 x 32 pictures
    network = ResNet20().build((3, 32, 32), 10)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 19
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 0.27


def test_layers_are_chosen_by_name_and_pattern_in_the_networks_order() -> None:
    with torch.device("meta"):
        layers = anatomy(SmallCnn().build((1, 8, 8), 10), (1, 8, 8))

    def chosen(*patterns: str) -> list[str]:
        return [layer.path for layer in chosen_layers(layers, patterns)]

    assert chosen("head", "block1") == ["block1", "head"]
    assert chosen("block*.conv") == ["block1.conv", "block2.conv", "block3.conv"]
    assert chosen("nothing") == []
    assert "block1" not in chosen("*")
    assert len(chosen("*")) == 14


# -- optimizers -----------------------------------------------------------------------------


OPTIONS: dict[str, tuple[Optimizer, dict[str, float | bool | tuple[float, float]]]] = {
    "sgd": (
        Sgd(learning_rate=0.3, weight_decay=0.1, momentum=0.8, nesterov=False),
        {"lr": 0.3, "weight_decay": 0.1, "momentum": 0.8, "nesterov": False},
    ),
    "adamw": (
        AdamW(learning_rate=0.2, weight_decay=0.3, beta1=0.5, beta2=0.6, epsilon=0.1),
        {"lr": 0.2, "weight_decay": 0.3, "betas": (0.5, 0.6), "eps": 0.1},
    ),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name)
def test_an_optimizer_is_torchs_with_every_option_passed_on(optimizer: type[Optimizer]) -> None:
    chosen, options = OPTIONS[name(optimizer)]
    assert len(options) + (name(optimizer) == "adamw") == len(optimizer.model_fields) - 1
    built = chosen.build([{"params": [nn.Parameter(torch.ones(2))]}])
    assert {key: built.param_groups[0][key] for key in options} == options


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name)
def test_an_optimizer_makes_a_loss_smaller(optimizer: type[Optimizer]) -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    built = optimizer().build([{"params": [weight]}])
    losses = []
    for _ in range(20):
        loss = weight.square().sum()
        losses.append(loss.item())
        built.zero_grad()
        loss.backward()
        built.step()
    assert losses[-1] < losses[0]


# -- schedules ------------------------------------------------------------------------------

SHAPES: list[Schedule] = [
    Constant(),
    Constant(warmup=0.2),
    Cosine(),
    Cosine(warmup=0.1, final=0.2),
    OneCycle(),
    OneCycle(warmup=0.5, initial=0.1, final=0.01),
]


@pytest.mark.parametrize("schedule", SHAPES, ids=lambda s: f"{name(s)} {s.model_dump()}")
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 1000])
def test_a_schedule_stays_between_nothing_and_its_peak(schedule: Schedule, steps: int) -> None:
    multipliers = [schedule.multiplier(step, steps) for step in range(steps)]
    assert all(0 <= multiplier <= 1 for multiplier in multipliers)
    if steps > 3:
        # the peak may lie between two steps
        assert max(multipliers) == pytest.approx(1, abs=0.3 / steps)
        top = multipliers.index(max(multipliers))
        assert all(a <= b for a, b in itertools.pairwise(multipliers[: top + 1]))
        assert all(a >= b for a, b in itertools.pairwise(multipliers[top:]))


def test_every_schedule_has_a_shape_here() -> None:
    assert {name(schedule) for schedule in SHAPES} == {name(schedule) for schedule in SCHEDULES}


@given(st.floats(0.01, 0.9), st.integers(10, 500))
def test_a_straight_warm_up_ends_at_the_peak_and_begins_with_its_first_share(
    warmup: float, steps: int
) -> None:
    for schedule in (Constant(warmup=warmup), Cosine(warmup=warmup)):
        rising = round(warmup * steps)
        rise = [schedule.multiplier(step, steps) for step in range(rising)]
        assert rise == pytest.approx([(step + 1) / rising for step in range(rising)])
        assert schedule.multiplier(rising, steps) == 1.0


@pytest.mark.parametrize("final", [0.0, 0.3])
def test_a_cosine_ends_at_its_final_share_and_is_halfway_in_the_middle(final: float) -> None:
    schedule = Cosine(final=final)
    assert schedule.multiplier(0, 101) == 1.0
    assert schedule.multiplier(50, 101) == pytest.approx((1 + final) / 2)
    assert schedule.multiplier(100, 101) == pytest.approx(final)


def test_a_one_cycle_is_torchs_with_its_peak_less_than_a_step_away() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
    torchs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=200, cycle_momentum=False, final_div_factor=1e4
    )
    expected = []
    for _ in range(200):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < 200:
            torchs.step()
    found = [OneCycle().multiplier(step, 200) for step in range(200)]
    assert (found[0], found[-1]) == pytest.approx((expected[0], expected[-1]))
    within_a_step = np.abs(np.diff(expected)).max()
    assert np.abs(np.subtract(found, expected)).max() < within_a_step


# -- recipes --------------------------------------------------------------------------------

every_recipe = pytest.mark.parametrize("recipe_name", RECIPES)


@every_recipe
def test_a_recipe_has_no_problem_and_says_what_it_is_for(recipe_name: str) -> None:
    chosen = recipe(recipe_name)
    assert chosen.title
    assert chosen.purpose.endswith(".")
    assert check(chosen.config) == ()
    assert recipe_name.split("-")[0] in name(chosen.config.task)


@every_recipe
def test_a_recipe_is_the_same_after_a_journey_as_json(recipe_name: str) -> None:
    config = recipe(recipe_name).config
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("recipe_name", [n for n in RECIPES if n.startswith("digits-")])
def test_what_is_told_of_a_recipe_beforehand_is_what_its_setup_is(
    recipe_name: str, tmp_path: Path
) -> None:
    config = recipe(recipe_name).config
    told = facts(config)
    data = config.task.load(DataFolders(tmp_path, download=False))
    setup = build_setup(config, data, torch.device("cpu"))
    for trick in config.tricks:
        trick.apply(setup)
    assert told.train_examples == len(data.train)
    assert told.test_examples == len(data.test)
    assert told.batches_per_epoch == setup.batches_per_epoch
    assert told.steps_per_epoch == setup.steps_per_epoch
    assert told.total_steps == setup.total_steps
    assert told.parameters == sum(p.numel() for p in setup.model.parameters())


def test_the_sample_comparison_is_made_of_recipes_that_differ_in_tricks_alone() -> None:
    base, *others = [recipe(sample).config for sample in SAMPLE_COMPARISON]
    assert base.tricks == ()
    for other in others:
        assert len(other.tricks) >= 1
        assert other.model_copy(update={"tricks": (), "loader": base.loader}) == base


def test_an_unknown_recipe_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refused, match="there is no recipe 'nope'; there are digits-cnn, digits-"):
        recipe("nope")


# -- what can be told before training -------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"recording": {"layers": ["blok1"]}}, "recording.layers", "'blok1'; there are, for exam"),
        (
            {"loader": {"batch_size": 5000, "drop_last": True}},
            "loader.batch_size",
            "5000 is larger",
        ),
        (
            {"tricks": [{"name": "gradient_accumulation", "steps": 5}]},
            "tricks.0.steps",
            "an epoch has 4 batches",
        ),
        (
            {"tricks": [{"name": "seed"}, {"name": "cudnn_benchmark"}], "model": {"name": "mlp"}},
            "tricks.1.name",
            "nothing to search: mlp has no convolution",
        ),
    ],
)
def test_what_would_fail_is_told_beforehand_with_its_field(
    changes: dict[str, object], field: str, message: str
) -> None:
    (problem,) = check(tiny_config(**changes))
    assert problem.field == field
    assert message in problem.message


def test_what_works_but_perhaps_not_as_meant_is_a_warning() -> None:
    def warnings(**changes: object) -> str:
        return " ".join(facts(tiny_config(**changes)).warnings)

    assert warnings() == ""
    benchmark = [{"name": "cudnn_benchmark"}]
    assert "last batch of an epoch has 357 examples instead of 360" in warnings(tricks=benchmark)
    assert warnings(tricks=benchmark, loader={"drop_last": True}) == ""
    accumulation = [{"name": "gradient_accumulation"}]
    assert "averages over only 8 examples" in warnings(
        tricks=accumulation, loader={"batch_size": 8}
    )
