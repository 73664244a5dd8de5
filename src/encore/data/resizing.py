"""Samples at another size, and samples kept in memory: pictures are averaged, masks are picked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from encore.base.errors import ConfigurationError
from encore.data.contracts import DataSplits, ImageDataset

Size = tuple[int, int]
"""(height, width) in pixels."""

KEEP_BYTES = 512 * 2**20
"""`fit_sizes` keeps a data set in memory if all its parts, decoded, take at most this: 512 MiB. CamVid at
360 × 480 pixels (462 MiB) just fits, at 90 × 120 it takes 29 MiB."""


def resize_image(image: Tensor, size: Size) -> Tensor:
    """(3, H, W) uint8 → (3, *size) uint8, bilinear with antialiasing."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    values = image.unsqueeze(0).to(torch.float32)
    resized = F.interpolate(values, size, mode="bilinear", antialias=True, align_corners=False)
    return resized.round_().clamp_(0, 255).to(torch.uint8).squeeze(0)


def resize_mask(mask: Tensor, size: Size) -> Tensor:
    """(H, W) uint8 → `size`: each pixel takes the class under its centre, so that no class is invented."""
    if tuple(mask.shape) == tuple(size):
        return mask
    return F.interpolate(mask[None, None], size, mode="nearest-exact")[0, 0]


class Resized:
    """A dataset whose samples all have one size.

    Args:
        dataset: of any sizes.
        size: (height, width) of image and mask.

    Raises:
        ConfigurationError: a size below 1.
    """

    def __init__(self, dataset: ImageDataset, size: Size) -> None:
        if min(size) < 1:
            raise ConfigurationError(f"the image size {size} is none", "give height and width of at least 1")
        self.dataset, self.size = dataset, (int(size[0]), int(size[1]))
        self.classes = dataset.classes
        self.labels = labels_of(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """The sample with image (3, *size) and, where it has one, mask `size`, both uint8."""
        sample = {**self.dataset[index]}
        sample["image"] = resize_image(sample["image"], self.size)
        if "mask" in sample:
            sample["mask"] = resize_mask(sample["mask"], self.size)
        return sample

    @property
    def sizes(self) -> list[Size]:
        """The size of every sample."""
        return [self.size] * len(self)


class Kept:
    """A dataset that reads every sample once and then has it in memory.

    Samples are kept as they are first asked for, per process: each worker of a DataLoader keeps its own.
    The tensors that come out are shared with the store; do not write into them.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset
        self.classes = dataset.classes
        self.labels = labels_of(dataset)
        self._kept: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """The sample, read on first use."""
        if index not in self._kept:
            self._kept[index] = self.dataset[index]
        return self._kept[index].copy()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": {}}

    @property
    def sizes(self) -> list[Size]:
        """(height, width) of every sample."""
        return sizes_of(self.dataset)


def labels_of(dataset: ImageDataset) -> tuple[int, ...] | None:
    """The class index of every sample, where the dataset has one class per sample and knows them unread."""
    labels = getattr(dataset, "labels", None)
    return None if labels is None else tuple(labels)


def sizes_of(dataset: ImageDataset) -> list[Size]:
    """(height, width) of every sample: what `dataset.sizes` says, else by looking at each."""
    known: Iterable[Size] | None = getattr(dataset, "sizes", None)
    if known is not None:
        return list(known)
    shapes = (dataset[index]["image"].shape for index in range(len(dataset)))
    return [(int(shape[1]), int(shape[2])) for shape in shapes]


def most_common_size(dataset: ImageDataset) -> Size:
    """The (height, width) that most samples have; of equally frequent ones the first to occur."""
    return Counter(sizes_of(dataset)).most_common(1)[0][0]


def fit_sizes(splits: DataSplits, image_size: Size | None) -> DataSplits:
    """Bring all parts to one size, so that samples can be stacked, and keep small sets in memory.

    Args:
        splits: parts of any sizes.
        image_size: (height, width); None takes samples as they are if they agree, and the most common size
            of the training part where they differ.

    Returns:
        The splits; where samples were resized, `source` says to what.
    """
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    found = {size for part in parts.values() for size in sizes_of(part)}
    source = splits.source
    size = image_size or most_common_size(splits.train)
    if found != {size}:
        parts = {name: Resized(part, size) for name, part in parts.items()}
        source = f"{source}; resized to {size[0]} × {size[1]}".removeprefix("; ")
    return kept_if_small(replace(splits, source=source, **parts))


def kept_if_small(splits: DataSplits) -> DataSplits:
    """Keep all parts in memory if they take at most `KEEP_BYTES`, decoded."""
    if sum(decoded_bytes(part) for part in (splits.train, splits.val, splits.test)) > KEEP_BYTES:
        return splits
    return replace(splits, train=Kept(splits.train), val=Kept(splits.val), test=Kept(splits.test))


def decoded_bytes(dataset: ImageDataset) -> int:
    """Bytes of all images and masks of `dataset` in memory."""
    return sum(4 * height * width for height, width in sizes_of(dataset))
