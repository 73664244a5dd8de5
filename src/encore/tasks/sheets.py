"""Pictures of pictures: sheets of samples under headings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from encore.base.files import replacing


def photograph(image: Tensor) -> Image.Image:
    """(3, H, W) uint8 as a Pillow picture."""
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture, whole or not at all."""
    with replacing(path) as temporary:
        picture.save(temporary)


def picture_sheet(rows: Sequence[Sequence[Image.Image]], headings: Sequence[str], cell_width: int = 260) -> Image.Image:
    """Pictures in rows under headings, all as wide as `cell_width` and as high as the first.

    The first column, a photograph, is resized smoothly; the others, maps, by repeating pixels.
    """
    width, height = rows[0][0].size
    cell = (cell_width, max(round(cell_width * height / width), 1))
    title, gap = 24, 6
    font = ImageFont.load_default(15)
    size = (len(headings) * (cell_width + gap) + gap, len(rows) * (cell[1] + gap) + title + gap)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(headings):
        left = gap + column * (cell_width + gap)
        draw.text((left + cell_width / 2, title / 2 + 2), heading, fill=(30, 30, 30), font=font, anchor="mm")
    for row, pictures in enumerate(rows):
        top = title + gap + row * (cell[1] + gap)
        for column, picture in enumerate(pictures):
            smoothly = Image.Resampling.BICUBIC if column == 0 else Image.Resampling.NEAREST
            sheet.paste(picture.resize(cell, smoothly), (gap + column * (cell_width + gap), top))
    return sheet
