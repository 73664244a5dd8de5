"""Applying a trained classifier to people's pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from encore.base.files import write_text
from encore.base.progress import ProgressReporter
from encore.data.images import read_image
from encore.nn.model import EncoreModel
from encore.tasks.classification.cases import reasons_picture
from encore.tasks.classification.pictures import Ranked, ranked_picture
from encore.tasks.inputs import input_files, unique_stems
from encore.tasks.own_ways import GivesReasons
from encore.tasks.sheets import save_picture

SUFFIX = ".png"
TOP = 5
"""How many of the likeliest classes a prediction names."""


@torch.no_grad()
def predict_files(
    model: EncoreModel, inputs: Sequence[Path], folder: Path, progress: ProgressReporter
) -> list[dict[str, Any]]:
    """Classify pictures of any size.

    For each it writes `<stem>.png`, the picture as the model sees it beside its likeliest classes; at the end
    `predictions.jsonl`. All pictures are read once before the first is classified, so that a damaged one is named
    before anything is written.

    Returns:
        The rows of `predictions.jsonl`: `input`, `class`, `probability` 0…1, `top`, the likeliest classes with their
        probabilities, `picture`, and `reasons` of a model that gives them, the nearest case first.

    Raises:
        DataError: an input is missing or damaged.
    """
    files = input_files(inputs)
    for step, file in enumerate(files, start=1):
        read_image(file)
        progress.update("checking pictures", step, len(files))
    rows: list[dict[str, Any]] = []
    for step, (file, stem) in enumerate(zip(files, unique_stems(files, (SUFFIX,)), strict=True), start=1):
        image = read_image(file)
        ranked = ranked_classes(model, image)
        reasons = model.reasons(model.preprocess(image.unsqueeze(0)))[0] if isinstance(model, GivesReasons) else []
        seen = model.preprocessing.picture(image)
        drawn = reasons_picture(seen, ranked, reasons) if reasons else ranked_picture(seen, ranked)
        save_picture(drawn, folder / f"{stem}{SUFFIX}")
        rows.append(
            {
                "input": str(file),
                "class": ranked[0][0],
                "probability": ranked[0][1],
                "top": [{"class": name, "probability": probability} for name, probability in ranked],
                "picture": f"{stem}{SUFFIX}",
                **({"reasons": [reason.as_json() for reason in reasons]} if reasons else {}),
            }
        )
        progress.update("predicting", step, len(files))
    write_text(folder / "predictions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return rows


def ranked_classes(model: EncoreModel, image: torch.Tensor) -> Ranked:
    """The likeliest classes of a picture, (3, H, W) uint8, with their probabilities, rounded to six places."""
    assert model.classes is not None
    probabilities = model(model.preprocess(image.unsqueeze(0))).float().softmax(1)[0].cpu()
    best = probabilities.topk(min(TOP, len(probabilities)))
    return [
        (model.classes[index], round(float(value), 6))
        for index, value in zip(best.indices.tolist(), best.values, strict=True)
    ]
