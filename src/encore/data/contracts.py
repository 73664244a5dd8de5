"""What a sample of each task is. Every source (folder, named set, Streets) yields exactly this.

Images are `uint8` RGB of shape `(3, H, W)`, values 0…255; a model turns them into what it wants by
`model.preprocess`. Masks are `uint8` of shape `(H, W)`: class index 0…K-1, or `VOID` where no class is
annotated. Samples are plain dictionaries of tensors and strings, so that PyTorch's loaders collate them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict, runtime_checkable

from torch import Tensor

VOID = 255
"""The mask value of pixels that belong to no class; losses and metrics leave them out."""


class Samples(Protocol):
    """A map-style dataset of any task's samples; an augmented one is asked for (epoch, index)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> Any: ...


class SegmentationSample(TypedDict):
    """One picture with its class mask."""

    image: Tensor
    """(3, H, W) uint8, RGB, 0…255."""
    mask: Tensor
    """(H, W) uint8, class index or `VOID`."""
    name: str
    """Where it came from, without folder and suffix; names the files that `predict` writes."""


@runtime_checkable
class SegmentationDataset(Protocol):
    """A map-style dataset of `SegmentationSample`."""

    classes: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> SegmentationSample: ...


@dataclass(frozen=True)
class DataSplits:
    """A data set cut into the three parts that a run needs.

    Attributes:
        name: the registered name (`camvid`, `streets`) or the folder's path.
        train, val, test: map-style datasets of the task's sample type.
        classes: class names in index order.
        origin: how the cut was made: `"given"` (the source has its own) or a sentence that lets it be
            repeated (`"seeded split 80/10/10, seed 0"`).
        source: what the data is, for the record: licence, resolution, or the renderer's seed.
        embedded: true where Encore made or ships the data itself.
    """

    name: str
    train: Any
    val: Any
    test: Any
    classes: tuple[str, ...]
    origin: str
    source: str = ""
    embedded: bool = False
    colours: tuple[tuple[int, int, int], ...] | None = field(default=None)

    def sizes(self) -> dict[str, int]:
        """Number of samples in each part."""
        return {"train": len(self.train), "val": len(self.val), "test": len(self.test)}


def names_of(samples: Iterable[SegmentationSample]) -> list[str]:
    """The names of `samples` in order."""
    return [sample["name"] for sample in samples]
