"""Sparse convolution by masked dense operators, for any convnet as it is (section 3.1; official `encoder.py`).

| layer | in the masked form |
|---|---|
| convolution, pooling, layer normalisation, linear layer on a map | as ever, then zero at hidden positions |
| batch normalisation | statistics of the batch's visible positions; zero at hidden ones |
| group and instance normalisation | statistics of the sample's visible positions; zero at hidden ones |
| pooling to 1×1 | mean (maximum) of the visible positions |
| anything else | untouched |

Layer normalisation works position by position, so that "gather, normalise, scatter" and "normalise, then hide" are the
same. Hiding what a linear layer adds to hidden positions is what the official code does at the end of ConvNeXt's
blocks. The official rules for squeeze-and-excitation and group normalisation are the author's answers to questions.
"""

from __future__ import annotations

from collections.abc import Collection
from math import isqrt
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _LPPoolNd, _MaxPoolNd

from encore.base.errors import InputError
from encore.papers.spark.cells import VisibleCells
from encore.papers.spark.rows import gather_rows, map_of, rows_of
from encore.papers.spark.views import Change, view_of

Module = TypeVar("Module", bound=nn.Module)

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
POOLINGS = (_MaxPoolNd, _AvgPoolNd, _LPPoolNd)
GLOBAL_POOLINGS = (_AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd)


def masked_view(network: Module, cells: VisibleCells, mixing: Collection[str] = ()) -> Module:
    """The network as a sparse one: what is hidden stays zero, and no statistic sees it.

    Args:
        network: takes dense maps that are zero where hidden; is left as it is.
        cells: the mask of the batch that the view is for.
        mixing: names of modules beyond convolution and pooling that carry values across positions, which are hidden
            as those of convolutions are (`survey` finds them).

    Returns:
        A view with the parameters and buffers of `network`.
    """

    def choose(name: str, module: nn.Module) -> Change | None:
        for kinds, mixin in _MIXINS:
            if isinstance(module, kinds):
                return mixin, {"cells": cells}
        return (_MaskedMap, {"cells": cells}) if name in mixing else None

    return view_of(network, choose)


def require_global(output_size: Any) -> None:
    """Refuse adaptive pooling to anything but 1×1.

    Raises:
        InputError: with the size.
    """
    if output_size not in (1, (1, 1), [1, 1]):
        raise InputError(
            f"adaptive pooling to {output_size} mixes visible and hidden cells",
            "choose a backbone that pools to 1×1, or evenly",
        )


def hide(x: Tensor, cells: VisibleCells) -> Tensor:
    """Zero at hidden positions of (B, C, H, W); maps of 1×1 are not of the grid, and left as they are.

    Raises:
        InputError: the map is of another size, so that cells do not fit it.
    """
    if tuple(x.shape[-2:]) == (1, 1):
        return x
    return x * cells.mask(side_of(x.shape[-2], x.shape[-1], cells), x.dtype)


def side_of(height: int, width: int, cells: VisibleCells) -> int:
    """The side of a tile on a map of this size.

    Raises:
        InputError: cells do not fit it.
    """
    side = cells.tile_side(height, width)
    if side is None:
        raise InputError(
            f"a map of {height}×{width} inside the backbone does not cover the grid of {cells.grid[0]}×{cells.grid[1]} "
            "cells evenly",
            "choose a backbone whose layers keep H and W or divide them evenly",
        )
    return side


