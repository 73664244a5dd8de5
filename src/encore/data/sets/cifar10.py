"""CIFAR-10 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009).

Three forms are read; nothing is unpickled:

    the authors' binary version:  cifar-10-binary.tar.gz, or its folder cifar-10-batches-bin/
    archives of pictures:         cifar10_train*.tar* and cifar10_test*.tar*, with CLASS/NAME.jpg inside
    folders of pictures:          train/CLASS/…, test/CLASS/… (as any such folder)
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from encore.base.errors import DataError
from encore.base.progress import ProgressReporter
from encore.data.classification import assembled
from encore.data.classification_arrays import LabelledArrays
from encore.data.classification_folder import is_in_class_folders, open_class_folders
from encore.data.contracts import ClassificationDataset, DataSplits
from encore.data.downloads import download_file
from encore.data.images import natural_order, read_image, unreadable
from encore.data.named import NamedSet
from encore.data.resizing import Size

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
_RECORD = 1 + 3 * SIDE * SIDE
"""Bytes of a picture in the binary version: its label, then its red, green and blue planes."""

BATCHES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
_BINARY = "cifar-10-binary.tar.gz"
_DAMAGE = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError)


class Cifar10(NamedSet):
    """60,000 small colour pictures in ten classes."""

    name = "cifar10"
    title = "CIFAR-10: small colour pictures, 10 classes, 50000/10000 of 32×32"
    task = "classification"
    licence = "free for research"
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"

    def open(self, path: Path | None, *, image_size: Size | None, seed: int) -> DataSplits:
        """Train and test as given; a seeded tenth of train becomes val."""
        assert path is not None
        parts = _parts_at(path)
        sizes = "/".join(f"{len(part):,}" for part in parts.values())
        return assembled(parts, self.name, f"CIFAR-10 ({sizes} pictures), {SIDE} × {SIDE} pixels", seed)

    def recognises(self, path: Path) -> bool:
        """Archives or binary batches of the set."""
        return path.is_dir() and (_picture_archives(path) is not None or bool(_batches_in(path)))

    def download(self, destination: Path, url: str, progress: ProgressReporter) -> None:
        """Fetch the authors' archive, which is read as it is."""
        download_file(url, destination / _BINARY, progress)


def _parts_at(path: Path) -> dict[str, ClassificationDataset]:
    archives = _picture_archives(path)
    if archives is not None:
        return {part: _from_pictures(archive, part) for part, archive in archives.items()}
    if _batches_in(path):
        return {part: _from_batches(path, part) for part in BATCHES}
    if path.is_dir() and is_in_class_folders(path):
        return open_class_folders(path)
    raise DataError(
        f"{path} holds no CIFAR-10", f"due are {_BINARY}, or cifar10_train*.tar* and cifar10_test*.tar* with pictures"
    )


def _picture_archives(path: Path) -> dict[str, Path] | None:
    found = {part: sorted(path.glob(f"cifar10_{part}*.tar*")) for part in BATCHES}
    return {part: files[0] for part, files in found.items()} if all(found.values()) else None


def _batches_in(path: Path) -> Path | None:
    """The folder with the binary batches, or their archive."""
    for folder in (path, path / "cifar-10-batches-bin"):
        if (folder / BATCHES["test"][0]).is_file():
            return folder
    archive = path if path.name.endswith(_BINARY) else path / _BINARY
    return archive if archive.is_file() else None


def _from_batches(path: Path, part: str) -> LabelledArrays:
    place = _batches_in(path)
    assert place is not None
    if place.is_dir():
        try:
            contents = {name: (place / name).read_bytes() for name in BATCHES[part]}
        except FileNotFoundError as error:
            raise DataError(f"{error.filename} does not exist", "get the set again: encore data get cifar10") from None
        except OSError as error:
            raise unreadable(place, error) from None
    else:
        members = {PurePosixPath(name).name: content for name, content in _members(place)}
        missing = [name for name in BATCHES[part] if name not in members]
        if missing:
            raise DataError(f"{place} holds no {missing[0]}", "download it again")
        contents = {name: members[name] for name in BATCHES[part]}
    for name, content in contents.items():
        if len(content) % _RECORD or not content:
            raise DataError(f"{place}: {name} is truncated ({len(content)} bytes)", "download it again")
    records = np.frombuffer(b"".join(contents.values()), np.uint8).reshape(-1, _RECORD)
    if records[:, 0].max() >= len(CLASSES):
        raise DataError(f"{place} holds a class beyond {len(CLASSES) - 1}: it is not CIFAR-10", "download it again")
    images = records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return LabelledArrays(np.ascontiguousarray(images), records[:, 0], CLASSES, f"cifar10_{part}")


def _from_pictures(archive: Path, part: str) -> LabelledArrays:
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    for name, content in sorted(_members(archive), key=lambda member: natural_order(member[0])):
        label = PurePosixPath(name).parent.name
        if label not in CLASSES:
            raise DataError(f"{archive} holds {name}, which is in none of CIFAR-10's classes", "download it again")
        image = read_image(content, f"{name} in {archive}")
        if tuple(image.shape) != (3, SIDE, SIDE):
            raise DataError(f"{name} in {archive} is of shape {tuple(image.shape)}", f"due is {SIDE} × {SIDE} pixels")
        images.append(image.permute(1, 2, 0).numpy())
        labels.append(CLASSES.index(label))
    if not images:
        raise DataError(f"{archive} holds no pictures", "download it again")
    return LabelledArrays(np.stack(images), labels, CLASSES, f"cifar10_{part}")


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files in a tar archive.

    Raises:
        DataError: it is damaged.
    """
    try:
        with tarfile.open(archive) as file:
            for member in file:
                opened = file.extractfile(member) if member.isfile() else None
                if opened is not None and not PurePosixPath(member.name).name.startswith("."):
                    yield member.name, opened.read()
    except _DAMAGE as error:
        raise DataError(f"{archive} is damaged ({error})", "download it again") from error
    except OSError as error:
        raise unreadable(archive, error) from None


SET = Cifar10()
