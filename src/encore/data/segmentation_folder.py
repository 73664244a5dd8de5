"""Segmentation data as people have it: a folder of images/ and masks/, or an `.npz` of both.

    DATA/images/street_1.jpg        DATA/train/images/…  DATA/train/masks/…
    DATA/masks/street_1.png         DATA/val/images/…    DATA/val/masks/…
    DATA/classes.txt (optional)     DATA/test/images/…   DATA/test/masks/…

A mask has the name of its image, and one class index per pixel. `classes.txt` names the classes, one a
line, the first for index 0; the entry `void` says that its index is no class. 255 is always void. Without
`classes.txt` there are as many classes as the largest index in the training masks asks for.

An `.npz` has `images` (N, H, W, 3) uint8, `masks` (N, H, W) integers and, if wanted, `classes` (K,) text.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from encore.base.errors import DataError
from encore.data.contracts import VOID, SegmentationDataset, SegmentationSample
from encore.data.images import (
    MAX_CLASSES,
    Source,
    class_indices,
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
CLASSES_FILE = "classes.txt"


@dataclass(frozen=True)
class ClassNames:
    """The classes of a source.

    Attributes:
        names: of the classes proper, in index order.
        void: the values in the masks that are no class, besides 255.
    """

    names: tuple[str, ...]
    void: frozenset[int] = frozenset()


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


class ArraySamples:
    """Images and masks in two arrays; a map-style `SegmentationDataset`.

    Args:
        images: (N, H, W, 3) uint8.
        masks: (N, H, W) uint8, class index or 255.
        classes: their names.
        name: what the samples are called, with their number.
    """

    def __init__(
        self, images: NDArray[np.uint8], masks: NDArray[np.uint8], classes: tuple[str, ...], name: str
    ) -> None:
        self.images, self.masks, self.classes, self.name = images, masks, classes, name

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> SegmentationSample:
        """Image (3, H, W) uint8 RGB, mask (H, W) uint8, name."""
        number = range(len(self))[index]
        image = torch.from_numpy(self.images[number].transpose(2, 0, 1).copy())
        mask = torch.from_numpy(self.masks[number].copy())
        return {"image": image, "mask": mask, "name": f"{self.name}_{number:05d}"}

    @property
    def sizes(self) -> list[Size]:
        """(height, width) of every sample."""
        _, height, width = self.masks.shape
        return [(height, width)] * len(self)


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
        classes = ClassNames(_numbered(num_classes))
    if classes is None:
        classes = _inferred_classes(pairs, folder)
    elif check_masks:
        for pair in (pair for part in pairs.values() for pair in part):
            read_mask(pair.mask, len(classes.names), classes.void)
    return {part: MaskedImages(found, classes) for part, found in pairs.items()}


def open_arrays(path: Path | str, *, num_classes: int | None = None) -> SegmentationDataset:
    """Open an `.npz` as described above; masks are checked at once.

    Args:
        path: the file; nothing in it is unpickled.
        num_classes: as for `open_folder`.

    Raises:
        DataError: damaged, pickled, without the arrays, or of other shapes, types and values.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    images, masks = arrays["images"], arrays["masks"]
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:] or images.dtype != np.uint8:
        raise DataError(
            f"{path}: images are {images.dtype} of shape {images.shape}", "due is uint8 (N, H, W, 3), RGB, 0…255"
        )
    if masks.shape != images.shape[:3] or masks.dtype.kind not in "iub":
        raise DataError(
            f"{path}: masks are {masks.dtype} of shape {masks.shape}",
            f"due is an integer type of shape {images.shape[:3]}",
        )
    if len(images) == 0:
        raise DataError(f"{path} holds no samples", "save at least 3")
    masks = masks.astype(np.uint8) if masks.dtype == np.bool_ else masks
    if "classes" in arrays:
        classes = parse_classes(_texts(arrays["classes"], path), f"{path}: classes")
    else:
        found = num_classes or _number_of_classes(np.unique(masks), str(path))
        classes = ClassNames(_numbered(found))
    checked = class_indices(masks, len(classes.names), classes.void, f"{path}: masks").numpy()
    return ArraySamples(images, checked, classes.names, path.stem)


