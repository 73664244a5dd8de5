"""Values as they are stored, for learning and coding without loss: pictures whose pixels are not touched, and arrays.

Elsewhere every picture becomes RGB of 8 bits, laid on white, turned upright; here what would be changed is refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from encore.base.errors import DataError
from encore.base.progress import ProgressReporter, SilentProgress
from encore.data.arrays import names_in, read_arrays
from encore.data.contracts import DataSplits
from encore.data.images import natural_order, unreadable
from encore.data.named import Roots, absent, existing, find_set_path, named_set, named_sets, require_pictures
from encore.data.resizing import Size
from encore.data.splits import PARTS, Cut, complete_parts, cut_whole

Integers = NDArray[np.integer[Any]]

LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
"""Suffixes of pictures whose pixels can be written again as they are."""

LOSSY = (".jpg", ".jpeg", ".gif")

LAYOUT = "expected is a folder of lossless pictures, or an .npz with integer arrays"


# pictures


def lossless_pictures(folder: Path) -> list[Path]:
    """The pictures at any depth of a folder in which nothing else lies, in natural order.

    Raises:
        DataError: it cannot be read, a picture is stored with loss, or another file lies there.
    """
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise unreadable(Path(error.filename or folder), error)

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders.sort(key=natural_order)
        for name in folders:
            if (Path(place) / name).is_symlink():
                raise DataError(f"{Path(place) / name} is a link to a folder", "put the pictures themselves there")
        found += [Path(place) / name for name in sorted(names, key=natural_order)]
    for file in found:
        suffix = file.suffix.lower()
        if suffix in LOSSY:
            raise DataError(f"{file} is stored with loss", "turn it into PNG first, or leave it out")
        if suffix not in LOSSLESS:
            raise DataError(f"{file} is no picture that can be written again", f"known are {', '.join(LOSSLESS)}")
    return found


def picture_shape(file: Path) -> tuple[int, ...]:
    """(H, W) of a grey picture, (H, W, 3) of a coloured one, from its first bytes.

    Raises:
        DataError: it is neither, or cannot be read.
    """
    try:
        with Image.open(file) as image:
            odd = _oddity(image)
            if odd:
                raise DataError(
                    f"{file} is a picture {odd}",
                    "grey (L) and RGB of 8 bits are taken, without alpha, palette or further frames",
                )
            return (image.height, image.width) if image.mode == "L" else (image.height, image.width, 3)
    except UnidentifiedImageError:
        raise DataError(f"{file} is no picture, or is damaged", "repair it or leave it out") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{file}: {error}", "cut it into parts first") from None
    except OSError as error:
        raise unreadable(file, error) from None


def _oddity(image: Image.Image) -> str | None:
    """What of a picture Pillow would change in reading it as grey or RGB of 8 bits; None if nothing."""
    num_frames: int = getattr(image, "n_frames", 1)
    if image.mode not in ("L", "RGB"):
        return f"of mode {image.mode}"
    if num_frames > 1:
        return f"of {num_frames} frames"
    if "transparency" in image.info:
        return "with a transparent colour"
    # How the stored pixels are unpacked: a raw mode, and of PNM the largest value.
    tiles: Any = getattr(image, "tile", None)
    tile = tiles[0] if tiles else None
    words = () if tile is None else tile.args if isinstance(tile.args, tuple) else (tile.args,)
    if any(isinstance(word, str) and ";" in word for word in words):
        return f"stored as {words[0]}"
    if tile is not None and tile.codec_name.startswith("ppm") and words[-1] != 255:
        return f"of values up to {words[-1]}"
    return None


def read_picture(file: Path) -> NDArray[np.uint8]:
    """The pixels of a grey or RGB file as they are stored, (H, W) or (H, W, 3).

    Raises:
        DataError: it is damaged.
    """
    try:
        with Image.open(file) as image:
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} is damaged ({error})", "repair it or leave it out") from None


# tiles


def num_tiles(shape: Sequence[int], tile: Sequence[int]) -> int:
    """How many tiles (h, w, …) a picture (H, W, …) is cut into."""
    return prod(-(-side // part) for side, part in zip(shape[:2], tile[:2], strict=True))


def cut_tiles(picture: Integers, tile: Sequence[int]) -> Integers:
    """(H, W[, C]) → (tiles, h, w[, C]), row by row; the last ones are filled up with the picture's edge."""
    h, w = tile[:2]
    rest = picture.shape[2:]
    below, right = -picture.shape[0] % h, -picture.shape[1] % w
    full = np.pad(picture, ((0, below), (0, right), *(((0, 0),) * len(rest))), mode="edge")
    rows, columns = full.shape[0] // h, full.shape[1] // w
    return full.reshape(rows, h, columns, w, *rest).swapaxes(1, 2).reshape(-1, h, w, *rest)


