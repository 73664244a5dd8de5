"""Streets as a data set: as many pictures as one asks for, none of them stored."""

from __future__ import annotations

from operator import index as exactly

import torch

from encore.base.errors import DataError
from encore.data.contracts import DataSplits, SegmentationSample
from encore.data.streets.classes import CLASSES, COLOURS
from encore.data.streets.scene import Scene, check_size, render_scene

SEEDS_APART = 2**32
"""Scene seeds of one data set lie below this and are added to a multiple of it."""


class Streets:
    """Pictures of streets with their masks; a map-style `SegmentationDataset`.

    Sample `index` is decided by `seed` and `index` alone: it is the same on every machine, in every process
    and in whatever order it is asked for.

    Args:
        num_samples: length of the data set, at least 1.
        height, width: of the pictures in pixels, at least 16.
        seed: data sets of different seeds share no picture.

    Raises:
        DataError: `num_samples`, `height` or `width` is too small.

    Example:
        >>> from encore.data.streets import Streets
        >>> sample = Streets(100, seed=3)[7]
        >>> tuple(sample["image"].shape), tuple(sample["mask"].shape), sample["name"]
        ((3, 96, 128), (96, 128), 'streets_3_00007')
    """

    classes: tuple[str, ...] = CLASSES
    colours: tuple[tuple[int, int, int], ...] = COLOURS

    def __init__(self, num_samples: int, *, height: int = 96, width: int = 128, seed: int = 0) -> None:
        if num_samples < 1:
            raise DataError(f"Streets of {num_samples} samples is empty", "ask for 1 sample at least")
        check_size(height, width)
        # NumPy's integers become Python's, which do not overflow.
        self.num_samples, self.height, self.width = exactly(num_samples), exactly(height), exactly(width)
        self.seed = exactly(seed)

    def __len__(self) -> int:
        return self.num_samples

    def name(self, index: int) -> str:
        """What sample `index` is called.

        Raises:
            IndexError: there is no such sample.
        """
        return f"streets_{self.seed}_{self._number(index):05d}"

    def scene(self, index: int) -> Scene:
        """Everything known of sample `index` (0…len-1; negative ones count from the end).

        Raises:
            IndexError: there is no such sample.
        """
        return render_scene(self.seed * SEEDS_APART + self._number(index), self.height, self.width)

    def __getitem__(self, index: int) -> SegmentationSample:
        """Image (3, H, W) uint8 RGB, mask (H, W) uint8 (class index or 255), name."""
        scene = self.scene(index)
        return {
            "image": torch.from_numpy(scene.image).permute(2, 0, 1).contiguous(),
            "mask": torch.from_numpy(scene.mask),
            "name": self.name(index),
        }

    def _number(self, index: int) -> int:
        """`index` counted from the start."""
        if not -self.num_samples <= index < self.num_samples:
            raise IndexError(f"index {index} is out of range for {self.num_samples} samples")
        return exactly(index) % self.num_samples


def streets_splits(
    *,
    height: int = 96,
    width: int = 128,
    train: int = 600,
    val: int = 100,
    test: int = 200,
    seed: int = 0,
) -> DataSplits:
    """Three `Streets` that share no picture.

    Args:
        height, width: of the pictures in pixels, at least 16.
        train, val, test: number of samples in each part, at least 1.
        seed: different seeds give different pictures in every part.

    Raises:
        DataError: a number is too small.
    """
    parts = [
        Streets(count, height=height, width=width, seed=3 * seed + part)
        for part, count in enumerate((train, val, test))
    ]
    return DataSplits(
        name="streets",
        train=parts[0],
        val=parts[1],
        test=parts[2],
        classes=CLASSES,
        origin=f"rendered with seeds {3 * seed}, {3 * seed + 1} and {3 * seed + 2}",
        source=f"Streets, Encore's renderer, at {height} × {width} pixels, seed {seed}",
        embedded=True,
        colours=COLOURS,
    )
