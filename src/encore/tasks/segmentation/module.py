"""Segmentation as a LightningModule: loss, metrics, optimiser around any model that yields logits per pixel."""

from __future__ import annotations

from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from encore.nn.model import DeeplySupervised, EncoreModel
from encore.tasks.segmentation.losses import SegmentationLoss
from encore.tasks.segmentation.metrics import SegmentationMetrics
from encore.training.configuration import TrainingConfiguration
from encore.training.optimisation import configured_optimizers

BAND_BYTES = 2**28
"""The most that scores take while they are resized to a picture's size."""


class SegmentationModule(lightning.LightningModule):
    """Trains a model on batches of `SegmentationSample`.

    Args:
        model: (B, 3, H, W) → logits (B, K, h, w), with its own preprocessing; they are resized bilinearly to the
            masks. Where it is `DeeplySupervised`, the losses of all its heads are added.
        loss: of logits and masks.
        training: optimiser and schedule.
        classes: names of the K classes.
    """

    def __init__(
        self,
        model: EncoreModel,
        loss: SegmentationLoss,
        training: TrainingConfiguration,
        classes: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.training_configuration = training
        self.metrics = SegmentationMetrics(classes, boundary_tolerance=None)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of one batch: images (B, 3, H, W) uint8 RGB, masks (B, H, W) uint8."""
        inputs, masks = self.model.preprocess(batch["image"]), batch["mask"].long()
        if not isinstance(self.model, DeeplySupervised):
            return self.loss(resized(self.model(inputs), masks.shape[-2:]), masks)
        heads = self.model.supervised_logits(inputs)
        losses = [weight * self.loss(resized(logits, masks.shape[-2:]), masks) for logits, weight in heads]
        return torch.stack(losses).sum()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add one batch to the validation metrics."""
        masks = batch["mask"].long()
        logits = logits_at(self.model, batch["image"], tuple(masks.shape[-2:]))
        self.metrics.update(logits, masks)
        self.log("val_loss", self.loss(logits, masks), batch_size=len(masks), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log mean IoU, global and class accuracy in percent."""
        values = self.metrics.compute()
        self.metrics.reset()
        for name in ("mean_iou", "global_accuracy", "class_accuracy"):
            value = values[name]
            self.log(f"val_{name}", 0.0 if value is None else value, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The configured optimiser, with its schedule stepped per batch."""
        return configured_optimizers(self, self.training_configuration)


def logits_at(model: EncoreModel, images: Tensor, size: tuple[int, ...]) -> Tensor:
    """The logits of `images`, (B, 3, H, W) uint8 RGB, resized bilinearly to `size` (height, width).

    A model that was trained at another size sees the images at its own, by its preprocessing.
    """
    return resized(model(model.preprocess(images)).float(), size)


def resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """(B, C, h, w) resized bilinearly to (B, C, *size)."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def labels_at(scores: Tensor, size: tuple[int, ...]) -> Tensor:
    """The class of the largest score of every pixel, the scores resized bilinearly to `size`.

    Large pictures are resized a band of rows at a time, so that K maps of their size are never there at once.

    Args:
        scores: (B, K, h, w).
        size: (H, W).

    Returns:
        (B, H, W) int64.
    """
    height, width = size
    rows = max(1, BAND_BYTES // (scores.shape[0] * scores.shape[1] * width * scores.element_size()))
    if rows >= height or tuple(scores.shape[-2:]) == (height, width):
        return resized(scores, size).argmax(1)
    y, x = ((2 * torch.arange(side, device=scores.device) + 1) / side - 1 for side in (height, width))
    bands = []
    for band in y.split(rows):
        grid = torch.stack([x.expand(len(band), -1), band.unsqueeze(1).expand(-1, width)], dim=-1)
        grid = grid.expand(len(scores), -1, -1, -1)
        here = F.grid_sample(scores, grid, mode="bilinear", padding_mode="border", align_corners=False)
        bands.append(here.argmax(1))
    return torch.cat(bands, dim=1)


@torch.no_grad()
def predicted_mask(model: EncoreModel, image: Tensor) -> Tensor:
    """The most likely class of every pixel.

    Args:
        model: in evaluation mode.
        image: (3, H, W) uint8 RGB.

    Returns:
        (H, W) uint8, class indices, on the CPU.
    """
    logits = model(model.preprocess(image.unsqueeze(0))).float()
    return labels_at(logits, tuple(image.shape[-2:]))[0].to(torch.uint8).cpu()
