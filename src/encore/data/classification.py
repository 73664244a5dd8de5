"""The one door through which all classification data comes in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from encore.base.errors import DataError
from encore.data.classification_arrays import open_labelled_arrays
from encore.data.classification_folder import LAYOUT, open_class_folders
from encore.data.contracts import ClassificationDataset, DataSplits
from encore.data.named import Roots, existing, held_out, named_splits
from encore.data.splits import complete_parts, cut_whole

TASK = "classification"


def open_classification(source: str, *, seed: int = 0, roots: Roots | None = None) -> DataSplits:
    """Open whatever a person calls their classification data, cut into train, val and test, at its own sizes.

    Args:
        source: the name of a set; or a path: a folder with one folder of pictures per class, with or without train/,
            val/, test/; an `.npz`; or a folder that holds a named set in one of its forms. A name wins over a folder
            of that name: write `./mnist` for the folder.
        seed: of cuts that the source does not make itself; each part gets its share of every class.
        roots: folders of named sets.

    Raises:
        DataError: nothing is there, or it cannot be used; the message says what and where.
    """
    named = named_splits(source, TASK, roots or {})
    if named is not None:
        return named
    path = existing(source, LAYOUT)
    parts = _parts_at(path)
    origin = "a folder of pictures per class" if path.is_dir() else "arrays in an .npz"
    return assembled(parts, str(path), origin, seed)


def open_classification_part(
    source: str, *, roots: Roots | None = None, cut_seed: int | None = None
) -> ClassificationDataset:
    """Open what is to be measured: the test part of a source that has one, else all of it, at its own sizes.

    Args:
        source, roots: as for `open_classification`.
        cut_seed: see `encore.data.named.held_out`.

    Raises:
        DataError: as for `open_classification`; a source with train/ alone.
    """
    named = named_splits(source, TASK, roots or {})
    if named is not None:
        return named.test
    path = existing(source, LAYOUT)
    dataset: ClassificationDataset = held_out(_parts_at(path), path, cut_seed)
    return dataset


def assembled(
    parts: Mapping[str, ClassificationDataset], name: str, source: str, seed: int, *, embedded: bool = False
) -> DataSplits:
    """The splits of a source that has these parts; those that are missing are cut.

    Raises:
        DataError: too few samples.
    """
    cut = cut_whole(parts["all"], seed, name) if "all" in parts else complete_parts(parts, seed, name)
    return DataSplits(
        name=name,
        train=cut.train,
        val=cut.val,
        test=cut.test,
        classes=cut.train.classes,
        origin=cut.origin,
        source=source,
        embedded=embedded,
    )


def _parts_at(path: Path) -> dict[str, ClassificationDataset]:
    if path.is_dir():
        return open_class_folders(path)
    if path.suffix.lower() == ".npz":
        return open_labelled_arrays(path)
    raise DataError(f"{path} is no folder and no .npz", LAYOUT)
