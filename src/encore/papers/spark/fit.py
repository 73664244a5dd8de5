"""What `encore fit spark` can be told."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field

from encore.nn.creation import create_model
from encore.tasks.masked_pretraining import MaskedPretrainingFit

FEWEST_CELLS = 4
"""Cells along the shorter side of a picture whose size was not chosen."""


class SparKFit(MaskedPretrainingFit):
    """Keys of `encore fit spark`.

    Attributes:
        backbone: registered name of the convnet that is pre-trained.
        backbone_arguments: further arguments of it (`backbone_arguments.width=32`).
        mask_ratio: share of the cells that are hidden, between 0 and 1.
        decoder_width: channels of the decoder's smallest map.
        hierarchy: decode from the maps of all scales, or from the smallest alone.
        encoding: `packed` computes on what is visible; `masked` on everything, and sets the hidden part to zero after
            every layer, with the same result; `zero_out` is the paper's ablation, ordinary layers on pictures with
            holes.
    """

    model: str = "spark"
    backbone: str = "resnet50"
    backbone_arguments: dict[str, Any] = Field(default_factory=dict)
    mask_ratio: float = Field(default=0.6, gt=0, lt=1)
    decoder_width: int = Field(default=768, ge=1)
    hierarchy: bool = True
    encoding: Literal["packed", "masked", "zero_out"] = "packed"

    def arguments(self, image_size: tuple[int, int]) -> dict[str, Any]:
        """What SparK is made with."""
        return {
            "backbone": self.backbone,
            "backbone_arguments": self.backbone_arguments,
            "mask_ratio": self.mask_ratio,
            "width": self.decoder_width,
            "hierarchy": self.hierarchy,
            "encoding": self.encoding,
            **super().arguments(image_size),
        }

    def fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        """The next size whose sides are whole numbers of cells, four at least; smaller pictures are enlarged."""
        with torch.device("meta"):
            backbone = create_model(self.backbone, features_only=True, **self.backbone_arguments)
        cell = backbone.feature_info[-1].reduction
        enlarged = max(1.0, FEWEST_CELLS * cell / min(size))
        height, width = (math.ceil(side * enlarged / cell) * cell for side in size)
        return height, width
