"""Sparse convolution that leaves hidden cells out: the network runs on the visible tiles alone.

Every sample sees n cells of p×p positions at a scale, and the packed map (B, C, n·p, p) holds nothing else. On it most
of a network is exact as it stands: linear layers, 1×1 convolutions, activations, normalisations (their statistics are
those of the visible positions), pooling to 1×1, stochastic depth of samples, and convolutions and poolings whose
windows stay within a tile, such as k×k with stride k. What is left looks across the border of tiles. It is computed in
the cheapest of three ways, all equal to the masked form:

*Columns*: what the windows see, k² values for each output, is gathered, and matrices are multiplied. For convolutions
of all channels where the output tile is at most 4 wide, and for those that skip positions, such as 1×1 with stride 2
(oneDNN's own, channels last, with fewer than 16 channels, writes where it must not, as of PyTorch 2.13).

*Halo*: tiles are gathered with the border that the window needs, and the layer runs on them without padding. For larger
tiles, where the tiles with borders hold at most twice as many positions as the dense map.

*Dense*: the tiles are put back on the map, the layer runs there, and the visible tiles are taken from it. For anything
else: depthwise convolutions with a large kernel at a small scale, global filters.

The rule comes from times of single layers on a CPU, forward and backward: for 3×3 convolutions of all channels columns
were the fastest at tiles of 4 and less, halo at 8; for 7×7 depthwise ones halo gained at tiles of 8, nothing at 4,
and lost below. So depthwise layers at small scales gain nothing, and cost what they cost in the dense network.
`benchmarks/spark.py` measures whole networks.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.base.errors import InputError
from encore.papers.spark.cells import VisibleCells
from encore.papers.spark.rows import convolve_rows, gather_rows, map_of, rows_of
from encore.papers.spark.sparse import GLOBAL_POOLINGS, POOLINGS, masked_view, require_global, side_of
from encore.papers.spark.views import Change, view_of

Module = TypeVar("Module", bound=nn.Module)

COLUMNS_UP_TO = 4
"""The largest side of an output tile for which convolutions become one product of matrices."""

HALO_UP_TO = 2.0
"""How many times the positions of the dense map the tiles with borders may hold."""


def pack(dense: Tensor, cells: VisibleCells) -> Tensor:
    """(B, C, H, W) → the visible tiles, (B, C, n·p, p), channels last."""
    side = side_of(dense.shape[2], dense.shape[3], cells)
    rows = gather_rows(rows_of(dense), cells.positions(side))
    return map_of(rows, len(dense), cells.per_sample * side, side)


def unpack(packed: Tensor, cells: VisibleCells) -> Tensor:
    """(B, C, n·p, p) → (B, C, H, W), channels last, zero where hidden."""
    side = packed.shape[3]
    rows = gather_rows(rows_of(packed), cells.scattering(side))
    return map_of(rows, len(packed), cells.grid[0] * side, cells.grid[1] * side)


def packed_view(network: Module, cells: VisibleCells, mixing: Collection[str] = ()) -> Module:
    """The network as one that takes and gives packed maps.

    Args:
        network: is left as it is.
        cells: the mask of the batch that the view is for.
        mixing: names of modules beyond convolution and pooling that carry values across positions; they run on the
            dense map (`survey` finds them).

    Returns:
        A view with the parameters and buffers of `network`.
    """

    def choose(name: str, module: nn.Module) -> Change | None:
        if name in mixing:
            return _PackedDense, {"cells": cells, "dense": masked_view(module, cells)}
        for kinds, mixin in _MIXINS:
            if isinstance(module, kinds):
                return mixin, {"cells": cells}
        return None

    return view_of(network, choose)


class _Window:
    """A square window that slides over a map with zero padding, as a convolution's or pooling's.

    Args:
        kernel, stride, padding, dilation: as in PyTorch; anything but a number or two equal ones is not square.
    """

    def __init__(self, kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> None:
        pairs = [one if isinstance(one, tuple) else (one, one) for one in (kernel, stride, padding, dilation)]
        self.square = all(isinstance(one[0], int) and one[0] == one[-1] for one in pairs)
        if self.square:
            self.kernel, self.stride, self.padding, self.dilation = (one[0] for one in pairs)
            self.reach = self.dilation * (self.kernel - 1) + 1

    def divides(self, side: int) -> bool:
        """Whether it makes tiles of this side into tiles p/stride wide, whatever their number."""
        return self.square and side % self.stride == 0 and self.reach - self.stride <= 2 * self.padding < self.reach

    def borders(self, side: int) -> tuple[int, int]:
        """How many positions before and behind a tile are seen."""
        return self.padding, max(side - self.stride + self.reach - self.padding - side, 0)

    def stays_inside(self, side: int) -> bool:
        """Whether it never looks across a tile's border."""
        return self.divides(side) and self.borders(side) == (0, 0)


