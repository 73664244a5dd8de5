"""Segmentation data as people have it: a folder of images/ and masks/.

    DATA/images/street_1.jpg        DATA/train/images/…  DATA/train/masks/…
    DATA/masks/street_1.png         DATA/val/images/…    DATA/val/masks/…
    DATA/classes.txt (optional)     DATA/test/images/…   DATA/test/masks/…

A mask has the name of its image, and one class index per pixel. `classes.txt` names the classes, one a
line, the first for index 0; the entry `void` says that its index is no class. 255 is always void. Without
`classes.txt` there are as many classes as the largest index in the training masks asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encore.base.errors import DataError
from encore.data.class_names import ClassNames, class_lines, number_of_classes, numbered_classes, parse_classes
from encore.data.contracts import SegmentationDataset, SegmentationSample
from encore.data.images import (
    Source,
    find_images,
    read_image,
    read_mask,
    read_mask_values,
    size_of,
    unreadable,
)
from encore.data.resizing import Size
from encore.data.splits import PARTS

LAYOUT = "expected is images/ and masks/ with equal file names, directly or below train/, val/, test/"


@dataclass(frozen=True)
class Pair:
    """An image with its mask: where both are, and (height, width) of both."""

    name: str
    image: Path
    mask: Path
    size: Size


class MaskedImages:
    """Pairs of image and mask files; a map-style `SegmentationDataset`.

    Args:
        pairs: as `paired` returns them.
        classes: their names, and which values are void.
        read: turns a path into what is decoded; for files inside an archive.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        classes: ClassNames,
        read: Callable[[Path], Source] = Path,
    ) -> None:
        self.pairs, self.void, self.read = list(pairs), classes.void, read
        self.classes = classes.names

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> SegmentationSample:
        """Image (3, H, W) uint8 RGB, mask (H, W) uint8 (class index or 255), name.

        Raises:
            DataError: a file is damaged, gone or of another size than it was, or the mask holds a value beyond
                the classes.
        """
        pair = self.pairs[index]
        image = read_image(self.read(pair.image), str(pair.image))
        mask = read_mask(self.read(pair.mask), len(self.classes), self.void, str(pair.mask))
        for path, size in ((pair.image, image.shape[1:]), (pair.mask, mask.shape)):
            if tuple(size) != pair.size:
                raise DataError(
                    f"{path} was {pair.size[1]} × {pair.size[0]} pixels and is now {size[1]} × {size[0]}",
                    "leave the data as it is during a run",
                )
        return {"image": image, "mask": mask, "name": pair.name}

    @property
    def sizes(self) -> list[Size]:
        """(height, width) of every sample, from the headers of the files."""
        return [pair.size for pair in self.pairs]


def open_folder(
    folder: Path | str, *, check_masks: bool | None = None, num_classes: int | None = None
) -> dict[str, SegmentationDataset]:
    """Open a folder in the layout above.

    At opening, pairs and the sizes in the files' headers are checked; values of masks when they are read.

    Args:
        folder: the root, or one of its parts (`…/test`), which then takes the `classes.txt` beside it.
        check_masks: read all masks now and check their values; by default only if the number of classes has
            to be found out.
        num_classes: how many there are, where neither `classes.txt` nor the masks shall decide.

    Returns:
        The parts that there are, by name; `{"all": …}` for a folder without parts.

    Raises:
        DataError: another layout, an image without mask or the reverse, sizes that differ, masks that hold
            no class.
    """
    folder = Path(folder)
    folders = _part_folders(folder)
    pairs = {part: _pairs_in(place) for part, place in folders.items()}
    classes = _classes_of(folder)
    if classes is None and num_classes is not None:
        classes = ClassNames(numbered_classes(num_classes))
    if classes is None:
        classes = _inferred_classes(pairs, folder)
    elif check_masks:
        for pair in (pair for part in pairs.values() for pair in part):
            read_mask(pair.mask, len(classes.names), classes.void)
    return {part: MaskedImages(found, classes) for part, found in pairs.items()}


