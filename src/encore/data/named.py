"""Named data sets (`camvid`, `streets`), and the one door through which all segmentation data comes in."""

from __future__ import annotations

import importlib
import os
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from encore.base.errors import DataError, UnknownNameError
from encore.base.progress import ProgressReporter
from encore.data.contracts import DataSplits, ImageDataset, SegmentationDataset
from encore.data.images import unreadable
from encore.data.resizing import Size, fit_sizes
from encore.data.segmentation_arrays import open_arrays
from encore.data.segmentation_folder import LAYOUT, open_folder
from encore.data.splits import complete_parts, cut_whole

Roots = Mapping[str, Path]
"""Where named sets lie, by name: what `--data NAME=PATH` said."""

DATA_VARIABLE = "ENCORE_DATA"
"""Environment variable that names a folder which holds data sets by name."""


class NamedSet(ABC):
    """One data set that Encore knows by name; `encore.data.sets.<name>` holds one as `SET`.

    Attributes:
        name: what commands call it.
        title: what it is, in words.
        task: the kind of work it is for.
        licence: the terms that its authors state.
        url: the public source, or None where Encore makes the data.
        embedded: true where Encore makes or ships the data itself.
        holds: what its samples are, in a word: `pictures`, `tables`, `questions`.
    """

    name: str
    title: str
    task: str
    licence: str
    url: str | None = None
    embedded: bool = False
    holds: str = "pictures"

    @abstractmethod
    def open(self, path: Path | None, *, image_size: Size | None, seed: int) -> DataSplits:
        """The set's train, val and test.

        Args:
            path: where it lies; None for an embedded set.
            image_size: (height, width) that is wanted; a set may leave the resizing to the caller.
            seed: of an embedded set's pictures, and of cuts that the set does not make itself.

        Raises:
            DataError: what lies there is not this set.
        """

    def recognises(self, path: Path) -> bool:
        """Whether `path` holds this set in one of its forms."""
        return False

    def download(self, destination: Path, url: str, progress: ProgressReporter) -> None:
        """Put the set into `destination`, which `open` then takes.

        Raises:
            InputError: the source cannot be reached, or does not hold the set.
        """
        raise DataError(f"'{self.name}' cannot be downloaded", "get it from its authors, and name it with --data")


@cache
def named_sets() -> dict[str, NamedSet]:
    """All named sets by name, in alphabetical order."""
    import encore.data.sets

    names = sorted(module.name for module in pkgutil.iter_modules(encore.data.sets.__path__))
    return {name: importlib.import_module(f"encore.data.sets.{name}").SET for name in names}


def require_pictures(known: NamedSet) -> None:
    """See that a set's samples are pictures.

    Raises:
        DataError: they are something else.
    """
    if known.holds != "pictures":
        having = ", ".join(name for name, one in named_sets().items() if one.holds == "pictures")
        raise DataError(f"'{known.name}' holds {known.holds}, not pictures", f"sets of pictures: {having}")


def named_set(name: str) -> NamedSet:
    """The set called `name`.

    Raises:
        UnknownNameError: there is none, with the nearest.
    """
    if name not in named_sets():
        raise UnknownNameError("data set", name, named_sets())
    return named_sets()[name]


def find_set_path(name: str, roots: Roots) -> Path | None:
    """Where the set `name` lies: what `--data` says, else below `$ENCORE_DATA`; None where it is absent."""
    if name in roots:
        return expanded(str(roots[name]))
    below = os.environ.get(DATA_VARIABLE)
    path = expanded(below) / name if below else None
    return path if path is not None and path.exists() else None


def open_set(name: str, *, image_size: Size | None, seed: int, roots: Roots) -> DataSplits:
    """Open a named set at one size.

    Raises:
        UnknownNameError: no set has that name.
        DataError: it is absent or damaged.
    """
    one = named_set(name)
    path = None if one.embedded else find_set_path(name, roots)
    if path is None and not one.embedded:
        raise absent(name)
    return fit_sizes(one.open(path, image_size=image_size, seed=seed), image_size)


def open_segmentation(
    source: str, *, image_size: Size | None = None, seed: int = 0, roots: Roots | None = None
) -> DataSplits:
    """Open whatever a person calls their segmentation data, cut into train, val and test, at one size.

    Args:
        source: the name of a set; or a path: a folder of images/ and masks/ with or without train/, val/, test/,
            an `.npz`, or a folder that holds a named set in one of its forms. A name wins over a folder of that
            name: write `./camvid` for the folder.
        image_size: (height, width); None takes pictures as they are, or the most common size where they differ.
        seed: of cuts that the source does not make itself, and of an embedded set's pictures.
        roots: folders of named sets.

    Raises:
        DataError: nothing is there, or it cannot be used; the message says what and where.
    """
    if source in named_sets():
        check_task(source, "segmentation")
        return open_set(source, image_size=image_size, seed=seed, roots=roots or {})
    path = existing(source)
    known = recognised(path, "segmentation")
    if known is not None:
        return fit_sizes(known.open(path, image_size=image_size, seed=seed), image_size)
    parts = _parts_at(path)
    cut = cut_whole(parts["all"], seed, str(path)) if "all" in parts else complete_parts(parts, seed, str(path))
    splits = DataSplits(
        name=str(path),
        train=cut.train,
        val=cut.val,
        test=cut.test,
        classes=cut.train.classes,
        origin=cut.origin,
        source="a folder of pictures and masks" if path.is_dir() else "arrays in an .npz",
    )
    return fit_sizes(splits, image_size)