def join_tiles(tiles: Integers, shape: Sequence[int]) -> Integers:
    """The inverse of `cut_tiles`, for a picture of `shape`."""
    h, w, *rest = tiles.shape[1:]
    rows, columns = -(-shape[0] // h), -(-shape[1] // w)
    full = tiles.reshape(rows, columns, h, w, *rest).swapaxes(1, 2)
    return full.reshape(rows * h, columns * w, *rest)[: shape[0], : shape[1]]


# data sets


@dataclass(frozen=True, eq=False)
class ExactSamples:
    """Integer samples of one shape, in memory; a map-style dataset.

    Attributes:
        values: (N, *shape) integers.
        name: what the samples are called, with their number.
    """

    values: Integers
    name: str
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`values` (*shape) int64, and a name."""
        number = range(len(self))[index]
        return {"values": torch.from_numpy(self.values[number].astype(np.int64)), "name": f"{self.name}_{number:05d}"}

    @cached_property
    def extremes(self) -> tuple[int, int]:
        """The smallest and the largest value."""
        return int(self.values.min()), int(self.values.max())


def values_of(dataset: Any) -> Integers:
    """All values of `ExactSamples`, or of a part of them, (N, *shape)."""
    if isinstance(dataset, ExactSamples):
        return dataset.values
    return values_of(dataset.dataset)[np.asarray(dataset.indices, np.int64)]


def open_exact(
    source: str,
    *,
    tile: Size | None = None,
    seed: int = 0,
    roots: Roots | None = None,
    progress: ProgressReporter | None = None,
) -> DataSplits:
    """Open integer samples, cut into train, val and test.

    Args:
        source: the name of a set, whose truth is left aside; a folder of pictures at any depth, with or without
            train/, val/, test/; an `.npz` with `x_train` and `x_test`, with `images`, or with one array alone.
        tile: (height, width) into which pictures are cut, which may then differ in size. Pictures are parted first,
            then cut, so that no picture has tiles in two parts.
        seed: of cuts that the source does not make itself.
        roots: folders of named sets.
        progress: told of the reading.

    Raises:
        DataError: nothing is there; pictures or arrays are not of whole numbers, or differ in size or kind.
    """
    progress = progress or SilentProgress()
    if source in named_sets():
        return _named(source, tile, seed, roots or {})
    path = existing(source, LAYOUT)
    if path.is_dir():
        return _of_folder(path, tile, seed, progress)
    if path.suffix.lower() == ".npz":
        return _of_arrays(path, tile, seed)
    raise DataError(f"{path} is no folder and no .npz", LAYOUT)


def _named(source: str, tile: Size | None, seed: int, roots: Roots) -> DataSplits:
    known = named_set(source)
    require_pictures(known)
    path = None if known.embedded else find_set_path(source, roots)
    if path is None and not known.embedded:
        raise absent(source)
    splits = known.open(path, image_size=None, seed=seed)
    parts = {part: _pictures_of(getattr(splits, part)) for part in PARTS}
    grey = all((one == one[:1]).all() for part in parts.values() for one in part)
    samples: dict[str, Any] = {
        part: _stacked(
            [one[0].numpy() if grey else one.permute(1, 2, 0).numpy() for one in images],
            tile,
            f"{source}_{part}",
            source,
        )
        for part, images in parts.items()
    }
    return DataSplits(
        name=splits.name,
        **samples,
        classes=(),
        origin=splits.origin,
        source=splits.source,
        embedded=splits.embedded,
    )


def _pictures_of(dataset: Any) -> list[Tensor]:
    return [dataset[index]["image"] for index in range(len(dataset))]


def _of_folder(path: Path, tile: Size | None, seed: int, progress: ProgressReporter) -> DataSplits:
    there = {part: path / part for part in PARTS if (path / part).is_dir()} or {"all": path}
    files = {part: lossless_pictures(place) for part, place in there.items()}
    total = sum(map(len, files.values()))
    if not total:
        raise DataError(f"{path} holds no pictures", LAYOUT)
    done, kind = 0, None
    parts: dict[str, Any] = {}
    for part, found in files.items():
        pictures = []
        for file in found:
            shape = picture_shape(file)
            kind = kind or (file, shape)
            if shape[2:] != kind[1][2:]:
                raise DataError(f"{kind[0]} and {file} are grey and coloured", "give pictures of one kind")
            if tile is None and shape != kind[1]:
                raise DataError(
                    f"{kind[0]} is {_in_words(kind[1])}, and {file} {_in_words(shape)}",
                    "give pictures of one size, or cut them: --set tile=16x16",
                )
            pictures.append(read_picture(file))
            done += 1
            progress.update("reading pictures", done, total)
        parts[part] = _Pictures(pictures)
    cut = cut_whole(parts["all"], seed, str(path)) if "all" in parts else complete_parts(parts, seed, str(path))
    return _cut_splits(cut, str(path), path.name, tile, "a folder of pictures")


def _in_words(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


@dataclass(frozen=True, eq=False)
class _Pictures:
    """Pictures before they are cut into tiles."""

    pictures: Any
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Any:
        return self.pictures[index]


def _cut_splits(cut: Cut, name: str, stem: str, tile: Size | None, what: str) -> DataSplits:
    parts: dict[str, Any] = {}
    for part in PARTS:
        dataset: Any = getattr(cut, part)
        pictures = [dataset[index] for index in range(len(dataset))]
        parts[part] = _stacked(pictures, tile, f"{stem}_{part}", name)
    return DataSplits(name=name, **parts, classes=(), origin=cut.origin, source=what)


def _stacked(pictures: Sequence[Integers], tile: Size | None, name: str, where: str) -> ExactSamples:
    if not pictures:
        raise DataError(f"{where}: a part holds no samples", "give some for training and some for testing")
    if tile is not None:
        return ExactSamples(np.concatenate([cut_tiles(one, tile) for one in pictures]), name)
    return ExactSamples(np.ascontiguousarray(np.stack(pictures)), name)


def _of_arrays(path: Path, tile: Size | None, seed: int) -> DataSplits:
    names = names_in(path)
    keras = [name for name in ("x_train", "x_val", "x_test") if name in names]
    alone = ["images"] if "images" in names else names if len(names) == 1 else []
    wanted: list[str] = [*keras] or alone
    if not wanted:
        raise DataError(
            f"{path} holds {', '.join(names) or 'nothing'}", "due are x_train and x_test, images, or one array alone"
        )
    arrays = read_arrays(path, wanted)
    parts: dict[str, Any] = {}
    for name, values in arrays.items():
        if values.dtype.kind not in "iu" or values.ndim < 2:
            raise DataError(f"{path}: {name} is {values.dtype} of shape {values.shape}", "due are integers (N, …)")
        if not values.size:
            raise DataError(f"{path}: {name} holds no values", "give some samples")
        if int(values.max()) > np.iinfo(np.int64).max:
            raise DataError(
                f"{path}: {name} holds values up to {values.max()}", "give categories, some thousands at most"
            )
        if tile is not None and values.ndim not in (3, 4):
            raise DataError(f"{path}: {name} of shape {values.shape} holds no pictures", "leave tile out")
        if values.shape[1:] != arrays[wanted[0]].shape[1:] and tile is None:
            raise DataError(f"{path}: {wanted[0]} and {name} hold samples of different shapes", "give one shape")
        parts[name.removeprefix("x_") if keras else "all"] = _Pictures(values)
    cut = cut_whole(parts["all"], seed, str(path)) if "all" in parts else complete_parts(parts, seed, str(path))
    return _cut_splits(cut, str(path), path.stem, tile, "arrays in an .npz")
