"""The tasks: the examples they give, the files they read, and what they say when those are bad."""

import functools
import gzip
import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import Lab
from numpy.typing import NDArray

from app.models import Status
from trainer.batch import Batch
from trainer.part import Refused
from trainer.recipes import RECIPES
from trainer.tasks import (
    BreastCancer,
    DataFolders,
    Diabetes,
    Digits,
    DigitScenes,
    Examples,
    FashionMnist,
    MovingDigits,
    Task,
)
from trainer.tasks import fashion_mnist as fashion
from trainer.tasks.bundled import numbers_in
from trainer.tasks.digit_scenes import scenes
from trainer.tasks.digits import read_digits
from trainer.tasks.idx import read_idx

Bytes = NDArray[np.uint8]


# -- digits ---------------------------------------------------------------------------------


def test_digits_are_as_announced_and_the_same_for_everybody(tmp_path: Path) -> None:
    facts, data = Digits().facts(), Digits().load(DataFolders(tmp_path))
    assert len(data.train) == facts.train_examples == 1437
    assert len(data.test) == facts.test_examples == 360
    for part in (data.train, data.test):
        assert part.inputs.shape[1:] == facts.input_shape
        assert part.inputs.dtype == torch.uint8
        assert set(part.targets.tolist()) == set(range(facts.outputs))
    assert len(facts.classes) == facts.outputs
    # one split for ever: another would make every recorded accuracy incomparable
    digest = hashlib.sha256(data.test.inputs.numpy().tobytes()).hexdigest()
    assert digest.startswith("b5f72d85079cc94802d7ebba")


def test_no_test_example_of_the_digits_is_trained_on(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    data = Digits().load(DataFolders(tmp_path))
    together = torch.cat([data.train.inputs, data.test.inputs]).flatten(1)
    original = torch.from_numpy(load_digits().data.astype("uint8"))
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, original.tolist()))


def test_bundled_numbers_are_those_that_scikit_learn_reads() -> None:
    from sklearn.datasets import load_breast_cancer, load_diabetes

    cancer, diabetes = load_breast_cancer(), load_diabetes(scaled=False)
    rows = numbers_in("breast_cancer.csv", delimiter=",", skiprows=1)
    assert np.array_equal(rows[:, :30], cancer.data)
    assert np.array_equal(rows[:, 30], cancer.target)
    assert np.array_equal(numbers_in("diabetes_data_raw.csv.gz"), diabetes.data)
    assert np.array_equal(numbers_in("diabetes_target.csv.gz"), diabetes.target)


def test_a_table_that_is_not_bundled_is_named() -> None:
    with pytest.raises(Refused, match="this version of scikit-learn has no wine"):
        numbers_in("wine.csv")


def test_normalised_training_inputs_have_mean_0_and_spread_1(tmp_path: Path) -> None:
    data = Digits().load(DataFolders(tmp_path))
    inputs = data.normalise(Batch(data.train.inputs, data.train.targets)).inputs
    assert inputs.dtype == torch.float32
    assert float(inputs.mean()) == pytest.approx(0, abs=1e-5)
    assert float(inputs.std()) == pytest.approx(1, abs=1e-5)


def test_a_batch_is_fetched_as_its_examples_one_by_one(tmp_path: Path) -> None:
    examples = Digits().load(DataFolders(tmp_path)).train
    batch = examples.__getitems__([3, 0, 3])
    for place, index in enumerate([3, 0, 3]):
        assert torch.equal(batch.inputs[place], examples[index].inputs)
        assert batch.targets[place] == examples[index].targets


# -- tables and scenes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "task", [BreastCancer(), Diabetes(), DigitScenes(), MovingDigits()], ids=lambda t: t.name
)
def test_a_task_is_as_announced_and_the_same_for_everybody(task: Task, tmp_path: Path) -> None:
    facts, data = task.facts(), task.load(DataFolders(tmp_path))
    again = task.load(DataFolders(tmp_path))
    for part, number in ((data.train, facts.train_examples), (data.test, facts.test_examples)):
        assert part.inputs.shape == (number, *facts.input_shape)
        assert part.targets.shape == (number, *facts.target_shape)
        assert part.targets.is_floating_point() == facts.kind.targets_are_floats
    assert torch.equal(data.train.inputs, again.train.inputs)
    assert torch.equal(data.test.targets, again.test.targets)
    prepared = data.normalise(Batch(data.train.inputs, data.train.targets))
    assert prepared.inputs.dtype == torch.float32
    assert prepared.inputs.mean().item() == pytest.approx(0, abs=1e-4)
    assert prepared.inputs.std().item() == pytest.approx(1, abs=0.01)