def paired(
    images: Sequence[Path],
    masks: Sequence[Path],
    where: str,
    *,
    key: Callable[[Path], str] = lambda path: path.stem,
    read: Callable[[Path], Source] = Path,
) -> list[Pair]:
    """Find the mask of each image.

    Args:
        images, masks: the files.
        where: what errors call their folder.
        key: what an image and its mask have in common; the file name without suffix.
        read: turns a path into what is decoded.

    Raises:
        DataError: a name that comes twice, one without a partner, or partners of different sizes.
    """
    image_of = _by_key(images, key, where)
    mask_of = _by_key(masks, key, where)
    for having, lacking, what in ((image_of, mask_of, "mask"), (mask_of, image_of, "image")):
        single = [path for name, path in having.items() if name not in lacking]
        if single:
            shown = ", ".join(path.name for path in single[:3]) + (" …" if len(single) > 3 else "")
            has = f"{len(single)} {single[0].parent.name}/ file" + ("s have" if len(single) > 1 else " has")
            raise DataError(
                f"{where}: {has} no {what}: {shown}", "an image and its mask have the same name but for the suffix"
            )
    pairs = []
    for name, image in image_of.items():
        mask = mask_of[name]
        size, mask_size = size_of(read(image), str(image)), size_of(read(mask), str(mask))
        if size != mask_size:
            raise DataError(
                f"{image} is {size[1]} × {size[0]} pixels, its mask {mask_size[1]} × {mask_size[0]}",
                "make the mask as large as its image",
            )
        pairs.append(Pair(image.stem, image, mask, size))
    return pairs


def _by_key(files: Sequence[Path], key: Callable[[Path], str], where: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        other = found.setdefault(key(file), file)
        if other is not file:
            raise DataError(
                f"{where}: {other.name} and {file.name} in {file.parent.name}/ have the same name",
                "keep one of them, or rename it with its partner",
            )
    return found


def _part_folders(folder: Path) -> dict[str, Path]:
    """The folders that hold images/ and masks/, by part."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder", LAYOUT)
    parts = {part: folder / part for part in PARTS if (folder / part).is_dir()}
    flat = [name for name in ("images", "masks") if (folder / name).is_dir()]
    nested = [f"{name}/{part}" for name in flat for part in PARTS if (folder / name / part).is_dir()]
    if nested:
        name, part = nested[0].split("/")
        raise DataError(f"{folder} has {', '.join(nested)}", f"turn them round: {part}/{name}; {LAYOUT}")
    if parts and flat:
        there = ", ".join(f"{name}/" for name in [*flat, *parts])
        raise DataError(f"{folder} has {there} side by side", f"keep one layout; {LAYOUT}")
    return parts or {"all": folder}


def _entries(folder: Path) -> list[Path]:
    """What lies in `folder`, hidden files left out."""
    try:
        return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise unreadable(folder, error) from None


def _pairs_in(folder: Path) -> list[Pair]:
    """The pairs in `folder`/images and `folder`/masks."""
    for name in ("images", "masks"):
        if not (folder / name).is_dir():
            there = sorted(entry.name + "/" * entry.is_dir() for entry in _entries(folder))
            shown = ", ".join(there[:5]) + (" …" if len(there) > 5 else "") if there else "nothing"
            raise DataError(f"{folder} has no {name}/, it holds {shown}", LAYOUT)
    images, masks = find_images(folder / "images"), find_images(folder / "masks")
    if not images:
        inner = next((entry.name for entry in _entries(folder / "images") if entry.is_dir()), None)
        hint = f"move what is in images/{inner}/ up into images/" if inner else "put pictures into it"
        raise DataError(f"{folder / 'images'} holds no pictures", f"{hint}; {LAYOUT}")
    return paired(images, masks, str(folder))


def _classes_of(folder: Path) -> ClassNames | None:
    """What `classes.txt` says, in the folder or, for one of its parts, beside it."""
    named = class_lines(folder, PARTS)
    return None if named is None else parse_classes(named[0], str(named[1]))


def _inferred_classes(pairs: Mapping[str, Sequence[Pair]], folder: Path) -> ClassNames:
    """As many classes as the masks of the training part, or of the only one, ask for."""
    first = "train" if "train" in pairs else next(iter(pairs))
    counted = np.zeros(0, dtype=np.int64)
    for pair in pairs[first]:
        counted = np.union1d(counted, np.unique(read_mask_values(pair.mask)))
    classes = ClassNames(numbered_classes(number_of_classes(counted, str(folder))))
    for pair in (pair for part, found in pairs.items() if part != first for pair in found):
        read_mask(pair.mask, len(classes.names))
    return classes
