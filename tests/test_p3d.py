"""P3D: the networks of the paper by their counts, what they take, and what can be seen in them."""

import copy
from collections import Counter

import pytest
import torch
from torch import nn

from trainer.anatomy import weightless
from trainer.batch import Batch
from trainer.config import Recording
from trainer.models import P3D
from trainer.models.channels_last import to_channels_last
from trainer.models.p3d import ClipBlock, MeanOfPixels, P3DNetwork
from trainer.part import Refused
from trainer.probe import Place, Probe, capturing
from trainer.tasks import MovingDigits

CLIP = (3, 16, 32, 32)


def small(shape: tuple[int, ...] = CLIP, outputs: int = 5, **settings: int) -> P3DNetwork:
    """A small P3D in eval mode whose batch norms have seen something."""
    torch.manual_seed(0)
    network = P3D(**{"width": 2} | settings).build(shape, outputs)  # type: ignore[arg-type]
    assert isinstance(network, P3DNetwork)
    with torch.no_grad():
        network(torch.randn(4, *shape))
    return network.eval()


def clips(number: int = 2, shape: tuple[int, ...] = CLIP) -> torch.Tensor:
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(1))


def of_paper(depth: int) -> nn.Module:
    """The network of the paper, for 400 classes of 16 frames of 160x160 pixels, without weights."""
    published = {one.settings["depth"]: one for one in P3D.published}[depth]
    with torch.device("meta"):
        return P3D(**published.settings).build(published.input_shape, published.outputs)


def calls_of(network: nn.Module, shape: tuple[int, ...]) -> Counter[str]:
    """How often each leaf is called in a forward pass of one clip of a network without weights."""
    calls: Counter[str] = Counter()
    for path, module in network.named_modules():
        if not any(module.children()):
            module.register_forward_hook(lambda *_, path=path: calls.update([path]))  # type: ignore[misc]
    network.eval()(torch.zeros(1, *shape, device="meta"))
    return calls


# -- the networks of the paper --------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "parameters"), [(63, 25_745_232), (131, 48_088_400), (199, 66_492_240)]
)
def test_a_network_of_the_paper_has_its_parameters(depth: int, parameters: int) -> None:
    assert sum(p.numel() for p in of_paper(depth).parameters()) == parameters


def test_p3d199_is_made_of_the_originals_modules() -> None:
    network = of_paper(199)
    kinds = Counter(type(module) for module in network.modules())
    assert (kinds[nn.Conv3d], kinds[nn.Conv2d]) == (192, 10)
    assert kinds[nn.BatchNorm3d] + kinds[nn.BatchNorm2d] == 202
    assert sum(not any(module.children()) for module in network.modules()) == 460


def test_p3d199_calls_its_leaves_609_times_and_a_clip_blocks_relu_four_times() -> None:
    calls = calls_of(of_paper(199), (3, 16, 160, 160))
    assert sum(calls.values()) == 609
    assert calls["halve"] == 3
    assert calls["stage3.35.relu"] == 4
    assert calls["stage4.0.relu"] == 3


@pytest.mark.parametrize("depth", [17, 63, 131, 199])
def test_the_depth_counts_the_layers_with_weights_from_clip_to_scores(depth: int) -> None:
    with torch.device("meta"):
        network = P3D(depth=depth, width=1).build(CLIP, 2)  # type: ignore[arg-type]
    weighty = [
        path
        for path, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear)
    ]
    assert len([path for path in weighty if "shortcut" not in path]) == depth


def test_the_kinds_of_blocks_take_turns_across_stages() -> None:
    kinds = [m.kind for m in of_paper(63).modules() if isinstance(m, ClipBlock)]
    assert "".join(kinds) == "ABCABCABCABCA"