def test_a_column_of_a_table_is_normalised_by_itself(tmp_path: Path) -> None:
    data = BreastCancer().load(DataFolders(tmp_path))
    prepared = data.normalise(Batch(data.train.inputs, data.train.targets)).inputs
    torch.testing.assert_close(prepared.mean(0), torch.zeros(30), atol=1e-4, rtol=0)
    torch.testing.assert_close(prepared.std(0), torch.ones(30), atol=1e-4, rtol=0)


def test_numbers_are_learned_with_mean_0_and_spread_1(tmp_path: Path) -> None:
    data = Diabetes().load(DataFolders(tmp_path))
    assert (data.train.targets.min().item(), data.train.targets.max().item()) == (25, 346)
    prepared = data.normalise(Batch(data.train.inputs, data.train.targets)).targets
    assert prepared.mean().item() == pytest.approx(0, abs=1e-5)
    assert prepared.std().item() == pytest.approx(1, abs=1e-5)
    back = prepared * data.target_spread + data.target_mean
    torch.testing.assert_close(back, data.train.targets)


def test_a_scene_is_of_real_digits_with_the_class_of_each_pixel(tmp_path: Path) -> None:
    data = DigitScenes().load(DataFolders(tmp_path))
    scenes, classes = data.train.inputs[:, 0], data.train.targets
    assert set(classes.unique().tolist()) == {*range(11), 255}
    assert (scenes[classes == 0] == 0).all()
    assert (scenes[(classes > 0) & (classes < 255)] >= 8).all()
    faint = scenes[classes == 255]
    assert 0 < faint.min() <= faint.max() < 8
    share = (classes == 0).double().mean().item()
    assert 0.8 < share < 0.97
    kinds = [len(set(one.unique().tolist()) - {0, 255}) for one in classes[:200]]
    assert min(kinds) == 1
    assert max(kinds) > 3


def test_no_digit_of_a_test_scene_is_in_a_training_scene(tmp_path: Path) -> None:
    train, test = read_digits()
    digit = test.inputs[0, 0]
    assert not (train.inputs[:, 0] == digit).flatten(1).all(1).any()
    data = DigitScenes().load(DataFolders(tmp_path))
    strewn = scenes(Examples(digit[None, None], test.targets[:1]), 3, "test")
    assert set(strewn.targets.unique().tolist()) <= {0, 255, int(test.targets[0]) + 1}
    assert len(data.test.inputs.flatten(1).unique(dim=0)) == len(data.test)


# -- IDX files ------------------------------------------------------------------------------


def idx(values: Bytes, kind: int = 8, zero: int = 0) -> bytes:
    """An array as an IDX file, written as the format's description says."""
    header = struct.pack(">HBB", zero, kind, values.ndim)
    return header + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def some_bytes(*shape: int) -> Bytes:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", [(0,), (7,), (2, 3), (5, 28, 28), (0, 28, 28)])
@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_file_is_read_plain_and_gzipped(
    tmp_path: Path, shape: tuple[int, ...], packed: bool
) -> None:
    values = some_bytes(*shape)
    path = tmp_path / ("file.gz" if packed else "file")
    path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    found = read_idx(path)
    assert found.dtype == np.uint8
    assert found.shape == shape
    assert np.array_equal(found, values)


GOOD = idx(some_bytes(4, 5))
DAMAGED = {
    "empty": b"",
    "cut in its header": GOOD[:9],
    "cut in its values": GOOD[:-1],
    "too long": GOOD + b"\0",
    "of another type": idx(some_bytes(4, 5), kind=0x0D),
    "of another format": idx(some_bytes(4, 5), zero=1),
    "with sizes beyond all bounds": struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 4),
    "with a hundred dimensions": struct.pack(">HBB100I", 0, 8, 100, *[1] * 100) + b"x",
    "with more dimensions than sizes": struct.pack(">HBB", 0, 8, 200),
}


@pytest.mark.parametrize("content", [*DAMAGED.values()], ids=[*DAMAGED])
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_idx_file_is_refused_by_name(
    tmp_path: Path, content: bytes, packed: bool
) -> None:
    path = tmp_path / ("file.gz" if packed else "file")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(Refused) as refusal:
        read_idx(path)
    assert str(path) in str(refusal.value)
    assert "delete it and fetch it again" in str(refusal.value)


