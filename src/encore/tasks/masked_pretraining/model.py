"""What a model does to be pre-trained by masking."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from encore.nn.model import EncoreModel


@runtime_checkable
class MaskedAutoencoder(Protocol):
    """A model that hides parts of pictures and learns to paint them.

    It is an `EncoreModel` too. Pictures come preprocessed, (B, 3, H, W); a mask is of the model's own kind, its first
    length the batch.
    """

    def __call__(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss, a scalar; the mask is drawn with PyTorch's generator of the CPU where it is not given."""
        ...

    def draw_mask(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """A random mask for so many pictures."""
        ...

    def masked(self, images: Tensor, mask: Tensor) -> Tensor:
        """(B, 3, H, W) with what the mask hides set to zero, the mean colour."""
        ...

    def reconstruct(self, images: Tensor, mask: Tensor) -> Tensor:
        """(B, 3, H, W) with what the mask hides painted by the model."""
        ...

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), nothing hidden → one vector per picture, (B, D)."""
        ...

    def encoder_model(self) -> EncoreModel:
        """The encoder alone, as `create_model` makes it for later use."""
        ...
