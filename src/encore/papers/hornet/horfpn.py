"""HorFPN: gnConv of order 2 where feature pyramids have 3×3 convolutions, for detection and for segmentation.

None of them scales its gates (official `GNFPN`, `GNUPerHead`), unlike gnConv in the backbone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encore.nn.feature_pyramid import FPN, ExtraLevels
from encore.nn.upernet import UPerHead, UPerSegmenter
from encore.papers.hornet.gnconv import GnConv

ORDER = 2


class GnFPN(FPN):
    """A feature pyramid whose output convolutions are gnConv: 0.25 M parameters a level of 256 channels, not 0.59 M.

    Args:
        filter_size: (h, w) of global filters, (32, 17) in the official detectors; None for 7×7 kernels.
        others: see `FPN`; extra levels work here in all forms, which in the official code they do not.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_levels: int | None = None,
        extra: ExtraLevels = "max_pool",
        filter_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, num_levels, extra, partial(gated, filter_size=filter_size))


def gated(channels: int, filter_size: Sequence[int] | None) -> GnConv:
    """A gnConv of order 2 that scales nothing."""
    return GnConv(channels, ORDER, filter_size, scale=1.0)


class GnFusion(nn.Module):
    """gnConv, batch normalisation, ReLU: what brings the scales of a `GnUPerHead` together.

    Args:
        in_channels: of all scales.
        channels: of the output.
        filter_size: (h, w) of a global filter; None for a 7×7 kernel.
    """

    def __init__(self, in_channels: int, channels: int, filter_size: Sequence[int] | None = None) -> None:
        super().__init__()
        self.gnconv = GnConv(channels, ORDER, filter_size, scale=1.0, in_channels=in_channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, channels, H, W)."""
        out: Tensor = self.norm(self.gnconv(x)).relu()
        return out


class GnUPerHead(UPerHead):
    """UPerNet's decoder with a gnConv as its fusion: 2.53 M parameters of four maps of 512 channels, not 9.44 M.

    Args:
        filter_size: (h, w) of a global filter; None for a 7×7 kernel.
        others: see `UPerHead`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        num_classes: int,
        dropout: float = 0.1,
        filter_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__(in_channels, channels, num_classes, dropout, partial(GnFusion, filter_size=filter_size))


class UPerNetHorFPN(UPerSegmenter):
    """UPerNet with HorFPN: its fusion is a gnConv.

    Args:
        fusion_filter: (h, w) of the fusion's global filter; None for a 7×7 kernel.
        others: see `UPerNet`.
    """

    def __init__(
        self,
        num_classes: int = 150,
        backbone: str = "hornet_tiny_7x7",
        backbone_arguments: Mapping[str, Any] | None = None,
        backbone_weights: str | Path | Mapping[str, Tensor] | None = None,
        channels: int = 512,
        auxiliary_weight: float = 0.4,
        dropout: float = 0.1,
        fusion_filter: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            partial(GnUPerHead, filter_size=fusion_filter),
            num_classes,
            backbone,
            backbone_arguments,
            backbone_weights,
            channels,
            auxiliary_weight,
            dropout,
        )
