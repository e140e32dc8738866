"""fashion_mnist: 70,000 pictures of clothes, 28x28 pixels, ten classes."""

import gzip
import hashlib
import logging
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

import torch

from trainer.data_folders import DataFolders
from trainer.part import Refused
from trainer.tasks.base import Examples, TaskData
from trainer.tasks.idx import read_idx
from trainer.tasks.selection import SelectableTask

log = logging.getLogger(__name__)

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
# SHA-256 of what is in the gzipped files: packers write different headers around the same bytes
FILES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class FashionMnist(SelectableTask):
    """Pictures of clothes, 28x28 pixels, ten classes: harder than digits, still minutes."""

    title: ClassVar[str] = "Fashion-MNIST"
    source: ClassVar[str] = "Zalando Research (Xiao, Rasul, Vollgraf, 2017; MIT)"
    input_shape: ClassVar[tuple[int, ...]] = (1, 28, 28)
    class_names: ClassVar[tuple[str, ...]] = CLASSES
    train_counts: ClassVar[tuple[int, ...]] = (6_000,) * 10
    test_counts: ClassVar[tuple[int, ...]] = (1_000,) * 10
    name: Literal["fashion_mnist"] = "fashion_mnist"

    def load(self, folders: DataFolders) -> TaskData:
        folder = find_or_fetch(folders)
        train, test = read_part(folder, "train"), read_part(folder, "t10k")
        # mean and spread of all training pixels, as bytes
        return TaskData(*self.selected(train, test), mean=72.9404, spread=90.0212)


def read_part(folder: Path, part: str) -> Examples:
    """The examples of one part ("train" or "t10k"): inputs (N, 1, 28, 28), targets (N,)."""
    images = read_idx(present(folder, f"{part}-images-idx3-ubyte"))
    labels = read_idx(present(folder, f"{part}-labels-idx1-ubyte"))
    if images.shape != (len(labels), 28, 28) or labels.max(initial=0) > 9:
        raise Refused(f"the {part} files in {folder} are not Fashion-MNIST; delete them")
    return Examples(
        torch.from_numpy(images.copy()).unsqueeze(1), torch.from_numpy(labels.astype("int64"))
    )


def present(folder: Path, stem: str) -> Path:
    """The file `stem` in `folder`, unpacked or gzipped."""
    unpacked = folder / stem
    return unpacked if unpacked.is_file() else folder / f"{stem}.gz"


def is_complete(folder: Path) -> bool:
    return all(present(folder, stem).is_file() for stem in FILES)


def find_or_fetch(folders: DataFolders) -> Path:
    """The folder that holds all four files. Raises Refused naming the three ways to get them."""
    own = folders.data / "fashion-mnist"
    for folder in (own, folders.data, DEBIAN_FOLDER):
        if is_complete(folder):
            return folder
    reason = "downloads are switched off"
    if folders.download:
        try:
            download(own)
        except (urllib.error.URLError, OSError) as error:
            reason = f"the download from {ADDRESS} failed: {getattr(error, 'reason', error)}"
        else:
            return own
    raise Refused(
        f"Fashion-MNIST is not here, and {reason}. Three ways to get it: put its four IDX files "
        f"into {own}; on Debian, `apt install dataset-fashion-mnist`; or connect this machine to "
        "the network and run again"
    )


def download(folder: Path, report: Callable[[str], None] = log.info) -> None:
    """Fetch the four files (31 MB), check them, and keep only what matches its checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, checksum in FILES.items():
        name = f"{stem}.gz"
        target = folder / name
        if matches(target, checksum):
            continue
        partial = folder / f".{name}.{os.getpid()}"
        try:
            copy_with_progress(f"{ADDRESS}/{name}", partial, report)
            if not matches(partial, checksum):
                raise Refused(f"{ADDRESS}/{name} came damaged (its SHA-256 differs); run again")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def copy_with_progress(address: str, target: Path, report: Callable[[str], None]) -> None:
    with urllib.request.urlopen(address, timeout=20) as answer, target.open("wb") as file:
        size = int(answer.headers.get("Content-Length", 0))
        done, told = 0, 0
        while block := answer.read(1 << 18):
            done += file.write(block)
            if size and done * 10 // size > told:
                told = done * 10 // size
                report(f"{address}: {told * 10} % of {size / 1e6:.1f} MB")


def matches(path: Path, checksum: str) -> bool:
    """Whether the unpacked content of a gzipped file has this SHA-256."""
    try:
        with gzip.open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == checksum
    except (OSError, EOFError, zlib.error):
        return False
