"""Segmentation data in one `.npz`.

It has `images` (N, H, W, 3) uint8, `masks` (N, H, W) integers and, if wanted, `classes` (K,) text, which says
what `classes.txt` says beside a folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encore.base.errors import DataError
from encore.data.arrays import read_arrays, texts
from encore.data.class_names import ClassNames, number_of_classes, numbered_classes, parse_classes
from encore.data.contracts import SegmentationDataset, SegmentationSample
from encore.data.images import class_indices
from encore.data.resizing import Size


class ArraySamples:
    """Images and masks in two arrays; a map-style `SegmentationDataset`.

    Args:
        images: (N, H, W, 3) uint8.
        masks: (N, H, W) uint8, class index or 255.
        classes: their names.
        name: what the samples are called, with their number.
    """

    def __init__(
        self, images: NDArray[np.uint8], masks: NDArray[np.uint8], classes: tuple[str, ...], name: str
    ) -> None:
        self.images, self.masks, self.classes, self.name = images, masks, classes, name

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> SegmentationSample:
        """Image (3, H, W) uint8 RGB, mask (H, W) uint8, name."""
        number = range(len(self))[index]
        image = torch.from_numpy(self.images[number].transpose(2, 0, 1).copy())
        mask = torch.from_numpy(self.masks[number].copy())
        return {"image": image, "mask": mask, "name": f"{self.name}_{number:05d}"}

    @property
    def sizes(self) -> list[Size]:
        """(height, width) of every sample."""
        _, height, width = self.masks.shape
        return [(height, width)] * len(self)


def open_arrays(path: Path | str, *, num_classes: int | None = None) -> SegmentationDataset:
    """Open an `.npz` as described above; masks are checked at once.

    Args:
        path: the file; nothing in it is unpickled.
        num_classes: how many there are, where neither `classes` nor the masks shall decide.

    Raises:
        DataError: damaged, pickled, without the arrays, or of other shapes, types and values.
    """
    path = Path(path)
    arrays = read_arrays(path, ("images", "masks"), ("classes",))
    images, masks = arrays["images"], arrays["masks"]
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:] or images.dtype != np.uint8:
        raise DataError(
            f"{path}: images are {images.dtype} of shape {images.shape}", "due is uint8 (N, H, W, 3), RGB, 0…255"
        )
    if masks.shape != images.shape[:3] or masks.dtype.kind not in "iub":
        raise DataError(
            f"{path}: masks are {masks.dtype} of shape {masks.shape}",
            f"due is an integer type of shape {images.shape[:3]}",
        )
    if len(images) == 0:
        raise DataError(f"{path} holds no samples", "save at least 3")
    masks = masks.astype(np.uint8) if masks.dtype == np.bool_ else masks
    if "classes" in arrays:
        classes = parse_classes(texts(arrays["classes"], path), f"{path}: classes")
    else:
        found = num_classes or number_of_classes(np.unique(masks), str(path))
        classes = ClassNames(numbered_classes(found))
    checked = class_indices(masks, len(classes.names), classes.void, f"{path}: masks").numpy()
    return ArraySamples(images, checked, classes.names, path.stem)
