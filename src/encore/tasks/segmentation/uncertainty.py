"""Segmentation by models that answer with samples: their prediction, how sure they are, and whether that is true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor
from torchmetrics.classification import MulticlassCalibrationError

from encore.base.progress import ProgressReporter
from encore.data.contracts import VOID, SegmentationDataset, SegmentationSample
from encore.nn.model import EncoreModel
from encore.nn.monte_carlo import Posterior, StochasticModel, posterior
from encore.tasks.segmentation.metrics import SegmentationMetrics
from encore.tasks.segmentation.module import labels_at, logits_at, resized
from encore.tasks.segmentation.pictures import colour_mask
from encore.tasks.sheets import picture_sheet


def posterior_at(model: EncoreModel, images: Tensor, size: tuple[int, ...]) -> Posterior:
    """What samples say of `images`, (B, 3, H, W) uint8 RGB: mean and variance resized bilinearly to `size`."""
    mean, variance = (resized(part, size) for part in own_posterior(model, images))
    return Posterior(mean, variance)


def own_posterior(model: EncoreModel, images: Tensor) -> Posterior:
    """What samples say of `images`, (B, 3, H, W) uint8 RGB, at the size at which the model answers."""
    assert isinstance(model, StochasticModel)
    return posterior(model, model.preprocess(images))


class Answer(NamedTuple):
    """What a model says of pictures, at their size.

    Attributes:
        labels: (B, H, W) int64, the most likely classes; of a stochastic model those of the mean probabilities.
        uncertainty: (B, H, W), the class-averaged variance over its samples; None of others.
    """

    labels: Tensor
    uncertainty: Tensor | None


@torch.no_grad()
def answer_at(model: EncoreModel, images: Tensor, size: tuple[int, ...]) -> Answer:
    """Ask `model`, in evaluation mode, about `images`, (B, 3, H, W) uint8 RGB; the answer is of `size`."""
    if not isinstance(model, StochasticModel):
        return Answer(labels_at(model(model.preprocess(images)).float(), size), None)
    answer = own_posterior(model, images)
    return Answer(labels_at(answer.mean, size), resized(answer.uncertainty.unsqueeze(1), size).squeeze(1))


@torch.no_grad()
def calibration(
    model: EncoreModel, dataset: SegmentationDataset, progress: ProgressReporter, stage: str
) -> dict[str, float]:
    """Whether a stochastic model is as often right as it says, sampled and in a single pass without dropout.

    The expected calibration error is the mean of |accuracy - confidence| over 15 bins of the confidence, weighted
    by their pixels (Guo and others, 1706.04599). Void pixels do not count.

    Args:
        model: in evaluation mode.
        dataset: pictures with truth.
        progress, stage: told of every picture.

    Returns:
        In percent: `calibration_error`, `mean_iou` and `global_accuracy`, each for `/sampled` and `/single`; and
        `accuracy_of_certain_half`, that of the pixels whose variance is below their picture's median.
    """
    assert model.classes is not None
    num_classes = len(model.classes)
    kinds = ("sampled", "single")
    errors = {kind: MulticlassCalibrationError(num_classes, n_bins=15, ignore_index=VOID) for kind in kinds}
    metrics = {kind: SegmentationMetrics(model.classes, boundary_tolerance=None) for kind in kinds}
    certain = right = 0
    for index in range(len(dataset)):
        sample: SegmentationSample = dataset[index]
        image, mask = sample["image"].unsqueeze(0), sample["mask"].unsqueeze(0).long()
        size = tuple(mask.shape[-2:])
        sampled = posterior_at(model, image, size)
        for kind, probabilities in (("sampled", sampled.mean), ("single", logits_at(model, image, size).softmax(1))):
            errors[kind].update(probabilities.cpu(), mask)
            metrics[kind].update(probabilities.cpu(), mask)
        uncertainty = sampled.uncertainty.cpu()
        counted = (mask != VOID) & (uncertainty <= uncertainty.median())
        certain += int(counted.sum())
        right += int((sampled.mean.argmax(1).cpu() == mask)[counted].sum())
        progress.update(stage, index + 1, len(dataset))
    values: dict[str, float] = {"accuracy_of_certain_half": 100 * right / max(certain, 1)}
    for kind in kinds:
        values[f"calibration_error/{kind}"] = 100 * float(errors[kind].compute())
        for name in ("mean_iou", "global_accuracy"):
            value = metrics[kind].compute()[name]
            values[f"{name}/{kind}"] = 0.0 if value is None else value
    return values


def uncertainty_picture(uncertainty: Tensor, largest: float | None = None) -> Image.Image:
    """A heat map of (H, W) uncertainties: dark where the model is sure, bright where it is not.

    Args:
        uncertainty: class-averaged variance.
        largest: what is brightest; by default the picture's own largest value.
    """
    bright = float(uncertainty.max()) if largest is None else largest
    share = (uncertainty.cpu() / max(bright, 1e-12)).clamp(0, 1).numpy()
    return Image.fromarray(np.round(255 * colormaps["magma"](share)[..., :3]).astype(np.uint8))


@torch.no_grad()
def uncertainty_sheet(model: EncoreModel, dataset: SegmentationDataset, indices: Sequence[int]) -> Image.Image:
    """One sample a row: picture, truth, mean prediction, where that is wrong, and how unsure the model is."""
    assert model.classes is not None
    assert model.colours is not None
    rows, maps = [], []
    for index in indices:
        sample: SegmentationSample = dataset[index]
        answer = posterior_at(model, sample["image"].unsqueeze(0), tuple(sample["mask"].shape))
        maps.append(answer.uncertainty[0].cpu())
        prediction = answer.mean.argmax(1)[0].to(torch.uint8).cpu()
        wrong = (prediction != sample["mask"]) & (sample["mask"] != VOID)
        rows.append(
            [
                Image.fromarray(np.ascontiguousarray(sample["image"].permute(1, 2, 0).numpy())),
                Image.fromarray(colour_mask(sample["mask"], model.colours)),
                Image.fromarray(colour_mask(prediction, model.colours)),
                Image.fromarray((255 * wrong.numpy()).astype(np.uint8)).convert("RGB"),
            ]
        )
    largest = max(float(one.max()) for one in maps)
    for row, one in zip(rows, maps, strict=True):
        row.append(uncertainty_picture(one, largest))
    return picture_sheet(rows, ("picture", "truth", "prediction", "wrong", "uncertainty"))
