"""What gnConv is compared with: the same skeleton around other spatial mixers.

| model | mixer | parameters of one, C channels, 7×7 |
|---|---|---|
| `hornet_depthwise` | depthwise 7×7 | 50 C |
| `hornet_depthwise_matched` | 1×1 to 2C, depthwise 7×7, 1×1 to C | 4 C² + 103 C |
| `hornet_gated` | gnConv of order 1: p · depthwise(q) | 3 C² + 53 C |
| `hornet_window_attention` | self-attention in windows of 7×7, and a depthwise 3×3 for positions | 4 C² + 14 C |

The second is the control that matters: it has 1×1 convolutions and parameters as gnConv does (3 C² to 3⅔ C² and about
100 C, by its order), but multiplies nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.base.errors import InputError
from encore.base.registry import register_model
from encore.papers.hornet.gnconv import GnConv, Pointwise
from encore.papers.hornet.model import Initialisation, Pyramid

WINDOW = 7
"""Side of the attention's windows, as Swin's."""

HEAD_WIDTH = 32
"""Channels of an attention head, as Swin's."""


class Compared(Pyramid):
    """HorNet's skeleton with one kind of mixer in all stages.

    Args:
        others: as HorNet's; see `Pyramid`.
    """

    @abstractmethod
    def make_mixer(self, dim: int) -> nn.Module:
        """The mixer of one block of `dim` channels."""

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 64,
        depths: Sequence[int] = (2, 3, 18, 2),
        drop_path: float = 0.0,
        layer_scale: float | None = 1e-6,
        feature_norms: bool = False,
        stem: Sequence[int] = (4, 4),
        initialisation: Initialisation = "truncated_normal",
    ) -> None:
        super().__init__(
            [self.make_mixer] * len(depths),
            num_classes,
            in_channels,
            width,
            depths,
            drop_path,
            layer_scale,
            feature_norms,
            stem,
            initialisation,
        )


def depthwise(dim: int, kernel_size: int = 7) -> nn.Conv2d:
    """The depthwise convolution of `dim` channels that keeps the size."""
    return nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)


class WideDepthwise(nn.Module):
    """1×1 to 2C, depthwise 7×7, 1×1 to C: gnConv without its products.

    Args:
        dim: C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj_in = Pointwise(dim, 2 * dim)
        self.dwconv = depthwise(2 * dim)
        self.proj_out = Pointwise(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        out: Tensor = self.proj_out(self.dwconv(self.proj_in(x)))
        return out


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, after a depthwise 3×3 convolution has told positions apart.

    ```text
    x (B, C, H, W) → x + depthwise 3×3(x) → windows (B·h·w, 49, C) → softmax(QKᵀ/√d) V → 1×1 → (B, C, H, W)
    ```

    A map that is no larger than a window in one direction is one window wide there, so small maps are attended to as a
    whole. Where windows do not divide a map it is padded below and to the right, and nothing looks at the padding.

    Args:
        dim: C.
        window: side of a window.

    Raises:
        ValueError: heads of 32 channels do not divide C.
        InputError: by `forward`, when a program of open sizes is to be exported.
    """

    def __init__(self, dim: int, window: int = WINDOW) -> None:
        super().__init__()
        self.num_heads = max(dim // HEAD_WIDTH, 1)
        if dim % self.num_heads:
            raise ValueError(f"{dim} channels are no whole number of heads of {HEAD_WIDTH}")
        self.window = window
        self.position = depthwise(dim, 3)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj_out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        H, W = x.shape[-2:]
        rows = (x + self.position(x)).permute(0, 2, 3, 1)
        if isinstance(H, torch.SymInt) or isinstance(W, torch.SymInt):
            raise InputError(
                "attention in windows cannot be exported with open picture sizes",
                "export another model, or keep its weights with --format safetensors",
            )
        high, wide = min(self.window, H), min(self.window, W)
        below, right = -H % high, -W % wide
        mask = None
        if below or right:
            rows = F.pad(rows, (0, 0, 0, right, 0, below))
            seen = torch.zeros(1, H + below, W + right, 1, dtype=torch.bool, device=x.device)
            seen[:, :H, :W] = True
            mask = windows_of(seen, high, wide).view(-1, 1, 1, high * wide).repeat(len(x), 1, 1, 1)
        windows = windows_of(rows, high, wide)
        heads = self.qkv(windows).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=mask)
        mixed = self.proj_out(mixed.transpose(1, 2).flatten(2))
        mixed = mixed.view(len(x), (H + below) // high, (W + right) // wide, high, wide, -1)
        return mixed.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)[:, :, :H, :W]


def windows_of(rows: Tensor, high: int, wide: int) -> Tensor:
    """(B, H, W, C) → (B · H/high · W/wide, high · wide, C), windows in row-major order."""
    windows = rows.unflatten(2, (-1, wide)).unflatten(1, (-1, high)).transpose(2, 3)
    return windows.flatten(3, 4).flatten(0, 2)


@register_model("hornet_depthwise")
class HorNetDepthwise(Compared):
    """Depthwise 7×7 convolutions, as ConvNeXt's; fewer parameters than HorNet. Arguments: see `Compared`."""

    def make_mixer(self, dim: int) -> nn.Module:
        """See above."""
        return depthwise(dim)


@register_model("hornet_depthwise_matched")
class HorNetDepthwiseMatched(Compared):
    """Depthwise 7×7 convolutions on 2C channels: about HorNet's parameters. Arguments: see `Compared`."""

    def make_mixer(self, dim: int) -> nn.Module:
        """See above."""
        return WideDepthwise(dim)


@register_model("hornet_window_attention")
class HorNetWindowAttention(Compared):
    """Self-attention in windows, as Swin's without shifts.

    Args:
        window: side of the windows; attention is global where it covers the map.
        others: see `Compared`.
    """

    def __init__(self, window: int = WINDOW, **others: Any) -> None:
        self.window = window
        super().__init__(**others)

    def make_mixer(self, dim: int) -> nn.Module:
        """See above."""
        return WindowAttention(dim, self.window)


@register_model("hornet_gated")
class HorNetGated(Compared):
    """gnConv of order 1 in all stages: one gate for each value. Arguments: see `Compared`."""

    def make_mixer(self, dim: int) -> nn.Module:
        """See above."""
        return GnConv(dim, order=1)