def hide_last(x: Tensor, cells: VisibleCells) -> Tensor:
    """Zero at hidden positions of (B, H, W, C) or (B, H·W, C); other tensors are left as they are."""
    if x.ndim == 4 and (side := cells.tile_side(x.shape[1], x.shape[2])):
        return x * cells.mask(side, x.dtype).permute(0, 2, 3, 1)
    if x.ndim == 3:
        side = isqrt(x.shape[1] // (cells.grid[0] * cells.grid[1]))
        if side and x.shape[1] == side**2 * cells.grid[0] * cells.grid[1]:
            return x * cells.mask(side, x.dtype).view(len(x), -1, 1)
    return x


class _Masked:
    """Mixin of the view's layers."""

    cells: VisibleCells


class _MaskedMap(_Masked):
    """Convolution and pooling."""

    def forward(self, x: Tensor, *more: Any) -> Tensor:
        return hide(super().forward(x, *more), self.cells)  # type: ignore[misc]


class _MaskedLinear(_Masked):
    def forward(self, x: Tensor) -> Tensor:
        return hide_last(super().forward(x), self.cells)  # type: ignore[misc]


class _MaskedLayerNorm(_Masked):
    """Channels last, or first in subclasses that say so or whose width fits only there."""

    normalized_shape: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)  # type: ignore[misc]
        return hide(y, self.cells) if self._channels_first(y) else hide_last(y, self.cells)

    def _channels_first(self, x: Tensor) -> bool:
        if x.ndim != 4:
            return False
        width = self.normalized_shape[-1]
        if (x.shape[1] == width) != (x.shape[3] == width):
            return x.shape[1] == width
        own: Any = type(self).__mro__[3]  # the layer's class, behind the view's, this one and `_Masked`
        return getattr(self, "data_format", None) == "channels_first" or (
            not hasattr(self, "data_format") and own.forward is not nn.LayerNorm.forward
        )


class _MaskedBatchNorm(_Masked):
    """The layer itself, shown the visible positions alone: (N, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or tuple(x.shape[-2:]) == (1, 1):
            return super().forward(x)  # type: ignore[misc]
        side = side_of(x.shape[2], x.shape[3], self.cells)
        visible = gather_rows(rows_of(x), self.cells.positions(side))
        normalised: Tensor = super().forward(visible[..., None, None])[..., 0, 0]  # type: ignore[misc]
        scattered = gather_rows(normalised, self.cells.scattering(side))
        y = map_of(scattered, len(x), x.shape[2], x.shape[3])
        return y if x.is_contiguous(memory_format=torch.channels_last) else y.contiguous()


class _MaskedGroupNorm(_Masked):
    """Group and instance normalisation; hidden positions add nothing to the sums, and are not counted."""

    eps: float
    weight: Tensor | None
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or tuple(x.shape[-2:]) == (1, 1):
            return super().forward(x)  # type: ignore[misc]
        if getattr(self, "track_running_stats", False):
            raise InputError(
                "instance normalisation with running statistics has no masked form", "use encoding='packed'"
            )
        side = side_of(x.shape[2], x.shape[3], self.cells)
        mask = self.cells.mask(side, x.dtype).unsqueeze(1)
        num_groups: int = getattr(self, "num_groups", x.shape[1])
        groups = x.unflatten(1, (num_groups, -1)) * mask
        count = (self.cells.num_visible * side**2 * groups.shape[2]).view(-1, 1, 1, 1, 1)
        mean = groups.sum((2, 3, 4), keepdim=True) / count
        centred = (groups - mean) * mask
        variance = centred.square().sum((2, 3, 4), keepdim=True) / count
        y = (centred * (variance + self.eps).rsqrt()).flatten(1, 2)
        if self.weight is not None:
            y = y * self.weight.view(-1, 1, 1)
        if self.bias is not None:
            y = y + self.bias.view(-1, 1, 1)
        return hide(y, self.cells)


class _MaskedGlobalPool(_Masked):
    """To 1×1 over the visible positions."""

    output_size: Any

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or tuple(x.shape[-2:]) == (1, 1):
            return super().forward(x)  # type: ignore[misc]
        require_global(self.output_size)
        side = side_of(x.shape[2], x.shape[3], self.cells)
        if isinstance(self, _AdaptiveMaxPoolNd):
            return x.masked_fill(~self.cells.mask(side), -torch.inf).amax((-2, -1), keepdim=True)
        total = hide(x, self.cells).sum((-2, -1), keepdim=True)
        return total / (self.cells.num_visible * side**2).view(-1, 1, 1, 1)


_MIXINS: tuple[tuple[Any, type], ...] = (
    (_BatchNorm, _MaskedBatchNorm),
    ((nn.GroupNorm, _InstanceNorm), _MaskedGroupNorm),
    (nn.LayerNorm, _MaskedLayerNorm),
    ((*CONVOLUTIONS, *POOLINGS), _MaskedMap),
    (GLOBAL_POOLINGS, _MaskedGlobalPool),
    (nn.Linear, _MaskedLinear),
)
