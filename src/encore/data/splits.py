"""Train, val and test out of what a source has; every cut can be repeated from its description."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from encore.base.errors import ConfigurationError, DataError
from encore.data.contracts import ImageDataset
from encore.data.resizing import Size, labels_of, sizes_of

PARTS = ("train", "val", "test")


def seeded_split(
    num_samples: int,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    labels: Sequence[int] | None = None,
) -> dict[str, list[int]]:
    """Cut 0…n-1 into train, val and test at random.

    Args:
        num_samples: n, at least 3: no part stays empty.
        fractions: shares of train, val and test; they sum to 1.
        seed: the same seed gives the same cut on every machine.
        labels: the class of every sample, so that each part has its share of every class.

    Returns:
        The indices of each part, ascending.

    Raises:
        DataError: fewer than 3 samples.
        ConfigurationError: the fractions are not positive or do not sum to 1.

    Example:
        >>> {part: len(indices) for part, indices in seeded_split(20).items()}
        {'train': 16, 'val': 2, 'test': 2}
    """
    if len(fractions) != 3 or min(fractions) <= 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise ConfigurationError(
            f"a split of {tuple(fractions)} is none", "give three positive fractions that sum to 1"
        )
    if num_samples < 3:
        raise DataError(
            f"{num_samples} sample{'s' * (num_samples != 1)} cannot be cut into train, val and test",
            "give at least 3, better some dozens",
        )
    num_val = max(round(fractions[1] * num_samples), 1)
    num_test = max(round(fractions[2] * num_samples), 1)
    num_train = max(num_samples - num_val - num_test, 1)
    num_val = min(num_val, num_samples - num_train - 1)
    order = shuffled(num_samples, seed, labels)
    return {
        "train": sorted(order[:num_train]),
        "val": sorted(order[num_train : num_train + num_val]),
        "test": sorted(order[num_train + num_val :]),
    }


def shuffled(num_samples: int, seed: int, labels: Sequence[int] | None = None) -> list[int]:
    """0…n-1 in a random order; with `labels`, one in which every stretch has its share of every class.

    A class of c samples has its j-th, in random order, at the place (j + ½) / c of the whole.
    """
    order: list[int] = torch.randperm(num_samples, generator=torch.Generator().manual_seed(seed)).tolist()
    if labels is None:
        return order
    sizes, met, places = Counter(labels), Counter[int](), {}
    for index in order:
        label = labels[index]
        places[index] = (met[label] + 0.5) / sizes[label]
        met[label] += 1
    return sorted(order, key=places.__getitem__)


class Subset:
    """Some samples of a dataset, with its classes, labels and sizes."""

    def __init__(self, dataset: ImageDataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, list(indices)
        self.classes = dataset.classes
        labels = labels_of(dataset)
        self.labels = None if labels is None else tuple(labels[index] for index in self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        """Sample `index` of the subset."""
        return self.dataset[self.indices[index]]

    @property
    def sizes(self) -> list[Size]:
        """(height, width) of every sample."""
        sizes = sizes_of(self.dataset)
        return [sizes[index] for index in self.indices]


def some(dataset: ImageDataset, count: int | None) -> ImageDataset:
    """`count` samples, every class with its share; the same ones every time. All of them, where there are no more."""
    if count is None or count >= len(dataset):
        return dataset
    return Subset(dataset, sorted(shuffled(len(dataset), 0, labels_of(dataset))[:count]))


@dataclass(frozen=True)
class Cut:
    """The three parts and how they came about, for `DataSplits.origin`."""

    train: ImageDataset
    val: ImageDataset
    test: ImageDataset
    origin: str


def cut_whole(dataset: ImageDataset, seed: int, where: str = "") -> Cut:
    """Cut a source without parts 80/10/10.

    Args:
        dataset: all samples.
        seed: of the cut.
        where: what errors call the source.

    Raises:
        DataError: fewer than 3 samples.
    """
    try:
        indices = seeded_split(len(dataset), seed=seed, labels=labels_of(dataset))
    except DataError as error:
        raise DataError(f"{where}: {error.problem}" if where else error.problem, error.remedy) from None
    train, val, test = (Subset(dataset, indices[part]) for part in PARTS)
    return Cut(train, val, test, f"seeded split 80/10/10, seed {seed}")


def complete_parts(parts: Mapping[str, ImageDataset], seed: int, where: str) -> Cut:
    """Complete the parts that a source has.

    - train, val, test: taken as they are.
    - train, test: a tenth of train becomes val.
    - train, val: val is measured last, as test, and a tenth of train becomes val. (With one part as both,
      the model would be picked on what it is then measured on.)
    - train alone: cut 80/10/10.

    Args:
        parts: by name (`train`, `val`, `test`).
        seed: of the cuts.
        where: what errors call the source.

    Raises:
        DataError: there is no train, or it has too few samples to be cut.
    """
    if "train" not in parts:
        there = ", ".join(f"{part}/" for part in parts)
        raise DataError(f"{where} has {there} but no train/", "put the training samples into train/")
    train, val, test = parts["train"], parts.get("val"), parts.get("test")
    if val is not None and test is not None:
        return Cut(train, val, test, "given")
    if val is None and test is None:
        cut = cut_whole(train, seed, f"{where}: train/")
        return Cut(cut.train, cut.val, cut.test, f"only train given: {cut.origin}")
    if len(train) < 2:
        raise DataError(f"{where}: train/ has 1 sample, none can be spared for val", "give val/ as well")
    num_val = max(round(0.1 * len(train)), 1)
    order = shuffled(len(train), seed, labels_of(train))
    carved = Subset(train, sorted(order[:num_val]))
    rest = Subset(train, sorted(order[num_val:]))
    tenth = f"val is a seeded tenth of train ({num_val} samples), seed {seed}"
    if test is not None:
        return Cut(rest, carved, test, f"train and test given; {tenth}")
    assert val is not None
    return Cut(rest, carved, val, f"train and val given; the given val serves as test, {tenth}")
