"""What becomes of the encoder's maps: holes are filled, and the picture is painted (official `decoder.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from encore.nn.channel_norm import ChannelNorm


class Densify(nn.Module):
    """Fills the holes of one map with a learned vector and brings it to the decoder's width.

    ```text
    norm (visible positions) → hidden positions ← mask_token → conv 1×1 (smallest map) | 3×3 → (B, out, h, w)
    ```

    Args:
        in_channels: of the encoder's map.
        out_channels: of the decoder at that size.
        norm: `bn` or `ln`.
        smallest: whether the map is the encoder's last: its convolution is 1×1, and none at all where the widths
            agree.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Literal["bn", "ln"], smallest: bool) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm2d(in_channels) if norm == "bn" else ChannelNorm(in_channels)
        self.mask_token = nn.Parameter(torch.empty(1, in_channels, 1, 1))
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        kernel = 1 if smallest else 3
        self.proj: nn.Module = (
            nn.Identity()
            if smallest and in_channels == out_channels
            else nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        )

    def forward(self, normalised: Tensor, visible: Tensor) -> Tensor:
        """What `norm` made of the map, (B, in, h, w), and a bool mask (B, 1, h, w) → (B, out, h, w)."""
        filled = torch.where(visible, normalised, self.mask_token.to(normalised.dtype))
        dense: Tensor = self.proj(filled)
        return dense


class DecoderBlock(nn.Module):
    """(B, C, h, w) → transposed conv 4×4/2 → conv 3×3, BN, ReLU6 → conv 3×3, BN → (B, C/2, 2h, 2w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU6(inplace=True),
            nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels // 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C/2, 2h, 2w)."""
        y: Tensor = self.conv(self.upsample(x))
        return y


class LightDecoder(nn.Module):
    """A U-Net's upward half: one block for every halving of the encoder, then a 1×1 convolution to pixels.

    Args:
        width: channels at the smallest map.
        num_blocks: log2 of the total stride.
        out_channels: of the picture.

    Raises:
        ValueError: the width cannot be halved so often.
    """

    def __init__(self, width: int, num_blocks: int, out_channels: int = 3) -> None:
        super().__init__()
        if width < 1 or width % 2**num_blocks:
            raise ValueError(f"width {width} cannot be halved {num_blocks} times")
        self.blocks = nn.ModuleList(DecoderBlock(width // 2**place) for place in range(num_blocks))
        self.proj = nn.Conv2d(width // 2**num_blocks, out_channels, 1)
        self.apply(initialise)

    def forward(self, maps: Sequence[Tensor | None]) -> Tensor:
        """Paint.

        Args:
            maps: one for each block, smallest first: a densified map (B, width/2^i, h·2^i, w·2^i), which is added to
                what comes from below, or None. The first is there.

        Returns:
            (B, out_channels, h·2^blocks, w·2^blocks).
        """
        x: Tensor | None = None
        for block, one in zip(self.blocks, maps, strict=True):
            if one is not None:
                x = one if x is None else x + one
            x = block(x)
        painted: Tensor = self.proj(x)
        return painted


def initialise(module: nn.Module) -> None:
    """Convolutions: truncated normal of deviation 0.02; transposed ones: Kaiming, by their outputs; biases zero."""
    if isinstance(module, nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
