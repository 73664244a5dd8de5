"""UPerNet (Xiao and others; arXiv 1807.10221): a segmentation decoder for any backbone with maps of several scales.

The form is the one that most backbones are compared with on ADE20K: pyramid pooling on the coarsest map, a feature
pyramid, one convolution over all scales, and an auxiliary classifier that is trained beside it and then left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.nn.creation import create_model
from encore.nn.model import EncoreModel, FeatureInfo

POOL_SCALES = (1, 2, 3, 6)
"""Sides of the grids that the coarsest map is averaged over."""

NUM_SCALES = 4
"""Maps that are taken of a backbone, the coarsest."""


class ConvNormReLU(nn.Module):
    """Convolution without bias that keeps the size, batch normalisation, ReLU.

    Args:
        in_channels, out_channels: of the convolution.
        kernel_size: odd.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.conv_bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, out_channels, H, W)."""
        out: Tensor = self.conv_bn(self.conv(x)).relu()
        return out


class PyramidPooling(nn.Module):
    """Averages of a map over grids of several sizes, each projected, beside the map itself (PSPNet's module).

    Args:
        in_channels: of the map.
        channels: of each projection and of the output.
        scales: sides of the grids.
    """

    def __init__(self, in_channels: int, channels: int, scales: Sequence[int] = POOL_SCALES) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.projections = nn.ModuleList(ConvNormReLU(in_channels, channels, 1) for _ in scales)
        self.bottleneck = ConvNormReLU(in_channels + len(self.scales) * channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, channels, H, W)."""
        pooled = [
            _resized(project(grid_means(x, scale)), x)
            for project, scale in zip(self.projections, self.scales, strict=True)
        ]
        out: Tensor = self.bottleneck(torch.cat([x, *pooled], dim=1))
        return out


def grid_means(x: Tensor, side: int) -> Tensor:
    """Adaptive average pooling, (B, C, H, W) → (B, C, side, side); in an exported program as two products."""
    if not torch.compiler.is_exporting():
        return F.adaptive_avg_pool2d(x, side)
    rows, columns = (_shares(length, side, x) for length in x.shape[-2:])
    return rows @ x @ columns.T


def _shares(length: int, side: int, like: Tensor) -> Tensor:
    """What each of `length` cells adds to each of `side` means, (side, length); cells may add to two."""
    cell = torch.arange(length, device=like.device)
    mean = torch.arange(side, device=like.device).unsqueeze(1)
    first, end = mean * length // side, ((mean + 1) * length + side - 1) // side
    return ((cell >= first) & (cell < end)).to(like.dtype) / (end - first)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class UPerHead(nn.Module):
    """The decoder of UPerNet.

    ```text
    coarsest map ── pyramid pooling ──────────┬──── ×8 ─┐
    finer maps ──── 1×1 ─ + ← ×2 ── 3×3 ──────┴ ×4, ×2 ─┤ all at the finest size → fusion 3×3 → dropout → 1×1 → logits
    finest map ──── 1×1 ─ + ← ×2 ── 3×3 ────────────────┘
    ```

    Every convolution but the last is followed by batch normalisation and ReLU; resizing is bilinear.

    Args:
        in_channels: of the maps, from the finest to the coarsest; one at least.
        channels: of everything inside.
        num_classes: K.
        dropout: of whole channels, before the classifier.
        make_fusion: (channels of all scales, channels) → what brings them together, in place of a 3×3 convolution.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        num_classes: int,
        dropout: float = 0.1,
        make_fusion: Callable[[int, int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        *finer, coarsest = in_channels
        self.pooling = PyramidPooling(coarsest, channels)
        self.laterals = nn.ModuleList(ConvNormReLU(one, channels, 1) for one in finer)
        self.outputs = nn.ModuleList(ConvNormReLU(channels, channels, 3) for _ in finer)
        self.fusion = (make_fusion or _fusion_convolution)(len(in_channels) * channels, channels)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_i, H_i, W_i), the finest first → logits (B, K, H_0, W_0)."""
        merged = [lateral(one) for lateral, one in zip(self.laterals, maps[:-1], strict=True)]
        merged.append(self.pooling(maps[-1]))
        for finer in range(len(merged) - 2, -1, -1):
            merged[finer] = merged[finer] + _resized(merged[finer + 1], merged[finer])
        levels = [output(one) for output, one in zip(self.outputs, merged[:-1], strict=True)]
        levels.append(merged[-1])
        together = torch.cat([levels[0], *(_resized(one, levels[0]) for one in levels[1:])], dim=1)
        logits: Tensor = self.classifier(self.dropout(self.fusion(together)))
        return logits


def _fusion_convolution(in_channels: int, channels: int) -> nn.Module:
    return ConvNormReLU(in_channels, channels, 3)


class AuxiliaryHead(nn.Sequential):
    """A small fully convolutional classifier of one map: 3×3 to `channels`, dropout, 1×1 to K."""

    def __init__(self, in_channels: int, channels: int, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__(
            ConvNormReLU(in_channels, channels, 3), nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1)
        )


class UPerSegmenter(EncoreModel):
    """A backbone, `UPerHead` or another decoder that takes its arguments, and an auxiliary head: see `UPerNet`.

    Args:
        make_head: (in_channels, channels, num_classes, dropout) → the decoder.
        others: see `UPerNet`.
    """

    task = "segmentation"

    def __init__(
        self,
        make_head: Callable[[Sequence[int], int, int, float], UPerHead],
        num_classes: int,
        backbone: str,
        backbone_arguments: Mapping[str, Any] | None,
        backbone_weights: str | Path | Mapping[str, Tensor] | None,
        channels: int,
        auxiliary_weight: float,
        dropout: float,
    ) -> None:
        super().__init__()
        arguments = dict(backbone_arguments or {})
        self.backbone = create_model(backbone, weights=backbone_weights, features_only=True, **arguments)
        # What builds the same backbone when its weights come with ours: without a RUN, a source or a hub.
        self.backbone_arguments = self.backbone.model.configuration
        self.preprocessing = replace(self.backbone.preprocessing, size=None)
        self.smallest_side = self.backbone.model.smallest_side
        self.levels = coarsest_scales(self.backbone.feature_info)
        in_channels = [self.backbone.feature_info[level].num_channels for level in self.levels]
        self.num_classes, self.auxiliary_weight = num_classes, auxiliary_weight
        self.decode_head = make_head(in_channels, channels, num_classes, dropout)
        self.auxiliary_head = (
            AuxiliaryHead(in_channels[-2:][0], max(channels // 2, 1), num_classes, dropout)
            if auxiliary_weight > 0
            else None
        )

    @property
    def configuration(self) -> dict[str, Any]:
        """The constructor's arguments but the backbone's weights, which are among the model's own."""
        stored = {key: value for key, value in super().configuration.items() if key != "backbone_weights"}
        return {**stored, "backbone_arguments": self.backbone_arguments}

    def maps(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) → the backbone's maps that are decoded, the finest first."""
        maps = self.backbone(x)
        return [maps[level] for level in self.levels]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), preprocessed as the backbone's → logits at the finest map's size; (B, K, H/4, W/4) of most."""
        logits: Tensor = self.decode_head(self.maps(x))
        return logits

    def supervised_logits(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """The logits of both heads, each with its weight in the loss."""
        maps = self.maps(x)
        logits = [(self.decode_head(maps), 1.0)]
        if self.auxiliary_head is not None:
            logits.append((self.auxiliary_head(maps[-2:][0]), self.auxiliary_weight))
        return logits


class UPerNet(UPerSegmenter):
    """UPerNet on any registered backbone.

    ```text
    (B, 3, H, W) → backbone → maps of its four coarsest scales → UPerHead → logits (B, K, H/4, W/4)
                                          └ the last but one → AuxiliaryHead, in training
    ```

    Args:
        num_classes: K.
        backbone: name of a registered model that hands out feature maps; its four coarsest scales are taken, fewer
            where it has fewer.
        backbone_arguments: of that model; HorNet's own maps are normalised with `feature_norms`.
        backbone_weights: what fills the backbone before training: a checkpoint, a RUN, or tensors by name, as
            `weights` of `create_model`. No part of the configuration.
        channels: of the decoder; the auxiliary head has half of them.
        auxiliary_weight: of the auxiliary head's loss; 0 for none.
        dropout: of whole channels, before both classifiers.

    Raises:
        InputError: the backbone hands out no feature maps.

    Example:
        >>> from encore.nn.creation import create_model
        >>> model = create_model("upernet", num_classes=21, backbone="segnet_basic", channels=64)
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
    ) -> None:
        super().__init__(
            UPerHead,
            num_classes,
            backbone,
            backbone_arguments,
            backbone_weights,
            channels,
            auxiliary_weight,
            dropout,
        )


def coarsest_scales(feature_info: Sequence[FeatureInfo], number: int = NUM_SCALES) -> list[int]:
    """Which maps are decoded: the last one of each scale, of the `number` coarsest scales, the finest first."""
    last_of = {info.reduction: index for index, info in enumerate(feature_info)}
    return [last_of[reduction] for reduction in sorted(last_of)][-number:]
