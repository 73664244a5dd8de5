"""Pairs of handwritten digits side by side: the same class, or not.

To tell, a network has to relate two places of a picture; neither half alone says anything of the answer. The digits
are scikit-learn's; those of the test part occur in no other pair.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encore.data.classification_arrays import LabelledArrays
from encore.data.contracts import DataSplits
from encore.data.named import NamedSet
from encore.data.resizing import Size
from encore.data.sets.digits import arrays

CLASSES = ("different", "same")
SAMPLES = {"train": 25_600, "val": 1_000, "test": 2_000}
"""Pairs in each part where nothing else is asked for."""


class DigitPairs(NamedSet):
    """Pictures of 8×16 with a digit in each half."""

    name = "digit_pairs"
    title = "Digit pairs: two of scikit-learn's digits, of the same class or not, 8×16"
    task = "classification"
    licence = "CC BY 4.0"
    embedded = True

    def open(self, path: Path | None, *, image_size: Size | None, seed: int) -> DataSplits:
        """The same pairs on every machine; see `open_digit_pairs`."""
        return open_digit_pairs()


def open_digit_pairs(
    *, train: int = SAMPLES["train"], val: int = SAMPLES["val"], test: int = SAMPLES["test"]
) -> DataSplits:
    """Pairs drawn with seeds 0, 1 and 2 for the three parts; half of them are of one class.

    Args:
        train, val: number of pairs of the digits that are not held out.
        test: number of pairs of every fourth digit.
    """
    images, labels = arrays()
    held_out = np.arange(len(images)) % 4 == 0
    known, unknown = (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])
    return DataSplits(
        name="digit_pairs",
        train=_pairs(*known, train, seed=0, name="train"),
        val=_pairs(*known, val, seed=1, name="val"),
        test=_pairs(*unknown, test, seed=2, name="test"),
        classes=CLASSES,
        origin="given",
        source="pairs of scikit-learn's handwritten digits, 8 × 16 pixels, seeds 0, 1 and 2; test pairs are of digits "
        "that are in no other part",
        embedded=True,
    )


def _pairs(images: NDArray[np.uint8], labels: NDArray[np.int64], count: int, *, seed: int, name: str) -> LabelledArrays:
    """`count` pairs: a digit at random, and beside it one of its class or one of another class."""
    generator = np.random.default_rng(seed)
    same = np.arange(count) % 2
    generator.shuffle(same)
    left = generator.integers(len(images), size=count)
    other_classes = (labels[left] + generator.integers(1, 10, size=count)) % 10
    wanted = np.where(same == 1, labels[left], other_classes)
    right = np.empty(count, dtype=np.int64)
    for label in range(10):
        places = np.flatnonzero(wanted == label)
        right[places] = generator.choice(np.flatnonzero(labels == label), size=len(places))
    return LabelledArrays(np.concatenate([images[left], images[right]], axis=2), same, CLASSES, f"digit_pairs_{name}")


SET = DigitPairs()
