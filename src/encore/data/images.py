"""Pictures and index masks from files: whatever Pillow opens becomes one of the two contract tensors."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from encore.base.errors import DataError
from encore.data.contracts import VOID

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
"""File names that count as pictures, in any case."""

MASK_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I")
"""Pillow's modes with one integer a pixel: bits, bytes, palette indices, 16 and 32 bits."""

MAX_CLASSES = VOID
"""A `uint8` mask has room for classes 0…254."""

Source = Path | str | bytes
"""A file, or the bytes of one."""


def find_images(folder: Path | str) -> list[Path]:
    """The pictures directly in `folder`, by suffix, in natural order (`2.png` before `10.png`).

    Hidden files are left out (`._photo.png` of a Mac is no picture).

    Raises:
        DataError: `folder` is no folder, or cannot be read.
    """
    folder = Path(folder)
    try:
        found = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
        ]
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{folder} is no folder", "name a folder of pictures") from None
    except OSError as error:
        raise unreadable(folder, error) from None
    return sorted(found, key=lambda path: natural_order(path.name))


def unreadable(path: Path | str, error: OSError) -> DataError:
    """Say in one line why `path`, which is there, cannot be read."""
    return DataError(f"{path} cannot be read ({(error.strerror or str(error)).lower()})", "give one that can be read")


