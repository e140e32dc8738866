"""What view, reshape and their like are said to do, against what PyTorch does."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.layouts import Call, Layout, Step, explain, parse, torn_axis, why_not
from trainer.part import Refused

INCOMPATIBLE = "view size is not compatible"


def one(shape: tuple[int, ...], text: str) -> Step:
    return explain(shape, parse(text))[-1]


@st.composite
def strided(draw: st.DrawFn) -> torch.Tensor:
    """A tensor of some shape whose axes lie in some order, of which parts may be left out."""
    shape = draw(st.lists(st.integers(1, 4), max_size=5))
    tensor = torch.arange(math.prod(shape)).reshape(shape)
    if shape:
        tensor = tensor.permute(draw(st.permutations(range(len(shape)))))
        axis = draw(st.integers(0, len(shape) - 1))
        tensor = tensor.narrow(axis, 0, draw(st.integers(1, tensor.shape[axis])))
        if draw(st.booleans()):
            tensor = tensor.unsqueeze(draw(st.integers(0, len(shape))))
    return tensor


@st.composite
def divided(draw: st.DrawFn, elements: int) -> list[int]:
    """Some shape of so many elements."""
    sizes = []
    while elements > 1 and len(sizes) < 5:
        size = draw(st.sampled_from([n for n in range(1, elements + 1) if elements % n == 0]))
        sizes.append(size)
        elements //= size
    return [*sizes, elements]


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_it_is_known_before_whether_a_view_is_possible(data: st.DataObject) -> None:
    tensor = data.draw(strided())
    sizes = data.draw(divided(tensor.numel()))
    try:
        tensor.view(sizes)
        possible = True
    except RuntimeError:
        possible = False
    assert (torn_axis(Layout.of(tensor), sizes) is None) == possible
    assert (why_not(Layout.of(tensor), sizes) == ("", "")) == possible


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_is_told_of_a_reshape_is_what_happens_to_real_memory(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    order = data.draw(st.permutations(range(len(shape))))
    sizes = data.draw(divided(math.prod(shape)))
    calls = (Call("permute", tuple(order)), Call("reshape", tuple(sizes)))
    step = explain(shape, calls)[-1]
    real = torch.randn(shape).permute(order)
    result = real.reshape(sizes)
    is_shared = result.untyped_storage().data_ptr() == real.untyped_storage().data_ptr()
    assert step.after == Layout.of(result)
    assert step.is_shared == is_shared
    assert step.copied_bytes == (0 if is_shared else 4 * result.numel())


def test_a_view_shares_and_a_reshape_of_a_transposed_tensor_copies() -> None:
    assert one((2, 2, 2), "view(1, 8)").is_shared
    assert one((2, 2, 2), "view(-1, 4)").after == Layout((2, 4), (4, 1))
    assert one((2, 4), "view_as(4, 2)").after == Layout((4, 2), (2, 1))
    step = one((3, 4), ".transpose(0, 1).reshape(12)")
    assert (step.is_shared, step.copied_bytes) == (False, 48)
    assert one((3, 4), "transpose(0, 1).contiguous()").copied_bytes == 48
    assert one((3, 4), "contiguous()").copied_bytes == 0


def test_a_view_of_a_transposed_tensor_is_refused_with_its_cause() -> None:
    step = one((3, 4), "transpose(0, 1).view(12)")
    assert step.after is None
    assert INCOMPATIBLE in step.error
    assert "across axes 0 and 1 of 4 x 3" in step.cause
    assert "would have to skip 12 elements, and it skips 1" in step.cause
    assert "48 bytes" in step.way_out


def test_a_view_of_a_channels_last_tensor_names_the_way_out() -> None:
    step = one((8, 16, 4, 4), "channels_last().view(8, -1)")
    assert step.before.order == "channels_last"
    assert "across axes 1 and 2" in step.cause
    assert "flatten(1)" in step.way_out
    assert one((8, 16, 4, 4), "channels_last().flatten(1)").after is not None
    video = one((2, 3, 4, 5, 6), "channels_last_3d().view(2, -1)")
    assert video.before.order == "channels_last_3d"
    assert "flatten(1)" in video.way_out


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("view(5, -1)", "2 x 3 x 4 are 24 elements, and 5 x -1 do not divide them"),
        ("reshape(7)", "24 elements, and 7 would be 7"),
        ("view_as(4, 5)", "4 x 5 would be 20"),
        ("view(-1, -1)", "2 sizes are -1"),
        ("reshape(-2, 12)", "only -1 has a meaning"),
        ("view(0, -1)", "do not divide"),
    ],
)
def test_sizes_that_cannot_be_are_told_apart(text: str, cause: str) -> None:
    step = one((2, 3, 4), text)
    assert step.error
    assert cause in step.cause


@pytest.mark.parametrize(
    "text", ["permute(0, 0, 1)", "flatten(5)", "transpose(0, 9)", "squeeze(9)"]
)
def test_other_errors_are_pytorchs_own_words(text: str) -> None:
    step = one((2, 3, 4), text)
    assert step.after is None
    assert step.error
    assert step.cause == ""


def test_nothing_follows_an_error() -> None:
    assert len(explain((2, 3), parse("view(7).flatten().contiguous()"))) == 1


def test_p3ds_batch_is_explained_without_its_memory() -> None:
    """The founding notes' clip: N, C, T, H, W. View does not fold time into the batch."""
    shape = (16, 3, 16, 160, 160)
    folded = one(shape, "view(-1, 3, 160, 160)")
    assert folded.is_shared
    assert folded.after is not None
    assert folded.after.shape == (256, 3, 160, 160)
    right = one(shape, "transpose(1, 2).reshape(-1, 3, 160, 160)")
    assert right.copied_bytes == 16 * 3 * 16 * 160 * 160 * 4
    assert "across axes 0 and 1" in one(shape, "transpose(1, 2).view(-1, 3, 160, 160)").cause


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("view(2, x)", "takes whole numbers"),
        ("view(2,, 3)", "takes whole numbers"),
        ("__class__()", "there is no '__class__' here"),
        ("numpy()", "there is no 'numpy' here"),
        ("view(2); import os", "no call"),
        ("view(" + "1," * 9 + ")", "at most 8"),
        ("view(6)" * 21, "at most 20"),
        ("view(2", "no call"),
    ],
)
def test_what_is_no_call_is_refused_with_an_example(text: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        parse(text)


@pytest.mark.parametrize("shape", [(-1, 2), (1,) * 9, (2**21, 2**21), (0, 2**40, 2**40)])
def test_what_is_no_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(Refused, match="no shape to explain"):
        explain(shape, ())


def test_calls_read_as_one_writes_them() -> None:
    text = ".permute(0, 2, 1).view(2, -1).flatten()"
    assert "." + ".".join(str(call) for call in parse(text)) == text
    assert str(Call("view_as", (4, 2))) == "view_as(torch.empty(4, 2))"
    assert "memory_format=torch.channels_last" in str(Call("channels_last"))


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("contiguous(memory_format=torch.channels_last)", "channels_last()"),
        (".to(memory_format = torch.channels_last_3d)", "channels_last_3d()"),
        ("contiguous(memory_format=torch.contiguous_format)", "contiguous()"),
        ("view_as(torch.empty(4, 2))", "view_as(4, 2)"),
        ("view((2, -1)).reshape([3, 4])", "view(2, -1).reshape(3, 4)"),
        ("flatten(start_dim=1)", "flatten(1)"),
    ],
)
def test_other_spellings_of_a_call_are_read_as_well(text: str, same: str) -> None:
    assert parse(text) == parse(same)