def open_segmentation_part(
    source: str, *, roots: Roots | None = None, num_classes: int | None = None, cut_seed: int | None = None
) -> SegmentationDataset:
    """Open what is to be measured: the test part of a source that has one, else all of it, at its own size.

    Args:
        source, roots: as for `open_segmentation`.
        num_classes: how many classes the masks may have where the source does not name them.
        cut_seed: see `held_out`.

    Raises:
        DataError: as for `open_segmentation`; a source with parts but no test/ and no val/.
    """
    named = named_splits(source, "segmentation", roots or {})
    if named is not None:
        return named.test
    path = existing(source)
    dataset: SegmentationDataset = held_out(_parts_at(path, num_classes), path, cut_seed)
    return dataset


def named_splits(source: str, task: str, roots: Roots) -> DataSplits | None:
    """The parts, at their own size, of the set that `source` names or holds; None if it is none.

    Raises:
        DataError: the set is for another task, absent or damaged; a path where nothing lies.
    """
    if source in named_sets():
        check_task(source, task)
        known, path = named_set(source), find_set_path(source, roots)
        if path is None and not known.embedded:
            raise absent(source)
        return known.open(None if known.embedded else path, image_size=None, seed=0)
    path = existing(source)
    found = recognised(path, task)
    return None if found is None else found.open(path, image_size=None, seed=0)


def held_out(parts: Mapping[str, ImageDataset], where: Path, cut_seed: int | None = None) -> Any:
    """What a model is measured on: test, else val, or all where there are no parts.

    Args:
        parts: by name.
        where: what errors call the source.
        cut_seed: the seed with which a source without parts, or with train/ alone, was cut for the training of the
            model: then the test part of that cut.

    Raises:
        DataError: there is train/ alone.
    """
    if cut_seed is not None and "test" not in parts:
        whole = "all" in parts
        cut = cut_whole(parts["all"], cut_seed, str(where)) if whole else complete_parts(parts, cut_seed, str(where))
        return cut.test
    for part in ("all", "test", "val"):
        if part in parts:
            return parts[part]
    raise DataError(f"{where} has train/ alone, which a model may have learnt from", "name a folder with test/")


def check_task(name: str, task: str) -> None:
    """See that the named set is for `task`.

    Raises:
        DataError: it is for another one.
    """
    if named_set(name).task != task:
        fit = ", ".join(one.name for one in named_sets().values() if one.task == task)
        raise DataError(f"the data set '{name}' is for {named_set(name).task}, not for {task}", f"name one of: {fit}")


def absent(name: str) -> DataError:
    """Say that a named set is not here, and how to get it."""
    get = f"download it with: encore data get {name}; or " if named_set(name).url else ""
    return DataError(
        f"the data set '{name}' is not here",
        f"{get}say where it lies: --data {name}=PATH or {DATA_VARIABLE}",
    )


def expanded(path: str) -> Path:
    """`path` with `~` resolved, where that is possible."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # ~somebody, who has no home here
        return Path(path)


def existing(source: str, layout: str = LAYOUT) -> Path:
    """The path that `source` means.

    Raises:
        DataError: nothing is there.
        UnknownNameError: it looks like the name of a set, and is none.
    """
    if not source.strip():
        raise DataError("the name of the data is empty", f"name a folder or one of: {', '.join(named_sets())}")
    path = expanded(source)
    try:
        if path.exists():
            return path
    except OSError as error:  # no permission, or a name longer than names can be
        raise unreadable(path, error) from None
    if "/" in source or "." in source:
        raise DataError(f"{path} does not exist", f"name a folder; {layout}")
    raise UnknownNameError("data set or folder", source, named_sets())


def recognised(path: Path, task: str) -> NamedSet | None:
    """The set for `task` that lies at `path` in one of its forms, if any."""
    return next((one for one in named_sets().values() if one.task == task and one.recognises(path)), None)


def _parts_at(path: Path, num_classes: int | None = None) -> dict[str, SegmentationDataset]:
    if path.is_dir():
        return open_folder(path, num_classes=num_classes)
    if path.suffix.lower() == ".npz":
        return {"all": open_arrays(path, num_classes=num_classes)}
    raise DataError(f"{path} is no folder and no .npz", LAYOUT)
