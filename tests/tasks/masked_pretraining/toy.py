"""A masked autoencoder that learns in a second: one linear layer from the visible cells' mean to all pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from encore.nn.model import EncoreModel, FeatureInfo, Preprocessing


class ToyEncoder(EncoreModel):
    """(B, 3, H, W) → (B, 4, H/4, W/4)."""

    preprocessing = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))

    def __init__(self, num_classes: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, 4)
        self.feature_info = [FeatureInfo("conv", 4, 4)]

    def forward_features(self, inputs: Tensor) -> list[Tensor]:
        return [self.conv(inputs)]


class ToyAutoencoder(EncoreModel):
    """Hides half of the 4×4 cells."""

    preprocessing = ToyEncoder.preprocessing

    def __init__(self, image_size: tuple[int, int] = (8, 8)) -> None:
        super().__init__()
        self.preprocessing = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, size=tuple(image_size))
        self.grid = (image_size[0] // 4, image_size[1] // 4)
        self.encoder = ToyEncoder()
        self.decoder = nn.ConvTranspose2d(4, 3, 4, 4)

    def draw_mask(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """True where visible, (B, 1, h, w)."""
        return torch.rand(batch, 1, *self.grid, generator=generator) < 0.5

    def _upsampled(self, mask: Tensor) -> Tensor:
        return mask.repeat_interleave(4, 2).repeat_interleave(4, 3)

    def masked(self, images: Tensor, mask: Tensor) -> Tensor:
        return images * self._upsampled(mask)

    def reconstruct(self, images: Tensor, mask: Tensor) -> Tensor:
        painted = self.decoder(self.encoder.forward_features(self.masked(images, mask))[0])
        return torch.where(self._upsampled(mask), images, painted)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = self.draw_mask(len(images)) if mask is None else mask
        return (self.reconstruct(images, mask) - images).square().mean()

    def pooled(self, images: Tensor) -> Tensor:
        return self.encoder.forward_features(images)[0].mean((2, 3))

    def encoder_model(self) -> EncoreModel:
        return self.encoder