@given(st.binary(max_size=40) | st.binary(max_size=20).map(lambda tail: GOOD[:8] + tail))
@settings(max_examples=100, deadline=None)
def test_whatever_a_file_holds_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    for suffix in ("", ".gz"):
        path = tmp_path_factory.getbasetemp() / f"any{suffix}"
        path.write_bytes(content)
        try:
            values = read_idx(path)
        except Refused as refusal:
            assert str(path) in str(refusal)  # noqa: PT017
        else:
            assert idx(values) == content


def test_a_gzip_file_that_was_cut_or_changed_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(idx(some_bytes(300)))
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    for content in (whole[:-20], bytes(changed), b"no gzip at all"):
        path = tmp_path / "file.gz"
        path.write_bytes(content)
        with pytest.raises(Refused, match=r"file\.gz is damaged"):
            read_idx(path)


# -- Fashion-MNIST from a folder ------------------------------------------------------------

PARTS = {"train": 50, "t10k": 20}


def small_files() -> dict[str, bytes]:
    """Four files in Fashion-MNIST's form, with a few examples each."""
    files = {}
    for part, count in PARTS.items():
        files[f"{part}-images-idx3-ubyte"] = idx(some_bytes(count, 28, 28))
        files[f"{part}-labels-idx1-ubyte"] = idx(some_bytes(count) % 10)
    return files


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for data sets on a machine without Debian's."""
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", tmp_path / "no-debian")
    return tmp_path / "datasets"