class _Packed:
    """Mixin of the view's layers."""

    cells: VisibleCells

    def is_packed(self, x: Tensor) -> bool:
        """Whether it is a map; what was pooled to 1×1 is none."""
        return x.ndim == 4 and x.shape[2] == x.shape[3] * self.cells.per_sample

    def on_dense_map(self, x: Tensor) -> Tensor:
        """The layer itself on the dense map; what comes out as 1×1 is not packed again."""
        y: Tensor = super().forward(unpack(x, self.cells))  # type: ignore[misc]
        return y if tuple(y.shape[2:]) == (1, 1) else pack(y, self.cells)

    def halo_pays(self, side: int, window: _Window) -> bool:
        """Whether tiles with borders are few enough positions."""
        tiles = self.cells.total * (sum(window.borders(side)) + side) ** 2
        return tiles <= HALO_UP_TO * self.cells.active.numel() * side**2

    def haloed(self, x: Tensor, window: _Window, fill: float = 0.0) -> Tensor:
        """(B, C, n·p, p) → tiles with what the window needs around them, (B·n, C, q, q)."""
        before, after = window.borders(x.shape[3])
        rows = gather_rows(rows_of(x), self.cells.halo(x.shape[3], before, after), fill)
        side = before + x.shape[3] + after
        return map_of(rows, self.cells.total, side, side)

    def joined(self, tiles: Tensor) -> Tensor:
        """(B·n, C, p, p) → (B, C, n·p, p)."""
        side = tiles.shape[3]
        return map_of(rows_of(tiles), self.cells.batch, self.cells.per_sample * side, side)


class _PackedConvolution(_Packed):
    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    groups: int
    padding_mode: str
    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        window, side = _Window(self.kernel_size, self.stride, self.padding, self.dilation), x.shape[-1]
        skips = window.square and window.kernel < window.stride
        if not self.is_packed(x) or (window.stays_inside(side) and not skips):
            return super().forward(x)  # type: ignore[misc]
        if self._is_plain() and window.divides(side):
            out = side // window.stride
            if self.groups == 1 and (skips or out <= COLUMNS_UP_TO):
                plan = self.cells.columns(side, window.kernel, window.stride, window.padding, window.dilation)
                rows = convolve_rows(rows_of(x), plan, self.weight, self.bias)
                return map_of(rows, self.cells.batch, self.cells.per_sample * out, out)
            if self.halo_pays(side, window):
                tiles = self.haloed(x, window)
                return self.joined(F.conv2d(tiles, self.weight, self.bias, self.stride, 0, self.dilation, self.groups))
        return self.on_dense_map(x)

    def _is_plain(self) -> bool:
        """Whether the layer is PyTorch's own, padding with zeros, and not one that changes weights or padding."""
        cls: Any = type(self).__mro__[3]  # behind the view's class, this one and `_Packed`
        return (
            cls.forward is nn.Conv2d.forward
            and cls._conv_forward is nn.Conv2d._conv_forward
            and self.padding_mode == "zeros"
        )


class _PackedTransposed(_Packed):
    kernel_size: Any
    stride: Any
    padding: Any
    output_padding: Any

    def forward(self, x: Tensor) -> Tensor:
        inside = self.kernel_size == self.stride and not any((*self.padding, *self.output_padding))
        return super().forward(x) if inside or not self.is_packed(x) else self.on_dense_map(x)  # type: ignore[misc]


class _PackedPool(_Packed):
    kernel_size: Any
    stride: Any

    def forward(self, x: Tensor) -> Tensor:
        window = _Window(self.kernel_size, self.stride, getattr(self, "padding", 0), getattr(self, "dilation", 1))
        side = x.shape[-1]
        if not self.is_packed(x) or window.stays_inside(side):
            return super().forward(x)  # type: ignore[misc]
        if window.divides(side) and not getattr(self, "ceil_mode", False) and self.halo_pays(side, window):
            # Hidden neighbours are zeros, as in the masked form; outside of the picture pooling sees nothing.
            if type(self).__mro__[3] is nn.MaxPool2d:
                tiles = self.haloed(x, window, -torch.inf)
                return self.joined(F.max_pool2d(tiles, window.kernel, window.stride, 0, window.dilation))
            if type(self).__mro__[3] is nn.AvgPool2d and getattr(self, "count_include_pad", False):
                override: int | None = getattr(self, "divisor_override", None)
                tiles = self.haloed(x, window)
                return self.joined(F.avg_pool2d(tiles, window.kernel, window.stride, divisor_override=override))
        return self.on_dense_map(x)


class _PackedGlobalPool(_Packed):
    output_size: Any

    def forward(self, x: Tensor) -> Tensor:
        require_global(self.output_size)
        return super().forward(x)  # type: ignore[misc]


class _PackedDense(_Packed):
    """A module that mixes positions in a way of its own."""

    dense: nn.Module
    """Its masked form."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_packed(x):
            raise InputError(
                f"{type(self).__mro__[3].__name__} of the backbone mixes positions of something that is no map",
                "use encoding='masked'",
            )
        return pack(self.dense(unpack(x, self.cells)), self.cells)


_MIXINS: tuple[tuple[Any, type], ...] = (
    (nn.Conv2d, _PackedConvolution),
    (nn.ConvTranspose2d, _PackedTransposed),
    (POOLINGS, _PackedPool),
    (GLOBAL_POOLINGS, _PackedGlobalPool),
)
