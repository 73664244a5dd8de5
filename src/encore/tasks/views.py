"""Datasets as a model sees them: pictures at one size, with or without chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from encore.data.contracts import ImageDataset
from encore.data.resizing import Size, labels_of, sizes_of
from encore.nn.model import EncoreModel, Preprocessing

LARGEST_OWN_SIZE = 256
"""Up to this many pixels a side, pictures of one size are taken as they are."""

USUAL_SIZE = (224, 224)
"""What others are brought to."""


def natural_size(dataset: ImageDataset) -> Size:
    """The pictures' own size where all have one of at most 256 pixels a side, else 224×224."""
    found = set(sizes_of(dataset))
    own = next(iter(found))
    return own if len(found) == 1 and max(own) <= LARGEST_OWN_SIZE else USUAL_SIZE


def as_input(model: EncoreModel, images: Tensor) -> Tensor:
    """What `model.preprocess` makes of pictures that were cropped and resized already, by `AsSeen` or at random.

    Rows of a table (B, D), which have no size, are preprocessed as they are.
    """
    if images.ndim == 2:
        return model.preprocess(images)
    inputs = replace(model.preprocessing, size=None)(images.to(model.device, non_blocking=True))
    return inputs.to(next(model.parameters()).dtype)


class AsSeen:
    """A dataset whose pictures are cropped and resized as a model sees them."""

    def __init__(self, dataset: ImageDataset, preprocessing: Preprocessing) -> None:
        self.dataset, self.preprocessing = dataset, preprocessing
        self.classes = dataset.classes
        self.labels = labels_of(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """The sample, its image (3, *size) uint8."""
        sample = self.dataset[index]
        return {**sample, "image": self.preprocessing.picture(sample["image"])}

    @property
    def sizes(self) -> list[Size]:
        """The size of every sample."""
        assert self.preprocessing.size is not None
        return [self.preprocessing.size] * len(self)


class ByEpoch:
    """A dataset that is asked for (epoch, index) and answers alike in every epoch."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        """The sample."""
        return self.dataset[key[1]]
