"""What masked pre-training looks like: pictures, what was hidden of them, what was painted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from encore.base.seeds import derive_seed
from encore.nn.model import Preprocessing
from encore.tasks.sheets import photograph, picture_sheet


def as_pictures(inputs: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Undo a preprocessing: (B, 3, H, W) as a network takes it → uint8 RGB."""
    inputs = inputs.float()
    mean, std = (inputs.new_tensor(values).view(1, 3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    pixels = inputs * std + mean
    if preprocessing.channel_order == "BGR":
        pixels = pixels.flip(1)
    return (pixels * (255 / preprocessing.scale)).round_().clamp_(0, 255).to(torch.uint8)


@torch.no_grad()
def reconstructed(model: Any, images: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures with some of them hidden, and with that painted.

    Args:
        model: a `MaskedAutoencoder`, in evaluation mode.
        images: (B, 3, H, W) uint8 RGB.
        seed: of the mask.

    Returns:
        Both (B, 3, *size) uint8, on the CPU.
    """
    inputs = model.preprocess(images)
    generator = torch.Generator().manual_seed(derive_seed("mask", seed))
    mask = model.draw_mask(len(images), generator).to(inputs.device)
    hidden, painted = model.masked(inputs, mask), model.reconstruct(inputs, mask)
    return as_pictures(hidden, model.preprocessing).cpu(), as_pictures(painted, model.preprocessing).cpu()


def reconstruction_sheet(models: Mapping[str, Any], images: Tensor, cell_width: int = 180) -> Image.Image:
    """A sheet with one picture a row: itself, what is left of it, and what each model paints.

    Args:
        models: by what the sheet calls them; all see the same part.
        images: (B, 3, H, W) uint8 RGB.
        cell_width: pixels of a column.
    """
    columns = [reconstructed(model, images) for model in models.values()]
    first = next(iter(models.values()))
    rows = []
    for index in range(len(images)):
        seen = first.preprocessing.picture(images[index])
        pictures = [seen, columns[0][0][index], *(painted[index] for _, painted in columns)]
        rows.append([photograph(picture) for picture in pictures])
    return picture_sheet(rows, ["picture", "visible part", *models], cell_width)