def natural_order(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """A sorting key that compares runs of digits as numbers."""
    runs = re.findall(r"[0-9]+|[^0-9]+", name.lower())
    return tuple((0, int(run), "") if run[0] in "0123456789" else (1, 0, run) for run in runs), name


def read_image(source: Source, where: str | None = None) -> Tensor:
    """Read a picture as RGB.

    The orientation that a camera noted (EXIF, in the file's header) is applied. Grey, palette, bit and CMYK
    pictures become RGB; transparent ones are laid on white; 16-bit grey is scaled from 0…65535 to 0…255. Of
    several frames or pages the first is taken.

    Args:
        source: a file, or the bytes of one.
        where: what errors call it; the path by default.

    Returns:
        (3, H, W) uint8, RGB, 0…255.

    Raises:
        DataError: missing, damaged, truncated, no picture, or too large to be meant (see Pillow's
            `MAX_IMAGE_PIXELS`).
    """
    where = _name_of(source, where)
    with _opened(source, where) as image:
        return torch.from_numpy(_rgb(_upright(image), where)).permute(2, 0, 1).contiguous()


def read_mask(source: Source, num_classes: int, void: Collection[int] = (), where: str | None = None) -> Tensor:
    """Read a mask of class indices.

    The file has one integer a pixel: grey of 1, 8 or 16 bits, or a palette, whose indices count and not its
    colours. 255 and the values in `void` become `VOID`; the classes are the first `num_classes` values that
    are not void, so with `void={0}` value 1 is class 0. Its orientation is applied as that of a picture is.

    Args:
        source: a file, or the bytes of one.
        num_classes: K, at most 254 + 1.
        void: further values without a class.
        where: what errors call it; the path by default.

    Returns:
        (H, W) uint8, class index 0…K-1 or `VOID`.

    Raises:
        DataError: as for `read_image`; a picture in colours; a value beyond the classes.
    """
    where = _name_of(source, where)
    return class_indices(read_mask_values(source, where), num_classes, void, where)


def read_mask_values(source: Source, where: str | None = None) -> NDArray[np.integer]:
    """The integers in a mask's file, (H, W), before any is taken for a class.

    Raises:
        DataError: as for `read_mask`.
    """
    where = _name_of(source, where)
    with _opened(source, where) as image:
        if image.format in ("JPEG", "MPO"):
            raise DataError(f"{where} is a JPEG, which blurs class indices", "save masks as PNG")
        if image.mode not in MASK_MODES:
            raise DataError(
                f"{where} is {_in_words(image.mode)}; masks hold one class index per pixel, 0…K-1",
                "convert its colours with encore.data.images.mask_from_colours and save an index PNG",
            )
        values = np.asarray(_upright(image))
    return values.astype(np.uint8) if values.dtype == np.bool_ else values


def class_indices(values: NDArray[np.integer], num_classes: int, void: Collection[int], where: str) -> Tensor:
    """Take the integers of a mask for classes, as `read_mask` says.

    Args:
        values: (H, W) integers.
        num_classes, void, where: as for `read_mask`.

    Returns:
        (H, W) uint8, class index 0…K-1 or `VOID`.

    Raises:
        DataError: a value that is neither a class nor void, with all such values.
    """
    if not 1 <= num_classes <= MAX_CLASSES:
        raise DataError(f"{num_classes} classes", f"a mask has room for 1…{MAX_CLASSES}")
    table = np.full(256, VOID, dtype=np.uint8)
    class_values = [value for value in range(VOID) if value not in void][:num_classes]
    table[class_values] = np.arange(len(class_values))
    allowed = np.zeros(256, dtype=bool)
    allowed[[*class_values, *(value for value in void if 0 <= value <= VOID), VOID]] = True
    outside = (values < 0) | (values > VOID)
    small = np.where(outside, 0, values).astype(np.uint8) if outside.any() else values.astype(np.uint8)
    wrong = outside | ~allowed[small]
    if wrong.any():
        found = np.unique(values[wrong])
        shown = ", ".join(str(value) for value in found[:8]) + (" …" if len(found) > 8 else "")
        extra = "".join(f" and {value}" for value in sorted(set(void)))
        raise DataError(
            f"{where} holds the values {shown}, but there are {num_classes} classes, "
            f"values {_ranges(class_values)}, and void is {VOID}{extra}",
            "correct the mask, or name every class, one a line, in classes.txt",
        )
    return torch.from_numpy(table[small])


def mask_from_colours(
    picture: Tensor,
    colours: Sequence[tuple[int, int, int]],
    void_colours: Sequence[tuple[int, int, int]] = ((0, 0, 0),),
) -> Tensor:
    """Turn a mask that was drawn in colours into class indices.

    Args:
        picture: (3, H, W) uint8 RGB, as `read_image` returns it.
        colours: the RGB colour of each class, in index order.
        void_colours: colours of pixels without a class; a colour that is in both belongs to its class.

    Returns:
        (H, W) uint8, class index or `VOID`.

    Raises:
        DataError: a colour that is in neither list.

    Example:
        >>> import torch
        >>> picture = torch.tensor([[[128, 0]], [[64, 0]], [[128, 0]]], dtype=torch.uint8)
        >>> mask_from_colours(picture, [(128, 64, 128)]).tolist()
        [[0, 255]]
    """
    packed = _packed(picture.to(torch.int32))
    mask = torch.full(packed.shape, VOID, dtype=torch.uint8)
    known = torch.zeros(packed.shape, dtype=torch.bool)
    entries = [(colour, VOID) for colour in void_colours]
    entries += [(colour, index) for index, colour in enumerate(colours)]
    for colour, index in entries:
        same = packed == int(_packed(torch.tensor(colour, dtype=torch.int32)))
        mask[same] = index
        known |= same
    if not known.all():
        first = int(packed[~known][0])
        rgb = (first >> 16, first >> 8 & 255, first & 255)
        share = 100 * float((~known).float().mean())
        raise DataError(
            f"{share:.2g} % of the pixels have a colour of no class, the first {rgb}",
            "add it to colours or void_colours; JPEG and smoothing change colours, use the PNG",
        )
    return mask


def size_of(source: Source, where: str | None = None) -> tuple[int, int]:
    """(height, width) of a picture as `read_image` would return it, from the file's header alone.

    Raises:
        DataError: missing, no picture, or too large to be meant.
    """
    where = _name_of(source, where)
    with _opened(source, where) as image:
        width, height = image.size
        return (width, height) if _orientation(image) in _LYING else (height, width)


_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of each EXIF orientation upright."""

_LYING = (5, 6, 7, 8)
"""The orientations whose files have height and width exchanged."""


def _orientation(image: Image.Image) -> int:
    """1…8, from the header of an image that is not loaded yet; 1 where nothing, or nonsense, is noted."""
    if image.format == "TIFF" or not {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"} & image.info.keys():
        return 1  # Pillow turns a TIFF by itself
    try:
        # not the method of PNG, which decodes the whole picture to look for a note at its end
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            noted = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, LookupError, TypeError, OSError, struct.error):
        return 1
    return noted if noted in _TRANSPOSITIONS else 1


def _upright(image: Image.Image) -> Image.Image:
    """The loaded image, turned as its header says."""
    orientation = _orientation(image)
    image.load()
    return image.transpose(_TRANSPOSITIONS[orientation]) if orientation > 1 else image


_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What Pillow's readers raise over damaged files."""


def _name_of(source: Source, where: str | None) -> str:
    if where is not None:
        return where
    return "picture" if isinstance(source, bytes) else str(source)


@contextmanager
def _opened(source: Source, where: str) -> Iterator[Image.Image]:
    """Open with Pillow; whatever it cannot read, now or inside the block, becomes one line."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{where} does not exist", "check the path") from None
    except UnidentifiedImageError:
        problem = f"{where} is empty" if _is_empty(source) else f"{where} is no picture that can be read"
        raise DataError(problem, "give a JPEG, PNG, WebP, TIFF or BMP file") from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise DataError(
            f"{where} has more than {most} megapixels when unpacked", "reduce it, or cut it into tiles"
        ) from None
    except (IsADirectoryError, PermissionError) as error:
        raise unreadable(where, error) from None
    except _DAMAGE as error:
        raise DataError(
            f"{where} is damaged or truncated ({str(error).lower()})", "replace the file or leave it out"
        ) from error


def _is_empty(source: Source) -> bool:
    try:
        return len(source) == 0 if isinstance(source, bytes) else Path(source).stat().st_size == 0
    except OSError:
        return False


def _rgb(image: Image.Image, where: str) -> NDArray[np.uint8]:
    """(H, W, 3) of a loaded picture in any of Pillow's modes."""
    if image.has_transparency_data and not image.mode.startswith("I"):
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, layer)
    elif image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{where} has 32-bit values", "save it with 8 or 16 bits per pixel")
        if isinstance(transparent := image.info.get("transparency"), int):
            values = np.where(values == transparent, 65535, values)
        grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    elif image.mode == "F":
        raise DataError(f"{where} has floating-point values", "save it with 8 or 16 bits per pixel")
    return np.array(image.convert("RGB"))


def _in_words(mode: str) -> str:
    names = {"RGB": "an RGB picture", "RGBA": "an RGB picture with transparency", "CMYK": "a CMYK picture"}
    return names.get(mode, f"a picture of mode {mode}")


def _packed(rgb: Tensor) -> Tensor:
    """(3, …) integers → (…) with one integer per colour."""
    return rgb[0] << 16 | rgb[1] << 8 | rgb[2]


def _ranges(values: Sequence[int]) -> str:
    """`0…4, 6…9` for sorted integers."""
    parts: list[list[int]] = []
    for value in values:
        if parts and value == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], value]
        else:
            parts.append([value, value])
    return ", ".join(str(low) if low == high else f"{low}…{high}" for low, high in parts)
