"""What the paper compares with: the same network without a prototype layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from encore.base.registry import register_model
from encore.nn.model import EncoreModel
from encore.papers.prototypes.model import (
    WIDTHS,
    as_channels,
    check_size,
    checked_arguments,
    encoder_for,
    without_weights,
)


@register_model("prototypes_twin")
class PlainTwin(EncoreModel):
    """The paper's encoder with a fully connected layer in the place of the prototypes, and no decoder.

        (B, C, 28, 28) → encoder → z (40) → linear, ReLU (15) → W (10)

    ReLU after the layer is our assumption, as everywhere in the encoder; the paper's own twin could not be read.

    Args:
        num_classes, num_prototypes, image_size, num_channels, widths, encoder, encoder_arguments: as for
            `PicturePrototypes`; `num_prototypes` is the width of the layer.
    """

    def __init__(
        self,
        num_classes: int = 10,
        num_prototypes: int = 15,
        image_size: Sequence[int] = (28, 28),
        num_channels: int = 1,
        widths: Sequence[int] = WIDTHS,
        encoder: str | None = None,
        encoder_arguments: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.image_size, widths = checked_arguments(image_size, num_channels, widths)
        self.num_channels = num_channels
        self.encoder, shape = encoder_for(self.image_size, num_channels, widths, encoder, encoder_arguments)
        self.hidden = nn.Linear(shape[0] * shape[1] * shape[2], num_prototypes)
        self.head = nn.Linear(num_prototypes, num_classes)

    @property
    def configuration(self) -> dict[str, Any]:
        """The constructor's arguments; a backbone's are those that build it without its weights, which are ours now."""
        return without_weights(super().configuration, self.encoder)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 1 or 3, H, W), 0…1 → logits (B, K)."""
        check_size(inputs, self.image_size)
        codes = self.encoder(as_channels(inputs, self.num_channels)).flatten(1)
        logits: Tensor = self.head(self.hidden(codes).relu())
        return logits
