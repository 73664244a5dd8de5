"""Classification data as people have it: one folder of pictures per class.

    DATA/cat/photo_1.jpg        DATA/train/cat/…  DATA/train/dog/…
    DATA/dog/photo_7.png        DATA/val/cat/…    DATA/val/dog/…
    DATA/classes.txt (optional) DATA/test/cat/…   DATA/test/dog/…

Classes are called as their folders and come in the natural order of these names, or in that of `classes.txt`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from encore.base.errors import DataError
from encore.data.class_names import CLASSES_FILE, class_lines
from encore.data.contracts import ClassificationDataset, ClassificationSample
from encore.data.images import find_images, natural_order, read_image, size_of, unreadable
from encore.data.resizing import Size
from encore.data.splits import PARTS

LAYOUT = "expected is one folder of pictures per class, directly or below train/, val/, test/"


class LabelledImages:
    """Picture files with a class each; a map-style `ClassificationDataset`.

    Args:
        files: the pictures.
        labels: the class index of each.
        classes: names of the classes.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Sequence[int],
        classes: tuple[str, ...],
    ) -> None:
        self.files, self.labels, self.classes = list(files), tuple(labels), classes

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> ClassificationSample:
        """Image (3, H, W) uint8 RGB, label, name.

        Raises:
            DataError: the file is damaged or gone.
        """
        file = self.files[index]
        return {"image": read_image(file), "name": file.stem, "label": self.labels[index]}

    @cached_property
    def sizes(self) -> list[Size]:
        """(height, width) of every picture, from the headers of the files."""
        return [size_of(file) for file in self.files]


def open_class_folders(folder: Path | str) -> dict[str, ClassificationDataset]:
    """Open a folder in the layout above.

    Args:
        folder: the root, or one of its parts (`…/test`), which then takes the `classes.txt` beside it.

    Returns:
        The parts that there are, by name; `{"all": …}` for a folder without parts.

    Raises:
        DataError: another layout, a class without pictures, fewer than two classes, or a part with a class that
            train/ has not.
    """
    folder = Path(folder)
    places = _part_folders(folder)
    found = {part: _pictures_by_class(place) for part, place in places.items()}
    first = "train" if "train" in found else next(iter(found))
    classes = _classes_of(folder, found[first])
    parts: dict[str, ClassificationDataset] = {}
    for part, pictures in found.items():
        unknown = [name for name in pictures if name not in classes]
        if unknown:
            raise DataError(
                f"{places[part]} has the class{'es' * (len(unknown) > 1)} {', '.join(unknown[:5])}, "
                f"which {first if first != 'all' else CLASSES_FILE} has not",
                f"the classes are {', '.join(classes[:10])}{' …' * (len(classes) > 10)}",
            )
        files = [file for name in classes for file in pictures.get(name, ())]
        labels = [label for label, name in enumerate(classes) for _ in pictures.get(name, ())]
        parts[part] = LabelledImages(files, labels, classes)
    return parts


def is_in_class_folders(folder: Path) -> bool:
    """Whether `folder` looks like the layout above, so that its pictures have classes."""
    parts = [folder / part for part in PARTS if (folder / part).is_dir()] or [folder]
    return any(
        find_images(entry) for part in parts for entry in sorted(part.iterdir()) if _is_visible_folder(entry)
    ) and not any(find_images(part) for part in parts)


def _is_visible_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _part_folders(folder: Path) -> dict[str, Path]:
    """The folders that hold one folder per class, by part."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder", LAYOUT)
    parts = {part: folder / part for part in PARTS if (folder / part).is_dir()}
    others = [entry.name for entry in _folders_in(folder) if entry.name not in PARTS] if parts else []
    if others:
        raise DataError(
            f"{folder} has {', '.join(f'{name}/' for name in [*parts, *others[:3]])} side by side",
            f"move the classes below the parts; {LAYOUT}",
        )
    return parts or {"all": folder}


def _folders_in(folder: Path) -> list[Path]:
    try:
        entries = [entry for entry in folder.iterdir() if _is_visible_folder(entry)]
    except OSError as error:
        raise unreadable(folder, error) from None
    for entry in entries:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{folder} has a folder whose name is no UTF-8 text ({entry.name!a})", "rename it"
            ) from None
    return sorted(entries, key=lambda entry: natural_order(entry.name))


def _pictures_by_class(folder: Path) -> dict[str, list[Path]]:
    """The pictures in each class's folder."""
    folders = _folders_in(folder)
    loose = find_images(folder)
    if loose:
        raise DataError(
            f"{folder} holds {len(loose)} picture{'s' * (len(loose) > 1)} that belong to no class ({loose[0].name} …)",
            f"move them into their classes' folders; {LAYOUT}",
        )
    if not folders:
        raise DataError(f"{folder} has no folders of classes", LAYOUT)
    pictures = {}
    for place in folders:
        pictures[place.name] = find_images(place)
        if not pictures[place.name]:
            raise DataError(f"{place} holds no pictures", "put the class's pictures into it, or remove it")
    return pictures


def _classes_of(folder: Path, pictures: Mapping[str, Sequence[Path]]) -> tuple[str, ...]:
    """The classes in order: what `classes.txt` says, else the folders' names."""
    named = class_lines(folder, PARTS)
    if named is None:
        classes = tuple(pictures)
    else:
        lines, file = named
        classes = tuple(line.strip() for line in lines if line.strip())
        twice = next((name for name in classes if classes.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{file} names '{twice}' twice", "give each class a name of its own")
    if len(classes) < 2:
        raise DataError(f"{folder} has {len(classes)} class{'es' * (len(classes) != 1)}", "give two at least")
    return classes
