"""MNIST's file format, and the sets that are published in it.

An IDX file is a magic number (two zero bytes, a type, the number of dimensions), each length as a big-endian 32-bit
integer, then the values. Source: http://yann.lecun.com/exdb/mnist, section "File formats for the MNIST database".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encore.base.errors import DataError
from encore.base.progress import ProgressReporter
from encore.data.classification import assembled
from encore.data.classification_arrays import LabelledArrays, open_labelled_arrays
from encore.data.contracts import ClassificationDataset, DataSplits
from encore.data.downloads import download_file
from encore.data.images import unreadable
from encore.data.named import NamedSet
from encore.data.resizing import Size

_UINT8 = 8
"""The type byte of unsigned bytes."""

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""Pictures and labels of each part."""


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, compressed (`.gz`) or not.

    Raises:
        DataError: missing, truncated, or no such file.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "check the path") from None
    except (gzip.BadGzipFile, zlib.error, EOFError, struct.error) as error:
        raise DataError(f"{path} is damaged ({error})", "download it again") from error
    except OSError as error:
        raise unreadable(path, error) from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UINT8:
        raise DataError(f"{path} is no IDX file of bytes", "download it again")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    lengths = struct.unpack(f">{dimensions}I", content[4:start]) if len(content) >= start else ()
    if len(content) != start + math.prod(lengths) or not lengths:
        raise DataError(f"{path} is truncated: {len(content)} bytes, its head promises more", "download it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(lengths)


class IdxSet(NamedSet):
    """Grey pictures of 28×28 pixels in ten classes, 60,000 for training and 10,000 for testing.

    Read are the four published files, compressed or not, or an `.npz` with `x_train`, `y_train`, `x_test`, `y_test`.

    Attributes:
        classes: their names.
    """

    task = "classification"
    classes: tuple[str, ...]

    def open(self, path: Path | None, *, image_size: Size | None, seed: int) -> DataSplits:
        """Train and test as given; a seeded tenth of train becomes val."""
        assert path is not None
        arrays = self._arrays_at(path)
        parts = open_labelled_arrays(arrays, self.classes) if arrays else self._idx_parts(path)
        return assembled(parts, self.name, f"{self.title.partition(':')[0]}, {self.licence}", seed)

    def recognises(self, path: Path) -> bool:
        """A folder with an `.npz` of the set's name."""
        return path.is_dir() and self._arrays_at(path) is not None

    def download(self, destination: Path, url: str, progress: ProgressReporter) -> None:
        """Fetch the four files from below `url`."""
        for names in FILES.values():
            for name in names:
                download_file(f"{url.rstrip('/')}/{name}.gz", destination / f"{name}.gz", progress)

    def _arrays_at(self, path: Path) -> Path | None:
        if path.suffix == ".npz":
            return path
        found = sorted(path.glob(f"{self.name}*.npz"))
        return found[0] if found else None

    def _idx_parts(self, path: Path) -> dict[str, ClassificationDataset]:
        parts: dict[str, ClassificationDataset] = {}
        for part, names in FILES.items():
            images, labels = (read_idx(self._file(path, name)) for name in names)
            if images.ndim != 3 or labels.shape != images.shape[:1] or labels.max(initial=0) >= len(self.classes):
                raise DataError(
                    f"{path}: {names[0]} is of shape {images.shape} and {names[1]} of shape {labels.shape}",
                    "download the set again",
                )
            parts[part] = LabelledArrays(images, labels, self.classes, f"{self.name}_{part}")
        return parts

    def _file(self, path: Path, name: str) -> Path:
        for file in (path / f"{name}.gz", path / name):
            if file.is_file():
                return file
        raise DataError(f"{path} holds no {name}.gz", f"get the set with: encore data get {self.name}")
