"""Pictures without truth: any folder of pictures, whatever its layout, for learning that needs no labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from encore.base.errors import DataError
from encore.base.progress import ProgressReporter, SilentProgress
from encore.data.arrays import names_in, read_arrays
from encore.data.classification_arrays import KERAS, LabelledArrays, check_pictures
from encore.data.contracts import DataSplits, ImageDataset, ImageSample
from encore.data.images import IMAGE_SUFFIXES, find_images, natural_order, read_image, unreadable
from encore.data.named import Roots, absent, existing, find_set_path, named_set, named_sets, require_pictures
from encore.data.resizing import Size, sizes_of
from encore.data.splits import PARTS, complete_parts, cut_whole

LAYOUT = "expected is a folder of pictures, however deep they lie, with or without train/, val/, test/"
SHOWN_SKIPPED = 3


class Images:
    """Picture files; a map-style dataset of `ImageSample`.

    Args:
        files: the pictures.
        sizes: (height, width) of each.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, files: Sequence[Path], sizes: Sequence[Size]) -> None:
        self.files, self.sizes = list(files), list(sizes)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> ImageSample:
        """Image (3, H, W) uint8 RGB, name.

        Raises:
            DataError: the file is damaged or gone.
        """
        file = self.files[index]
        return {"image": read_image(file), "name": file.stem}


class WithoutTruth:
    """The pictures of a dataset that knows more of them."""

    classes: tuple[str, ...] = ()

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> ImageSample:
        """Image (3, H, W) uint8 RGB, name."""
        sample = self.dataset[index]
        return {"image": sample["image"], "name": sample["name"]}

    @cached_property
    def sizes(self) -> list[Size]:
        """(height, width) of every sample."""
        return sizes_of(self.dataset)


def open_images(
    source: str, *, seed: int = 0, roots: Roots | None = None, progress: ProgressReporter | None = None
) -> DataSplits:
    """Open pictures without truth, cut into train, val and test, at their own sizes.

    Every file is read once; those that cannot be are left out and named in `DataSplits.skipped`, and a message tells
    how many there were.

    Args:
        source: the name of a set of any task, whose truth is left aside; a folder of pictures at any depth (folders of
            classes are fine), with or without train/, val/, test/; an `.npz` with `images`, or with `x_train` and
            `x_test`.
        seed: of cuts that the source does not make itself.
        roots: folders of named sets.
        progress: told of the reading.

    Raises:
        DataError: nothing is there, no picture can be read, or there are too few.
    """
    progress = progress or SilentProgress()
    skipped: list[str] = []
    if source in named_sets():
        return _without_truth(source, seed, roots or {})
    path = existing(source, LAYOUT)
    if path.is_dir():
        parts = {part: path / part for part in PARTS if (path / part).is_dir()} or {"all": path}
        beside = _beside_parts(path) if "all" not in parts else []
        if beside:
            raise DataError(
                f"{path} has {', '.join([*parts, *beside[:3]])} side by side",
                "name the folder that is meant, or move the pictures below train/, val/ and test/",
            )
        found: dict[str, ImageDataset] = {}
        for part, place in parts.items():
            found[part] = readable_images(place, progress, skipped)
        what = "a folder of pictures"
    elif path.suffix.lower() == ".npz":
        found, what = _arrays_of(path), "arrays in an .npz"
    else:
        raise DataError(f"{path} is no folder and no .npz", LAYOUT)
    if skipped:
        shown = "; ".join(skipped[:SHOWN_SKIPPED]) + "; …" * (len(skipped) > SHOWN_SKIPPED)
        progress.message(f"{len(skipped)} file{'s' * (len(skipped) > 1)} skipped: {shown}")
        what += f"; {len(skipped)} unreadable file{'s' * (len(skipped) > 1)} left out"
    cut = cut_whole(found["all"], seed, str(path)) if "all" in found else complete_parts(found, seed, str(path))
    return DataSplits(
        name=str(path),
        train=cut.train,
        val=cut.val,
        test=cut.test,
        classes=(),
        origin=cut.origin,
        source=what,
        skipped=tuple(skipped),
    )


def readable_images(folder: Path, progress: ProgressReporter, skipped: list[str]) -> Images:
    """The pictures below `folder` that can be decoded; why others cannot goes to `skipped`, one line a file.

    Raises:
        DataError: there are no pictures, or none that can be read.
    """
    files = _images_below(folder)
    if not files:
        raise DataError(f"{folder} holds no pictures", LAYOUT)
    good: list[Path] = []
    sizes: list[Size] = []
    before = len(skipped)
    for step, file in enumerate(files, start=1):
        try:
            image = read_image(file)
        except DataError as error:
            skipped.append(error.problem)
        else:
            good.append(file)
            sizes.append((int(image.shape[1]), int(image.shape[2])))
        progress.update("checking pictures", step, len(files))
    if not good:
        raise DataError(
            f"none of the {len(files)} pictures in {folder} can be read ({skipped[before]})", "give some that can be"
        )
    return Images(good, sizes)


def _beside_parts(folder: Path) -> list[str]:
    """Names of folders and pictures in `folder` that belong to no part."""
    try:
        names = sorted(one.name for one in folder.iterdir() if one.name not in PARTS and not one.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from None
    return [name for name in names if (folder / name).is_dir() or Path(name).suffix.lower() in IMAGE_SUFFIXES]


def _images_below(folder: Path) -> list[Path]:
    """All pictures at any depth, hidden folders left out, in natural order."""
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise unreadable(Path(error.filename or folder), error)

    for place, folders, _ in os.walk(folder, onerror=refuse):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=natural_order)
        found += find_images(Path(place))
    return found


def _without_truth(name: str, seed: int, roots: Roots) -> DataSplits:
    known = named_set(name)
    require_pictures(known)
    path = None if known.embedded else find_set_path(name, roots)
    if path is None and not known.embedded:
        raise absent(name)
    splits = known.open(path, image_size=None, seed=seed)
    return DataSplits(
        name=splits.name,
        train=WithoutTruth(splits.train),
        val=WithoutTruth(splits.val),
        test=WithoutTruth(splits.test),
        classes=(),
        origin=splits.origin,
        source=splits.source,
        embedded=splits.embedded,
    )


def _arrays_of(path: Path) -> dict[str, ImageDataset]:
    keras = [name for name in (KERAS[0], KERAS[2]) if name in names_in(path)]
    arrays = read_arrays(path, keras or ("images",))
    parts: dict[str, ImageDataset] = {}
    for name, images in arrays.items():
        check_pictures(path, name, images)
        part = "all" if name == "images" else name.removeprefix("x_")
        part = "all" if keras == [KERAS[0]] else part
        parts[part] = WithoutTruth(LabelledArrays(images, np.zeros(len(images), int), (), f"{path.stem}_{part}"))
    return parts
