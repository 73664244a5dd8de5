"""Classification data in one `.npz`.

It has `images` (N, H, W, 3) or (N, H, W) uint8, `labels` (N,) integers and, if wanted, `classes` (K,) text; or, with
parts of its own, `x_train`, `y_train`, `x_test` and `y_test`, as Keras calls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from encore.base.errors import DataError
from encore.data.arrays import names_in, read_arrays, texts
from encore.data.class_names import numbered_classes, parse_classes
from encore.data.contracts import ClassificationDataset, ClassificationSample
from encore.data.resizing import Size

KERAS = ("x_train", "y_train", "x_test", "y_test")


class LabelledArrays:
    """Pictures and labels in two arrays; a map-style `ClassificationDataset`.

    Args:
        images: (N, H, W, 3) or, grey, (N, H, W) uint8.
        labels: (N,) class indices.
        classes: their names.
        name: what the samples are called, with their number.
    """

    def __init__(
        self, images: NDArray[np.uint8], labels: Sequence[int] | NDArray[Any], classes: tuple[str, ...], name: str
    ) -> None:
        self.images, self.classes, self.name = images, classes, name
        self.labels = tuple(int(label) for label in labels)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> ClassificationSample:
        """Image (3, H, W) uint8 RGB, label, name."""
        number = range(len(self))[index]
        image = torch.from_numpy(self.images[number].copy())
        image = image.expand(3, -1, -1).contiguous() if image.ndim == 2 else image.permute(2, 0, 1).contiguous()
        return {"image": image, "name": f"{self.name}_{number:05d}", "label": self.labels[number]}

    @property
    def sizes(self) -> list[Size]:
        """(height, width) of every sample."""
        height, width = self.images.shape[1:3]
        return [(height, width)] * len(self)


def open_labelled_arrays(path: Path | str, classes: tuple[str, ...] | None = None) -> dict[str, ClassificationDataset]:
    """Open an `.npz` as described above; labels are checked at once.

    Args:
        path: the file; nothing in it is unpickled.
        classes: names of the classes, where the file has none.

    Returns:
        `{"all": …}`, or the parts `train` and `test`.

    Raises:
        DataError: damaged, pickled, without the arrays, or of other shapes, types and values.
    """
    path = Path(path)
    in_parts = set(KERAS) <= set(names_in(path))
    arrays = read_arrays(path, KERAS if in_parts else ("images", "labels"), ("classes",))
    pairs = (
        {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")} if in_parts else {"all": ("images", "labels")}
    )
    for images, labels in pairs.values():
        _check_shapes(path, images, arrays[images], labels, arrays[labels])
    if "classes" in arrays:
        classes = parse_classes(texts(arrays["classes"], path), f"{path}: classes").names
    found = np.unique(np.concatenate([arrays[labels] for _, labels in pairs.values()]))
    if classes is None and found[-1] + 1 > 2 * len(found) + 8:
        raise DataError(
            f"{path} holds labels up to {found[-1]} of {len(found)} classes",
            "number the classes 0, 1, 2 …, or name them",
        )
    classes = classes or numbered_classes(int(found[-1]) + 1)
    if found[0] < 0 or found[-1] >= len(classes):
        raise DataError(
            f"{path} holds the label {found[0] if found[0] < 0 else found[-1]}, "
            f"but {len(classes)} classes have the indices 0…{len(classes) - 1}",
            "number the classes from 0, or name more of them",
        )
    if len(classes) < 2:
        raise DataError(f"{path} has labels of one class only", "give two at least")
    return {
        part: LabelledArrays(arrays[images], arrays[labels], classes, f"{path.stem}_{part}".removesuffix("_all"))
        for part, (images, labels) in pairs.items()
    }


def check_pictures(path: Path, name: str, images: NDArray[Any]) -> None:
    """See that an array holds grey or RGB pictures.

    Raises:
        DataError: it is of another type or shape, or empty.
    """
    grey, colour = images.ndim == 3, images.ndim == 4 and images.shape[3] == 3
    if not (grey or colour) or 0 in images.shape[1:] or images.dtype != np.uint8:
        raise DataError(
            f"{path}: {name} is {images.dtype} of shape {images.shape}",
            "due is uint8 (N, H, W, 3) in RGB, or (N, H, W) in grey, 0…255",
        )
    if len(images) == 0:
        raise DataError(f"{path}: {name} holds no samples", "save at least 3")


def _check_shapes(path: Path, images_name: str, images: NDArray[Any], name: str, labels: NDArray[Any]) -> None:
    check_pictures(path, images_name, images)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iub":
        raise DataError(
            f"{path}: {name} is {labels.dtype} of shape {labels.shape}",
            f"due is an integer type of shape ({len(images)},)"
            + ("; number names with numpy.unique(…, return_inverse=True)" if labels.dtype.kind in "USO" else ""),
        )