@pytest.mark.parametrize("kind", ["A", "B", "C"])
def test_a_block_joins_space_and_time_as_the_paper_says(kind: str) -> None:
    torch.manual_seed(0)
    block = ClipBlock(8, 2, kind, 1).eval()
    narrow = torch.rand(2, 2, 4, 5, 5)

    def in_space(x: torch.Tensor) -> torch.Tensor:
        return block.space_norm(block.space(x)).clamp(min=0)  # type: ignore[no-any-return]

    def in_time(x: torch.Tensor) -> torch.Tensor:
        return block.time_norm(block.time(x)).clamp(min=0)  # type: ignore[no-any-return]

    joined = {
        "A": in_time(in_space(narrow)),
        "B": in_space(narrow) + in_time(narrow),
        "C": in_space(narrow) + in_time(in_space(narrow)),
    }
    assert torch.equal(block.convolved(narrow), joined[kind])
    assert not torch.equal(joined[kind], joined["C" if kind != "C" else "B"])


def test_first_weights_are_drawn_as_he_and_others_do() -> None:
    torch.manual_seed(0)
    weight = small(width=64).conv.weight.detach()
    assert float(weight.std()) == pytest.approx((2 / (7 * 7 * 64)) ** 0.5, rel=0.05)


# -- what it takes, and what it gives -------------------------------------------------------


def test_the_feature_given_to_the_head_is_the_output_to_the_bit() -> None:
    network, inputs = small(depth=63), clips(3)
    output = network(inputs)
    assert network.feature is not None
    assert network.feature.shape == (3, 64)
    assert torch.equal(network.fc(network.feature), output)
    assert not torch.equal(output[0], output[1])


def test_a_feature_keeps_no_graph_and_none_outlives_a_step_of_training() -> None:
    network = small()
    network(clips())
    assert network.feature is not None
    assert not network.feature.requires_grad
    network.train()(clips())
    assert network.feature is None


def test_the_mean_of_pixels_is_the_originals_pooling_of_five_by_five() -> None:
    features = torch.rand(2, 8, 5, 5)
    pooled = nn.AvgPool2d(5, stride=1)(features).flatten(1)
    assert torch.allclose(MeanOfPixels()(features), pooled, rtol=1e-6, atol=0)


def test_112_pixels_fit_which_the_originals_pooling_refuses() -> None:
    shape = (3, 16, 112, 112)
    network = small(shape)
    assert network(clips(1, shape)).shape == (1, 5)
    with pytest.raises(RuntimeError, match="Output size is too small"):
        nn.AvgPool2d(5, stride=1)(torch.rand(1, 64, 4, 4))


@pytest.mark.parametrize("frames", [2, 8, 16, 21, 32, 70])
def test_a_clip_of_any_length_gets_one_prediction(frames: int) -> None:
    shape = (1, frames, 16, 16)
    assert small(shape)(clips(3, shape)).shape == (3, 5)


