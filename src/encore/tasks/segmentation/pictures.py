"""What segmentation looks like: index PNGs, colour overlays, sheets of samples."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from encore.base.files import replacing
from encore.data.contracts import VOID
from encore.tasks.sheets import photograph, picture_sheet

Colour = tuple[int, int, int]
VOID_COLOUR: Colour = (0, 0, 0)


def class_colours(num_classes: int) -> tuple[Colour, ...]:
    """Distinct colours for `num_classes` classes: hues by the golden ratio, three brightnesses in turn."""
    colours = []
    for index in range(num_classes):
        red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.65, (0.95, 0.7, 0.5)[index % 3])
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colours)


def colour_mask(mask: Tensor, colours: Sequence[Colour]) -> NDArray[np.uint8]:
    """(H, W) class indices → (H, W, 3) RGB; void is black."""
    table = np.full((256, 3), VOID_COLOUR, dtype=np.uint8)
    table[: min(len(colours), VOID)] = np.asarray(colours, dtype=np.uint8)[:VOID]
    return table[mask.numpy()]


def overlay(image: Tensor, mask: Tensor, colours: Sequence[Colour], strength: float = 0.55) -> Image.Image:
    """The picture, (3, H, W) uint8, under its coloured mask (H, W)."""
    photo = photograph(image)
    return Image.blend(photo, Image.fromarray(colour_mask(mask, colours)), strength)


def with_legend(picture: Image.Image, names: Sequence[str], colours: Sequence[Colour]) -> Image.Image:
    """`picture` with a strip below that names the classes shown; wider than it where a name needs more room."""
    width, height = picture.size
    font_size = max(11, round(min(width, height) / 28))
    font = ImageFont.load_default(font_size)
    gap, box = font_size // 2, font_size
    lengths = [box + gap + math.ceil(font.getlength(name)) + 2 * gap for name in names]
    sheet_width = max([width, *(gap + length for length in lengths)])
    places: list[tuple[int, int]] = []
    x, y = gap, gap
    for length in lengths:
        if x + length > sheet_width and x > gap:
            x, y = gap, y + box + gap
        places.append((x, y))
        x += length
    strip = y + box + gap if names else 0
    sheet = Image.new("RGB", (sheet_width, height + strip), "white")
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for (left, top), name, colour in zip(places, names, colours, strict=True):
        draw.rectangle((left, height + top, left + box, height + top + box), fill=colour, outline=(60, 60, 60))
        draw.text((left + box + gap, height + top - font_size // 8), name, fill=(30, 30, 30), font=font)
    return sheet


def present_classes(masks: Sequence[Tensor], num_classes: int) -> list[int]:
    """Indices of the classes that occur in any of `masks`, in order."""
    counts = sum(np.bincount(mask.numpy().ravel(), minlength=256) for mask in masks)
    return [index for index in range(num_classes) if np.asarray(counts)[index] > 0]


def save_index_mask(mask: Tensor, path: Path) -> None:
    """Write (H, W) class indices as a grey PNG, pixel value = class index."""
    with replacing(path) as temporary:
        Image.fromarray(mask.numpy()).save(temporary)


def sample_sheet(
    rows: Sequence[tuple[Tensor, Sequence[Tensor]]],
    headings: Sequence[str],
    names: Sequence[str],
    colours: Sequence[Colour],
    cell_width: int = 260,
) -> Image.Image:
    """A sheet with one sample a row: the picture, then masks under the headings, and a legend below.

    Args:
        rows: for each sample its image (3, H, W) uint8 and its masks (H, W).
        headings: one per column, the first for the picture.
        names, colours: of all classes.
        cell_width: pixels; narrow pictures are enlarged without smoothing.
    """
    pictures = [
        [
            photograph(image),
            *(Image.fromarray(colour_mask(mask, colours)) for mask in masks),
        ]
        for image, masks in rows
    ]
    sheet = picture_sheet(pictures, headings, cell_width)
    shown = present_classes([mask for _, masks in rows for mask in masks], len(names))
    return with_legend(sheet, [names[index] for index in shown], [colours[index] for index in shown])
