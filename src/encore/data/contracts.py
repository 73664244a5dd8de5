"""What a sample of each task is. Every source (folder, named set, Streets) yields exactly this.

Images are `uint8` RGB of shape `(3, H, W)`, values 0…255; a model turns them into what it wants by
`model.preprocess`. Masks are `uint8` of shape `(H, W)`: class index 0…K-1, or `VOID` where no class is
annotated. Samples are plain dictionaries of tensors and strings, so that PyTorch's loaders collate them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict, runtime_checkable

from torch import Tensor

VOID = 255
"""The mask value of pixels that belong to no class; losses and metrics leave them out."""


class Samples(Protocol):
    """A map-style dataset of any task's samples; an augmented one is asked for (epoch, index)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> Any: ...


class ImageSample(TypedDict):
    """One picture of which nothing else is known."""

    image: Tensor
    """(3, H, W) uint8, RGB, 0…255."""
    name: str
    """Where it came from, without folder and suffix; names the files that `predict` writes."""


class ClassificationSample(ImageSample):
    """One picture with its class."""

    label: int
    """Class index, 0…K-1."""


class TabularSample(TypedDict):
    """One row of a table with its class."""

    features: Tensor
    """(D,) float32, finite: numbers in the table's own units, each level of a categorical column as 0 or 1."""
    label: int
    """Class index, 0…K-1."""
    name: str
    """Which row of which file it is."""


class SegmentationSample(ImageSample):
    """One picture with its class mask."""

    mask: Tensor
    """(H, W) uint8, class index or `VOID`."""


@runtime_checkable
class ImageDataset(Protocol):
    """A map-style dataset whose samples hold at least an `ImageSample`."""

    classes: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@runtime_checkable
class ClassificationDataset(Protocol):
    """A map-style dataset of `ClassificationSample`."""

    classes: tuple[str, ...]

    @property
    def labels(self) -> Sequence[int]:
        """The class index of every sample, known without reading pictures."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> ClassificationSample: ...


@runtime_checkable
class TabularDataset(Protocol):
    """A map-style dataset of `TabularSample`."""

    classes: tuple[str, ...]
    features: Tensor
    """(N, D) float32, of all rows at once."""

    @property
    def labels(self) -> Sequence[int]:
        """The class index of every row."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> TabularSample: ...


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
        classes: class names in index order; none of pictures without truth.
        origin: how the cut was made: `"given"` (the source has its own) or a sentence that lets it be
            repeated (`"seeded split 80/10/10, seed 0"`).
        source: what the data is, for the record: licence, resolution, or the renderer's seed.
        embedded: true where Encore made or ships the data itself.
        colours: of the classes in masks, where the source has its own.
        skipped: files that could not be read and were left out, where the task goes on without them.
        view: how a model is to see the samples, where a task has decided that with the data.
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
    skipped: tuple[str, ...] = ()
    view: Any = None

    def sizes(self) -> dict[str, int]:
        """Number of samples in each part."""
        return {"train": len(self.train), "val": len(self.val), "test": len(self.test)}


def names_of(samples: Iterable[ImageSample]) -> list[str]:
    """The names of `samples` in order."""
    return [sample["name"] for sample in samples]
