"""Classification as a LightningModule: loss, metrics, optimiser around any model that yields logits per picture."""

from __future__ import annotations

from typing import Any, Literal

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.nn.model import EncoreModel
from encore.tasks.classification.metrics import ClassificationMetrics
from encore.tasks.classification.mixing import Mixing
from encore.tasks.own_ways import HasOwnLoss
from encore.tasks.views import as_input
from encore.training.configuration import TrainingConfiguration
from encore.training.optimisation import configured_optimizers

Loss = Literal["cross_entropy", "binary_cross_entropy"]
HEAD = "head"
"""What a model calls the layer that classifies its pooled features."""


class ClassificationModule(lightning.LightningModule):
    """Trains a model on batches of `ClassificationSample`.

    Args:
        model: (B, 3, H, W) → logits (B, K), with its own preprocessing; one that `HasOwnLoss` learns by that.
        training: optimiser and schedule.
        classes: names of the K classes.
        augmentation: of pictures (B, 3, H, W) in 0…1, in training.
        mixing: of pictures and targets, in training.
        loss: `cross_entropy` of the softmax, or `binary_cross_entropy` of each class's sigmoid, summed over classes
            and averaged over pictures.
        head_only: whether the encoder stays as it is, in evaluation mode, and the head alone learns.
    """

    def __init__(
        self,
        model: EncoreModel,
        training: TrainingConfiguration,
        classes: tuple[str, ...],
        augmentation: nn.Module,
        mixing: Mixing,
        loss: Loss = "cross_entropy",
        head_only: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.training_configuration = training
        self.augmentation, self.mixing = augmentation, mixing
        self.loss, self.head_only = loss, head_only
        self.metrics = ClassificationMetrics(classes)
        if head_only:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name.partition(".")[0] == HEAD)

    def train(self, mode: bool = True) -> ClassificationModule:
        """Training mode, but for an encoder that does not learn."""
        super().train(mode)
        if mode and self.head_only:
            self.model.eval()
            self.model.get_submodule(HEAD).train()
        return self

    def on_train_epoch_start(self) -> None:
        """Lightning leaves every layer in the mode in which it finds it; a model begins in training mode."""
        self.train()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of one batch: images (B, 3, H, W) uint8 RGB, labels (B,)."""
        # Places of pixels do not fit into half precision.
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            images = self.augmentation(batch["image"].float() / 255)
            images, targets = self.mixing(images, batch["label"])
        inputs = as_input(self.model, images)
        if isinstance(self.model, HasOwnLoss):
            return self.model.own_loss(inputs, targets)["loss"]
        logits = self.model(inputs).float()
        if self.loss == "binary_cross_entropy":
            return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(logits)
        return F.cross_entropy(logits, targets)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add one batch to the validation metrics."""
        inputs = as_input(self.model, batch["image"])
        logits = self.model(inputs).float()
        self.metrics.update(logits, batch["label"])
        if isinstance(self.model, HasOwnLoss):
            targets = F.one_hot(batch["label"], logits.shape[1]).to(logits)
            terms = self.model.own_loss(inputs, targets)
        else:
            terms = {"loss": F.cross_entropy(logits, batch["label"])}
        for name, term in terms.items():
            self.log(f"val_{name}", term, batch_size=len(logits), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log accuracies in percent."""
        values = self.metrics.compute()
        self.metrics.reset()
        for name in ("accuracy", "class_accuracy"):
            value = values[name]
            self.log(f"val_{name}", 0.0 if value is None else value, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The configured optimiser, with its schedule stepped per batch."""
        return configured_optimizers(self, self.training_configuration)
