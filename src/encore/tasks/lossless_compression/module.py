"""Densities that learn by gradients, as a LightningModule."""

from __future__ import annotations

from typing import Any

import lightning
from torch import Tensor

from encore.nn.model import EncoreModel
from encore.training.configuration import TrainingConfiguration
from encore.training.optimisation import configured_optimizers


class DensityModule(lightning.LightningModule):
    """Trains a density that has a `loss`: (N, *sample_shape) integers → mean bits per dimension.

    Args:
        model: the density.
        training: optimiser and schedule.
    """

    def __init__(self, model: EncoreModel, training: TrainingConfiguration) -> None:
        super().__init__()
        self.model = model
        self.training_configuration = training

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Bits per dimension of one batch."""
        density: Any = self.model
        loss: Tensor = density.loss(batch["values"])
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Bits per dimension, with whatever is random drawn from a fixed seed."""
        values: Tensor = batch["values"]
        density: Any = self.model
        bits = density.bits(values).mean() / values[0].numel()
        self.log("val_bits_per_dimension", bits.float(), batch_size=len(values), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The configured optimiser, with its schedule stepped per batch."""
        return configured_optimizers(self, self.training_configuration)
