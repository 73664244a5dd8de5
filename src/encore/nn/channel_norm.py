"""Layer normalisation of maps, (B, C, H, W), whose channels lie innermost in memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-6


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, H, W), eps 1e-6."""

    def __init__(self, num_channels: int) -> None:
        super().__init__(num_channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W), channels innermost."""
        return map_of(super().forward(x.permute(0, 2, 3, 1)))


def map_of(rows: Tensor) -> Tensor:
    """(B, H, W, C) → (B, C, H, W), without a copy."""
    x = rows.permute(0, 3, 1, 2)
    # Of maps with channels innermost the tracer asks whether they are one cell wide, which an open size cannot answer.
    return x.contiguous() if torch.compiler.is_exporting() else x
