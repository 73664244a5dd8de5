"""Masked pre-training as a LightningModule, and a picture of what is painted after every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from encore.base.progress import ProgressReporter
from encore.base.seeds import derive_seed
from encore.nn.model import EncoreModel
from encore.tasks.masked_pretraining.pictures import reconstruction_sheet
from encore.tasks.sheets import save_picture
from encore.training.configuration import TrainingConfiguration
from encore.training.optimisation import configured_optimizers


def fixed_mask(model: Any, batch: int, number: int) -> Tensor:
    """The mask of the `number`-th batch of a validation: the same in every epoch and on every machine."""
    generator = torch.Generator().manual_seed(derive_seed("validation mask", number))
    mask: Tensor = model.draw_mask(batch, generator)
    return mask


class MaskedPretrainingModule(lightning.LightningModule):
    """Trains a `MaskedAutoencoder` on batches of `ImageSample`.

    Args:
        model: has its own loss and preprocessing.
        training: optimiser and schedule.
    """

    def __init__(self, model: EncoreModel, training: TrainingConfiguration) -> None:
        super().__init__()
        self.model = model
        self.training_configuration = training

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of one batch: images (B, 3, H, W) uint8 RGB; the mask is new in every step."""
        loss: Tensor = self.model(self.model.preprocess(batch["image"]))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """The loss under masks that are the same in every epoch."""
        images = self.model.preprocess(batch["image"])
        mask = fixed_mask(self.model, len(images), batch_idx).to(images.device)
        self.log("val_loss", self.model(images, mask), batch_size=len(images), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The configured optimiser, with its schedule stepped per batch."""
        return configured_optimizers(self, self.training_configuration)


class PaintEveryEpoch(lightning.Callback):
    """Leaves `reconstructions/epoch_0001.png` …: pictures, what was hidden of them, and what the model paints.

    Args:
        images: a few pictures, (B, 3, H, W) uint8, the same in every epoch.
        folder: of the run.
        progress: told of every picture.
    """

    def __init__(self, images: Sequence[Tensor], folder: Path, progress: ProgressReporter) -> None:
        self.images, self.folder, self.progress = torch.stack(list(images)), folder, progress

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Paint, on the first process."""
        if not trainer.is_global_zero:
            return
        model: Any = pl_module.model
        with torch.no_grad():
            sheet = reconstruction_sheet({"painted": model}, self.images)
        path = self.folder / "reconstructions" / f"epoch_{trainer.current_epoch + 1:04d}.png"
        save_picture(sheet, path)
        self.progress.picture("reconstruction", path)