def parse_classes(lines: Iterable[str], where: str) -> ClassNames:
    """Read class names in index order; each `void` marks its index as no class.

    Raises:
        DataError: none, too many, one whose index would be 255, an empty one between others, or the same twice.
    """
    entries = [line.strip() for line in lines]
    while entries and not entries[-1]:
        entries.pop()
    if "" in entries:
        raise DataError(f"{where}: line {entries.index('') + 1} is empty", "name one class per line")
    void = frozenset(index for index, entry in enumerate(entries) if entry.lower() == "void")
    names = tuple(entry for index, entry in enumerate(entries) if index not in void)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where} names '{twice}' twice", "give each class a name of its own")
    if not 1 <= len(names) <= MAX_CLASSES or set(range(MAX_CLASSES, len(entries))) - void:
        raise DataError(
            f"{where} names {len(names)} classes in {len(entries)} entries",
            f"name 1…{MAX_CLASSES}, one per line, for the values 0…{MAX_CLASSES - 1}",
        )
    return ClassNames(names, void)


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
    parts = [part for part in (folder.absolute(), folder.resolve()) if part.name in PARTS]  # either may be a link
    for file in (place / CLASSES_FILE for place in [folder, *(part.parent for part in parts)]):
        if file.is_file():
            try:
                return parse_classes(file.read_text(encoding="utf-8-sig").splitlines(), str(file))
            except UnicodeDecodeError:
                raise DataError(f"{file} is no UTF-8 text", "save it as UTF-8, one class per line") from None
            except OSError as error:
                raise unreadable(file, error) from None
    return None


def _inferred_classes(pairs: Mapping[str, Sequence[Pair]], folder: Path) -> ClassNames:
    """As many classes as the masks of the training part, or of the only one, ask for."""
    first = "train" if "train" in pairs else next(iter(pairs))
    counted = np.zeros(0, dtype=np.int64)
    for pair in pairs[first]:
        counted = np.union1d(counted, np.unique(read_mask_values(pair.mask)))
    classes = ClassNames(_numbered(_number_of_classes(counted, str(folder))))
    for pair in (pair for part, found in pairs.items() if part != first for pair in found):
        read_mask(pair.mask, len(classes.names))
    return classes


def _number_of_classes(values: NDArray[Any], where: str) -> int:
    """The largest class index among the distinct `values` of all masks, plus one.

    Raises:
        DataError: the values look like grey levels and not like class indices.
    """
    found = [int(value) for value in values if value != VOID]
    shown = ", ".join(str(value) for value in values[:6]) + (" …" if len(values) > 6 else "")
    if not found or (found == [0] and VOID in values):
        raise DataError(
            f"the masks of {where} hold only the values {shown}, and 255 is void",
            "write the classes as 0, 1, 2 …; a foreground drawn as 255 has to become 1",
        )
    largest = max(found)
    if min(found) < 0 or largest >= MAX_CLASSES or largest + 1 > 2 * len(found) + 8:
        raise DataError(
            f"the masks of {where} hold the values {shown}, which look like grey levels, not class indices",
            f"write the classes as 0, 1, 2 …, or name all of them, one a line, in {CLASSES_FILE}",
        )
    return largest + 1


def _numbered(num_classes: int) -> tuple[str, ...]:
    return tuple(f"class_{index}" for index in range(num_classes))


def _texts(array: NDArray[Any], path: Path) -> list[str]:
    """The entries of a one-dimensional array of text."""
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise DataError(f"{path}: classes are {array.dtype} of shape {array.shape}", "due is text of shape (K,)")
    return [entry.decode("utf-8", "replace") if isinstance(entry, bytes) else str(entry) for entry in array.tolist()]


_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    SyntaxError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""What `zipfile` and numpy raise over damaged `.npz` files."""


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """`images`, `masks` and, where it is there, `classes` of an `.npz`; no pickles."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise DataError(f"{path} is no .npz, or is truncated", "save it with numpy.savez_compressed")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                found = {key: arrays[key] for key in arrays.files if key in ("images", "masks", "classes")}
                there = ", ".join(arrays.files) or "nothing"
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "check the path") from None
    except (IsADirectoryError, PermissionError) as error:
        raise unreadable(path, error) from None
    except _DAMAGE as error:
        if "Object arrays" in str(error):
            raise DataError(
                f"{path} holds Python objects, which are not unpickled",
                "save images and masks as uint8 arrays and classes as text (dtype=str)",
            ) from None
        raise DataError(f"{path} is damaged ({error})", "save it again with numpy.savez_compressed") from error
    for key in ("images", "masks"):
        if not isinstance(found.get(key), np.ndarray):  # other files of a zip come as bytes
            raise DataError(f"{path} has no array '{key}', it holds {there}", "save it with images= and masks=")
    return {key: value for key, value in found.items() if isinstance(value, np.ndarray)}
