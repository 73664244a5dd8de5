"""Classification of rows as a LightningModule: loss, metrics, optimiser around any `RowModel`."""

from __future__ import annotations

from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from encore.nn.tables.row_model import RowModel
from encore.tasks.classification.metrics import ClassificationMetrics
from encore.tasks.own_ways import HasOwnLoss
from encore.training.configuration import TrainingConfiguration
from encore.training.optimisation import configured_optimizers


class TabularModule(lightning.LightningModule):
    """Trains a model on batches of `TabularSample`.

    Args:
        model: (B, D) → logits (B, K), with its own standardisation; one that `HasOwnLoss` learns by that.
        training: optimiser and schedule.
        classes: names of the K classes.
        label_smoothing: share of the target that is spread over all classes.
    """

    def __init__(
        self,
        model: RowModel,
        training: TrainingConfiguration,
        classes: tuple[str, ...],
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.training_configuration = training
        self.label_smoothing = label_smoothing
        self.metrics = ClassificationMetrics(classes)

    def terms(self, inputs: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> dict[str, Tensor]:
        """The loss of a batch of standardised rows (B, D) with labels (B,), and what it consists of."""
        targets = F.one_hot(labels, self.metrics.num_classes).to(inputs)
        targets = targets * (1 - label_smoothing) + label_smoothing / self.metrics.num_classes
        if isinstance(self.model, HasOwnLoss):
            return self.model.own_loss(inputs, targets)
        return {"loss": F.cross_entropy(self.model(inputs).float(), targets)}

    def on_train_epoch_start(self) -> None:
        """Lightning leaves every layer in the mode in which it finds it; a model begins in training mode."""
        self.train()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of one batch: features (B, D) in the table's units, labels (B,)."""
        return self.terms(self.model.preprocess(batch["features"]), batch["label"], self.label_smoothing)["loss"]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add one batch to the validation metrics."""
        inputs = self.model.preprocess(batch["features"])
        self.metrics.update(self.model(inputs), batch["label"])
        for name, value in self.terms(inputs, batch["label"]).items():
            self.log(f"val_{name}", value, batch_size=len(inputs), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log accuracies in percent, and the mean log-probability of the right class in nats."""
        values = self.metrics.compute()
        self.metrics.reset()
        for name in ("accuracy", "class_accuracy"):
            self.log(f"val_{name}", values[name] or 0.0, sync_dist=True)
        log_loss = values["log_loss"]
        self.log("val_log_likelihood", -torch.inf if log_loss is None else -log_loss, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The configured optimiser, with its schedule stepped per batch."""
        return configured_optimizers(self, self.training_configuration)
