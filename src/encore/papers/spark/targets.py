"""What is regressed: the pixels of each cell, normalised by the cell's own mean and deviation (section 3.3)."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor

EPS = 1e-6


def to_patches(images: Tensor, side: int) -> Tensor:
    """(B, C, f_h·side, f_w·side) → (B, f_h·f_w, side²·C): pixels in row-major order, channels last."""
    return rearrange(images, "b c (h p) (w q) -> b (h w) (p q c)", p=side, q=side)


def from_patches(patches: Tensor, side: int, grid: tuple[int, int], num_channels: int) -> Tensor:
    """The inverse of `to_patches`."""
    return rearrange(
        patches, "b (h w) (p q c) -> b c (h p) (w q)", h=grid[0], w=grid[1], p=side, q=side, c=num_channels
    )


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and √(unbiased variance + 1e-6) of each patch, all channels together: (B, L, 1) each."""
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + EPS).sqrt()
