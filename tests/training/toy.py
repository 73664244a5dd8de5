"""A tiny regression, trained like everything else: with dropout, shuffling and a validation metric."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from encore.training.configuration import TrainingConfiguration
from encore.training.optimisation import make_optimizer, make_schedule


class Points(Dataset[Any]):
    """Points of a plane with noise that depends on epoch and sample."""

    def __init__(self, num_samples: int = 23, poison: int | None = None) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(num_samples, 3, generator=generator)
        self.targets = self.inputs.sum(1, keepdim=True)
        self.poison = poison

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, key: tuple[int, int] | int) -> tuple[Tensor, Tensor]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        target = self.targets[index] * (float("nan") if epoch == self.poison else 1.0)
        return self.inputs[index] + 0.01 * epoch, target


class Regression(lightning.LightningModule):
    """One hidden layer with dropout."""

    def __init__(self, configuration: TrainingConfiguration, fail_at: int | None = None) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))
        self.configuration = configuration
        self.fail_at = fail_at

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.fail_at is not None and self.global_step == self.fail_at:
            raise RuntimeError("killed")
        inputs, targets = batch
        return nn.functional.mse_loss(self.model(inputs), targets)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = batch
        self.log("val_score", -nn.functional.mse_loss(self.model(inputs), targets))

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.model, self.configuration)
        schedule = make_schedule(optimizer, self.configuration, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
