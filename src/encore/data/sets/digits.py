"""The handwritten digits that scikit-learn ships (UCI, Alpaydin and Kaynak): 1,797 pictures of 8×8."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from encore.data.classification import assembled
from encore.data.classification_arrays import LabelledArrays
from encore.data.contracts import DataSplits
from encore.data.named import NamedSet
from encore.data.resizing import Size


class Digits(NamedSet):
    """Small real pictures that are there on every machine; every fourth is held out for testing."""

    name = "digits"
    title = "Digits: handwritten digits from scikit-learn, 10 classes, 1797 pictures of 8×8"
    task = "classification"
    licence = "CC BY 4.0"
    embedded = True

    def open(self, path: Path | None, *, image_size: Size | None, seed: int) -> DataSplits:
        """Every fourth picture is the test part; a seeded tenth of the rest is val."""
        images, labels = arrays()
        held_out = np.arange(len(images)) % 4 == 0
        classes = tuple("0123456789")
        parts = {
            "train": LabelledArrays(images[~held_out], labels[~held_out], classes, "digits_train"),
            "test": LabelledArrays(images[held_out], labels[held_out], classes, "digits_test"),
        }
        return assembled(parts, self.name, "handwritten digits of scikit-learn, 8 × 8 pixels", seed, embedded=True)


def arrays() -> tuple[np.ndarray[tuple[int, int, int], np.dtype[np.uint8]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Pictures (1797, 8, 8) uint8, 0…255, and labels (1797,)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    scaled = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return scaled, labels.astype(np.int64)


SET = Digits()