def test_a_longer_clip_is_scored_by_its_parts_each_by_itself() -> None:
    network = small(shape := (3, 32, 32, 32))
    features = []

    def note(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        features.append(inputs[0].clone())

    network.stage4.register_forward_hook(note)
    seen = []
    network.halve.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    output = network(clips(2, shape))
    before = seen[-1]
    assert before.shape[:3] == (2, 32, 2)
    for number in range(2):
        for time in range(2):
            # a view of (N, C, T, H, W) as (N * T, C, H, W) would give halves of channels instead
            assert torch.equal(features[0][2 * number + time], before[number, :, time])
    scores = [network.fc(network.mean(network.stage4(before[:, :, time]))) for time in range(2)]
    assert torch.allclose(output, (scores[0] + scores[1]) / 2, atol=1e-5)


def test_what_a_clip_is_scored_does_not_depend_on_its_batch() -> None:
    network, inputs = small((3, 32, 32, 32)), clips(3, (3, 32, 32, 32))
    together = network(inputs)
    for number in range(3):
        alone = network(inputs[number : number + 1])
        assert torch.allclose(together[number], alone[0], atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ((3, 160, 160), r"p3d needs clips \(C, T, H, W\), not \(3, 160, 160\); choose small_cnn"),
        ((30,), r"p3d needs clips \(C, T, H, W\), not \(30,\); choose mlp"),
        ((3, 1, 32, 32), "at least 2 frames of 16x16 pixels.* take more frames or larger"),
        ((3, 16, 32, 15), "at least 2 frames of 16x16 pixels"),
    ],
)
def test_what_is_no_clip_is_refused_with_the_way_out(shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(Refused, match=why):
        P3D().build(shape, 5)


def test_every_parameter_of_a_clip_learns() -> None:
    network = small().train()
    network(clips(4)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


# -- channels last --------------------------------------------------------------------------


def test_torchs_own_move_to_channels_last_refuses_convolutions_of_both_kinds() -> None:
    for memory_format, rank in ((torch.channels_last, 4), (torch.channels_last_3d, 5)):
        with pytest.raises(RuntimeError, match=f"required rank {rank}"):
            small().to(memory_format=memory_format)  # type: ignore[call-overload]


def test_weights_of_both_kinds_go_channels_last_and_mean_the_same() -> None:
    network = small(shape := (3, 32, 32, 32), width=8)
    converted = to_channels_last(copy.deepcopy(network))
    for module in converted.modules():
        if isinstance(module, nn.Conv3d) and module.kernel_size[1] > 1:
            assert module.weight.is_contiguous(memory_format=torch.channels_last_3d)
            assert not module.weight.is_contiguous()
        elif isinstance(module, nn.Conv2d) and module.kernel_size[1] > 1:
            assert module.weight.is_contiguous(memory_format=torch.channels_last)
            assert not module.weight.is_contiguous()
    inputs = clips(2, shape)
    expected = network(inputs)
    found = converted(inputs.contiguous(memory_format=torch.channels_last_3d))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    converted.load_state_dict(network.state_dict())
    assert converted.conv.weight.is_contiguous(memory_format=torch.channels_last_3d)  # type: ignore[union-attr]


# -- what can be seen in it -----------------------------------------------------------------


def test_every_call_of_every_leaf_is_what_the_call_gave_before_anything_overwrote_it() -> None:
    network, inputs = small(), clips()
    leaves = [path for path, module in network.named_modules() if not any(module.children())]
    captured: dict[Place, torch.Tensor] = {}
    with torch.no_grad(), capturing(network, leaves, lambda p, o: captured.update({p: o.clone()})):
        network(inputs)
    expected: dict[Place, torch.Tensor] = {}
    # the same network with nothing in place, watched without a hook of ours
    twin = copy.deepcopy(network)
    for path, module in twin.named_modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
        if path in leaves:
            watch(path, module, expected)
    with torch.no_grad():
        twin(inputs)
    assert list(captured) == list(expected)
    assert sum(place.call for place in captured) > 0
    for place, output in captured.items():
        assert torch.equal(output, expected[place]), place
    assert any(
        (captured[Place(f"{path}", 0)] < 0).any() for path in ("norm", "stage1.0.space_norm")
    )


def watch(path: str, module: nn.Module, seen: dict[Place, torch.Tensor]) -> None:
    """Keep a copy of what each call gives, by replacing the module's forward."""
    forward, calls = module.forward, [0]

    def watched(inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = forward(inputs)
        seen[Place(path, calls[0])] = output.clone()
        calls[0] += 1
        return output

    module.forward = watched  # type: ignore[method-assign]


def test_the_probe_keys_the_calls_of_a_reused_layer() -> None:
    task = MovingDigits().facts()
    network = P3D(width=2).build(task.input_shape, task.outputs)
    batch = Batch(torch.randn(2, *task.input_shape), torch.zeros(2, dtype=torch.int64))
    look = Probe(Recording(), ["stage1.0.relu"], batch).look(network, 0)
    shapes = {o.call: o.full_shape[1] for o in look.outputs if o.view == "channels"}
    assert shapes == {0: 2, 1: 2, 2: 2, 3: 8}
    assert [str(place) for place in look.statistics] == [
        "stage1.0.relu",
        "stage1.0.relu#2",
        "stage1.0.relu#3",
        "stage1.0.relu#4",
    ]


def test_a_network_without_weights_has_none() -> None:
    task = MovingDigits().facts()
    assert all(p.is_meta for p in weightless(P3D(depth=199, width=64), task).parameters())
