"""Applying a trained model to people's pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from encore.base.files import write_text
from encore.base.progress import ProgressReporter
from encore.data.images import read_image
from encore.nn.memory import check_memory
from encore.nn.model import EncoreModel
from encore.tasks.inputs import input_files, unique_stems
from encore.tasks.segmentation.pictures import (
    class_colours,
    overlay,
    present_classes,
    save_index_mask,
    with_legend,
)
from encore.tasks.segmentation.uncertainty import answer_at, uncertainty_picture
from encore.tasks.sheets import save_picture

MASK_SUFFIX = ".png"
OVERLAY_SUFFIX = "_overlay.png"
UNCERTAINTY_SUFFIX = "_uncertainty.png"
SUFFIXES = (MASK_SUFFIX, OVERLAY_SUFFIX, UNCERTAINTY_SUFFIX)


def check_pictures(model: EncoreModel, files: Sequence[Path], progress: ProgressReporter) -> None:
    """Read every picture once, so that one that is damaged or too large is named before anything is written.

    Raises:
        DataError: a picture is damaged, or takes more memory than there is.
    """
    largest, height, width = files[0], 0, 0
    for step, file in enumerate(files, start=1):
        size = read_image(file).shape[-2:]
        if size.numel() > height * width:
            largest, (height, width) = file, size
        progress.update("checking pictures", step, len(files))
    check_memory(_Labels(model), (1, 3, height, width), f"{largest} of {height}×{width} pixels", torch.uint8)


class _Labels(nn.Module):
    """What prediction does with one picture, from its bytes to its classes."""

    def __init__(self, model: EncoreModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """(1, 3, H, W) uint8 → (1, H, W)."""
        return answer_at(self.model, image, tuple(image.shape[-2:])).labels


def predict_files(
    model: EncoreModel, inputs: Sequence[Path], folder: Path, progress: ProgressReporter
) -> list[dict[str, Any]]:
    """Segment pictures of any size.

    For each it writes `<stem>.png`, the class index of every pixel at the picture's own size, and
    `<stem>_overlay.png`, the picture under its coloured mask with a legend; a model that answers with samples
    also leaves `<stem>_uncertainty.png`, bright where they differ; at the end `predictions.jsonl`.
    All pictures are read once before the first is segmented, so that a damaged one is named before
    anything is written.

    Returns:
        The rows of `predictions.jsonl`: `input`, `mask`, `overlay`, `height`, `width`, and `classes`, the
        share of pixels of every class that occurs; of samples also `uncertainty`, the picture, and
        `mean_uncertainty`, the class-averaged variance over all pixels.

    Raises:
        DataError: an input is missing, damaged, or too large for the memory that there is.
    """
    files = input_files(inputs)
    check_pictures(model, files, progress)
    assert model.classes is not None
    names, colours = model.classes, model.colours or class_colours(len(model.classes))
    rows: list[dict[str, Any]] = []
    for step, (file, stem) in enumerate(zip(files, unique_stems(files, SUFFIXES), strict=True), start=1):
        image = read_image(file)
        answer = answer_at(model, image.unsqueeze(0), tuple(image.shape[-2:]))
        mask = answer.labels[0].to(torch.uint8).cpu()
        shown = present_classes([mask], len(names))
        save_index_mask(mask, folder / f"{stem}{MASK_SUFFIX}")
        picture = overlay(image, mask, colours)
        legend = [names[index] for index in shown], [colours[index] for index in shown]
        save_picture(with_legend(picture, *legend), folder / f"{stem}{OVERLAY_SUFFIX}")
        row: dict[str, Any] = {
            "input": str(file),
            "mask": f"{stem}{MASK_SUFFIX}",
            "overlay": f"{stem}{OVERLAY_SUFFIX}",
            "height": mask.shape[0],
            "width": mask.shape[1],
            "classes": {names[index]: share for index, share in shares(mask, shown).items()},
        }
        if answer.uncertainty is not None:
            uncertainty = answer.uncertainty[0].cpu()
            save_picture(uncertainty_picture(uncertainty), folder / f"{stem}{UNCERTAINTY_SUFFIX}")
            row |= {"uncertainty": f"{stem}{UNCERTAINTY_SUFFIX}", "mean_uncertainty": float(uncertainty.mean())}
        rows.append(row)
        progress.update("predicting", step, len(files))
    write_text(folder / "predictions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return rows


def shares(mask: Tensor, classes: Sequence[int]) -> dict[int, float]:
    """The share of pixels of each of `classes` in an (H, W) mask."""
    counts = np.bincount(mask.numpy().ravel(), minlength=256) / mask.numel()
    return {index: round(float(counts[index]), 6) for index in classes}
