"""What classification looks like: a picture beside its likeliest classes, sheets of samples, a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from encore.base.files import replacing
from encore.tasks.sheets import photograph

Ranked = Sequence[tuple[str, float]]
"""Classes with their probabilities, the likeliest first."""

GREEN, RED, GREY = (24, 128, 56), (190, 40, 40), (70, 110, 160)
MAX_NAMED = 40
"""Classes that a confusion matrix names on its axes; of more it shows the matrix alone."""


def ranked_picture(image: Tensor, ranked: Ranked, truth: str | None = None, width: int = 520) -> Image.Image:
    """A picture with bars for its likeliest classes beside it.

    Args:
        image: (3, H, W) uint8.
        ranked: classes and probabilities 0…1.
        truth: the right class, whose bar is green; the first is red if it is another one.
        width: of the result, in pixels.
    """
    side = width // 2 - 20
    photo = photograph(image)
    scale = side / max(photo.size)
    smoothly = Image.Resampling.BICUBIC if max(photo.size) > 64 else Image.Resampling.NEAREST
    photo = photo.resize((max(round(photo.width * scale), 1), max(round(photo.height * scale), 1)), smoothly)
    sheet = Image.new("RGB", (width, max(photo.height, 34 * len(ranked)) + 16), "white")
    sheet.paste(photo, (8, 8))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    left, room = width // 2, width // 2 - 12
    for place, (name, probability) in enumerate(ranked):
        top = 8 + 34 * place
        colour = GREY if truth is None else GREEN if name == truth else RED if place == 0 else GREY
        draw.rectangle((left, top + 18, left + max(round(room * probability), 1), top + 26), fill=colour)
        share = f"{100 * probability:.1f} %"
        draw.text((left + room, top), share, fill=(30, 30, 30), font=font, anchor="ra")
        draw.text((left, top), fitted(name, font, room - font.getlength(share) - 8), fill=(30, 30, 30), font=font)
    return sheet


def fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float) -> str:
    """`text`, or as much of its beginning as fits into `room` pixels."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


def sample_sheet(
    rows: Sequence[tuple[Tensor, str, Sequence[str]]], headings: Sequence[str], cell: int = 150
) -> Image.Image:
    """A sheet with one sample a column: the picture, the truth, and what each model takes it for.

    Args:
        rows: for each sample its image (3, H, W) uint8, its class, and the answers of the models.
        headings: names of the models.
        cell: pixels of a column.
    """
    font = ImageFont.load_default(13)
    margin = max(int(font.getlength(name)) for name in ("truth", *headings)) + 16
    line = 20
    height = cell + line * (1 + len(headings)) + 12
    sheet = Image.new("RGB", (margin + len(rows) * (cell + 6), height), "white")
    draw = ImageDraw.Draw(sheet)
    for place, heading in enumerate(("truth", *headings)):
        draw.text((8, cell + 8 + line * place), heading, fill=(30, 30, 30), font=font)
    for column, (image, truth, answers) in enumerate(rows):
        left = margin + column * (cell + 6)
        photo = photograph(image)
        smoothly = Image.Resampling.BICUBIC if max(photo.size) > 64 else Image.Resampling.NEAREST
        scale = cell / max(photo.size)
        size = max(round(photo.width * scale), 1), max(round(photo.height * scale), 1)
        sheet.paste(photo.resize(size, smoothly), (left, 4 + (cell - size[1]) // 2))
        draw.text((left, cell + 8), fitted(truth, font, cell), fill=(30, 30, 30), font=font)
        for place, answer in enumerate(answers, start=1):
            colour = GREEN if answer == truth else RED
            draw.text((left, cell + 8 + line * place), fitted(answer, font, cell), fill=colour, font=font)
    return sheet


def confusion_picture(matrix: Tensor, classes: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix (K, K), rows are the truth, as shares of each row."""
    counts = matrix.double().numpy()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(max(3.5, 0.45 * len(classes) + 2), 14)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, label="share of the class's pictures", shrink=0.8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    if len(classes) <= MAX_NAMED:
        names = [name.replace("$", r"\$") for name in classes]  # a dollar would begin a formula
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    if len(classes) <= MAX_NAMED // 2:
        for row, column in np.argwhere(counts > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