def put_files(folder: Path, files: dict[str, bytes], *, packed: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in files.items():
        if packed:
            (folder / f"{stem}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / stem).write_bytes(content)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("inside", ["", "fashion-mnist"])
def test_fashion_mnist_is_read_from_a_folder_a_person_names(
    elsewhere: Path, inside: str, packed: bool
) -> None:
    files = small_files()
    put_files(elsewhere / inside, files, packed=packed)
    data = FashionMnist().load(DataFolders(elsewhere, download=False))
    assert (len(data.train), len(data.test)) == (50, 20)
    assert data.train.inputs.shape == (50, 1, 28, 28)
    assert data.train.inputs.numpy().tobytes() == files["train-images-idx3-ubyte"][16:]
    assert data.test.targets.tolist() == list(files["t10k-labels-idx1-ubyte"][8:])
    assert data.test.targets.dtype == torch.int64


@pytest.mark.parametrize(
    ("stem", "content"),
    [
        ("train-images-idx3-ubyte", idx(some_bytes(49, 28, 28))),
        ("train-images-idx3-ubyte", idx(some_bytes(50, 27, 28))),
        ("train-labels-idx1-ubyte", idx(np.full(50, 10, np.uint8))),
    ],
)
def test_files_of_something_else_are_refused_with_their_folder(
    elsewhere: Path, stem: str, content: bytes
) -> None:
    put_files(elsewhere, small_files() | {stem: content})
    with pytest.raises(Refused, match=f"the train files in {elsewhere} are not Fashion-MNIST"):
        FashionMnist().load(DataFolders(elsewhere, download=False))


def test_a_damaged_file_in_the_folder_is_named(elsewhere: Path) -> None:
    put_files(elsewhere, small_files() | {"t10k-labels-idx1-ubyte": b"short"})
    with pytest.raises(Refused, match=r"t10k-labels-idx1-ubyte is damaged"):
        FashionMnist().load(DataFolders(elsewhere, download=False))


def test_without_the_files_all_three_ways_to_get_them_are_named(elsewhere: Path) -> None:
    put_files(elsewhere, {"train-images-idx3-ubyte": b""})
    with pytest.raises(Refused) as refusal:
        FashionMnist().load(DataFolders(elsewhere, download=False))
    text = str(refusal.value)
    assert "downloads are switched off" in text
    assert f"put its four IDX files into {elsewhere / 'fashion-mnist'}" in text
    assert "`apt install dataset-fashion-mnist`" in text
    assert "connect this machine to the network" in text


# -- Fashion-MNIST from a network -----------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Nothing on the test's output."""


@pytest.fixture
def site(tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A web server of ours in the place of the real one, with small files; gives its folder."""
    folder = tmp_path / "site"
    put_files(folder, small_files(), packed=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    monkeypatch.setattr(fashion, "ADDRESS", f"http://127.0.0.1:{server.server_port}")
    sums = {stem: hashlib.sha256(content).hexdigest() for stem, content in small_files().items()}
    monkeypatch.setattr(fashion, "FILES", sums)
    serving = threading.Thread(target=server.serve_forever, args=(0.01,))
    serving.start()
    yield folder
    server.shutdown()
    serving.join()
    server.server_close()


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_missing_files_are_downloaded_once_and_checked(site: Path, elsewhere: Path) -> None:
    data = FashionMnist().load(DataFolders(elsewhere))
    assert (len(data.train), len(data.test)) == (50, 20)
    own = elsewhere / "fashion-mnist"
    assert files_in(own) == sorted(f"{stem}.gz" for stem in small_files())
    for path in site.iterdir():
        path.unlink()
    again = FashionMnist().load(DataFolders(elsewhere))
    assert torch.equal(again.train.inputs, data.train.inputs)


@pytest.mark.parametrize("fault", ["other content", "cut short", "no gzip"])
def test_a_download_with_another_checksum_is_refused_and_removed(
    site: Path, elsewhere: Path, fault: str
) -> None:
    bad = site / "train-labels-idx1-ubyte.gz"
    bad.write_bytes(
        {
            "other content": gzip.compress(idx(np.zeros(50, np.uint8))),
            "cut short": bad.read_bytes()[:-9],
            "no gzip": b"<html>log in to this network first</html>",
        }[fault]
    )
    with pytest.raises(Refused, match=r"train-labels-idx1-ubyte.gz came damaged .*; run again"):
        FashionMnist().load(DataFolders(elsewhere))
    own = elsewhere / "fashion-mnist"
    assert files_in(own) == ["train-images-idx3-ubyte.gz"]

    put_files(site, small_files(), packed=True)
    assert len(FashionMnist().load(DataFolders(elsewhere)).train) == 50


def test_a_file_that_is_not_on_the_server_is_a_failed_download(site: Path, elsewhere: Path) -> None:
    (site / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(Refused) as refusal:
        FashionMnist().load(DataFolders(elsewhere))
    assert f"the download from {fashion.ADDRESS} failed" in str(refusal.value)
    assert "Three ways to get it" in str(refusal.value)
    assert not [name for name in files_in(elsewhere / "fashion-mnist") if name.startswith(".")]


def test_without_a_network_the_failure_is_named_with_the_ways_out(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        # bound but not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(fashion, "ADDRESS", address)
        with pytest.raises(Refused) as refusal:
            FashionMnist().load(DataFolders(elsewhere))
    assert f"the download from {address} failed: " in str(refusal.value)
    assert "`apt install dataset-fashion-mnist`" in str(refusal.value)


# -- the real thing -------------------------------------------------------------------------

real_data = pytest.mark.skipif(
    not fashion.is_complete(fashion.DEBIAN_FOLDER), reason="Debian's Fashion-MNIST is not here"
)


@real_data
def test_debians_fashion_mnist_is_what_we_say_it_is(tmp_path: Path) -> None:
    data = FashionMnist().load(DataFolders(tmp_path, download=False))
    facts = FashionMnist().facts()
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert (facts.train_examples, facts.test_examples) == (60_000, 10_000)
    # as many of each of the ten classes
    assert data.train.targets.bincount().tolist() == [6000] * 10
    assert data.test.targets.bincount().tolist() == [1000] * 10
    pixels = data.train.inputs.float()
    assert data.mean == pytest.approx(float(pixels.mean()), abs=1e-3)
    assert data.spread == pytest.approx(float(pixels.std()), abs=1e-3)
    for stem, checksum in fashion.FILES.items():
        path = fashion.present(fashion.DEBIAN_FOLDER, stem)
        content = gzip.decompress(path.read_bytes()) if path.suffix else path.read_bytes()
        assert hashlib.sha256(content).hexdigest() == checksum, stem


@real_data
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_small_cnn_tells_clothes_apart_with_90_percent_in_five_epochs(tmp_path: Path) -> None:
    lab = Lab.at(tmp_path)
    run = lab.run(lab.train(RECIPES["fashion-cnn"].config))
    assert run.status == Status.FINISHED
    assert run.result["epochs"] == 5
    assert run.result["val_accuracy"] >= 0.9
