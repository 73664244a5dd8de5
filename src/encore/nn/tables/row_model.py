"""What models of tables share: rows come in the table's units, and the model knows what is usual in them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from encore.base.errors import InputError
from encore.nn.model import EncoreModel


class Standardisation(nn.Module):
    """(x - mean) / std for every feature; learnt from a training part, saved with the weights.

    Args:
        num_features: D.

    Attributes:
        mean, std: (D,) float32; 0 and 1 until `learn`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))

    @torch.no_grad()
    def learn(self, mean: Tensor, std: Tensor) -> None:
        """Take over (D,) means and standard deviations; a deviation of 0 counts as 1."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def forward(self, rows: Tensor) -> Tensor:
        """(B, D) in the table's units → (B, D), standardised."""
        return (rows - self.mean) / self.std

    def inverse(self, inputs: Tensor) -> Tensor:
        """(…, D), standardised → (…, D) in the table's units."""
        return inputs * self.std + self.mean


class RowModel(EncoreModel):
    """A model of the task `tabular-classification`: (B, D) standardised rows → (B, K) logits.

    Subclasses take `num_features` and `num_classes`, with defaults, call `look_at(num_features)` in their constructor,
    and call the layer that answers `head`, so that it can begin afresh for other classes.
    """

    task = "tabular-classification"
    standardisation: Standardisation

    def look_at(self, num_features: int) -> None:
        """Make room for what is usual in rows of D features."""
        self.num_features = num_features
        self.standardisation = Standardisation(num_features)

    def preprocess(self, images: Tensor) -> Tensor:
        """Rows (B, D) or (D,) float, in the table's units → what `forward` takes, on the model's device.

        Raises:
            InputError: another number of features.
        """
        rows = images.unsqueeze(0) if images.ndim == 1 else images
        if rows.ndim != 2 or rows.shape[1] != self.num_features:
            raise InputError(
                f"rows of shape {tuple(images.shape)} came where (B, {self.num_features}) is due",
                "read the table with encore.data.tables",
            )
        inputs: Tensor = self.standardisation(rows.to(self.device, torch.float32))
        return inputs.to(next(self.parameters()).dtype)

    def in_units(self, inputs: Tensor) -> Tensor:
        """What `forward` takes, (…, D) → rows in the table's units."""
        return self.standardisation.inverse(inputs)
