"""Max pooling that remembers where its maxima were in two bits per window.

PyTorch's `return_indices` keeps one int64 per window and channel, 32 times what is needed, and twice what a
float32 map of the same size takes. Windows of 2×2 have four positions:

    offset 0 1        four adjacent channels share a byte:    byte j = o(4j) + 4·o(4j+1) + 16·o(4j+2) + 64·o(4j+3)
           2 3

Source: SegNet (arXiv 1511.00561), section 3: "storing the max-pooling indices … using 2 bits for each 2×2
pooling window".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

_INTEGER_OF_SIZE = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers with as many bytes as a floating-point type: products with 0 and 1 then keep inf and NaN in place."""


class PoolingOffsets(NamedTuple):
    """Where in each 2×2 window the maximum was.

    Attributes:
        packed: (B, ⌈C/4⌉, ⌈H/2⌉, ⌈W/2⌉) uint8, four channels to a byte, in the memory format of the map. In an
            exported program, where bit operations are slow or missing, one: (B, C, ⌈H/2⌉, ⌈W/2⌉).
        num_channels: C.
        size: (H, W) of the map before pooling.
    """

    packed: Tensor
    num_channels: int
    size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """The bytes that are really stored."""
        return self.packed.numel() * self.packed.element_size()

    def unpacked(self) -> Tensor:
        """The offsets 0…3, (B, C, ⌈H/2⌉, ⌈W/2⌉) uint8, row-major in the window."""
        return _unpacked(self.packed, self.num_channels)

    def flat_indices(self) -> Tensor:
        """PyTorch's indices: positions in the flattened H×W plane, (B, C, ⌈H/2⌉, ⌈W/2⌉) int64."""
        return _indices_of(self.unpacked(), self.size[1])

    @classmethod
    def from_flat_indices(cls, indices: Tensor, size: tuple[int, int]) -> PoolingOffsets:
        """Take over what `F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)` returned.

        Args:
            indices: (B, C, ⌈H/2⌉, ⌈W/2⌉) int64, positions in the flattened plane.
            size: (H, W) of the map before pooling.
        """
        return cls(_packed(_offsets_of(indices, size[1])), indices.shape[1], size)


def max_pool2d_with_offsets(x: Tensor) -> tuple[Tensor, PoolingOffsets]:
    """Max pooling over 2×2 windows with stride 2; odd sizes keep their last row and column (ceil mode).

    Ties go to the first position in row-major order, as in Caffe and PyTorch. A NaN in a window gives NaN;
    which of the four positions is then remembered depends on the memory format. For training only the packed
    offsets are kept, not the input.

    Args:
        x: (B, C, H, W), floating point.

    Returns:
        The maxima, (B, C, ⌈H/2⌉, ⌈W/2⌉) in the type and memory format of `x`, and where they were.
    """
    pooled, packed = _Pool.apply(x) if _needs_autograd(x) else _pool(x)
    return pooled, PoolingOffsets(packed, x.shape[1], (x.shape[2], x.shape[3]))


def max_unpool2d_from_offsets(x: Tensor, offsets: PoolingOffsets) -> Tensor:
    """Put every value back where its maximum was; zeros elsewhere.

    Args:
        x: (B, C, ⌈H/2⌉, ⌈W/2⌉), floating point.
        offsets: what `max_pool2d_with_offsets` returned for a map of (B, C, H, W).

    Returns:
        (B, C, H, W) in the type and memory format of `x`.
    """
    unpool = _Unpool.apply if _needs_autograd(x) else _unpool
    return unpool(x, offsets.packed, offsets.size)


# Autograd. Windows do not overlap, so pooling's gradient is the unpooling and unpooling's the gather.


def _needs_autograd(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_exporting()


class _Pool(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        pooled, packed = _pool(x)
        ctx.size = (x.shape[2], x.shape[3])
        ctx.save_for_backward(packed)
        ctx.mark_non_differentiable(packed)
        return pooled, packed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (packed,) = ctx.saved_tensors
        return _Unpool.apply(gradients[0], packed, ctx.size)


class _Unpool(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.size = size
        ctx.save_for_backward(packed)
        return _unpool(x, packed, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (packed,) = ctx.saved_tensors
        return _Gather.apply(gradients[0], packed), None, None


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor) -> Tensor:
        ctx.size = (x.shape[2], x.shape[3])
        ctx.save_for_backward(packed)
        return _gather(x, packed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (packed,) = ctx.saved_tensors
        return _Unpool.apply(gradients[0], packed, ctx.size), None


# The arithmetic, whole maps at a time, in the form that is fastest for the layout that comes: contiguous maps
# are compared window by window and scattered by index; in channels-last, PyTorch's own pooling is fast and one
# mask per corner beats the scatter. While compiling, `where` says the same in operators that fuse. An exported
# program keeps the comparisons and the scatter, which leave sizes open and are what ONNX Runtime does fastest.


def _pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) → maxima and packed offsets."""
    if _is_channels_last(x):
        pooled, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
        return pooled, _packed(_offsets_of(indices, x.shape[3]))
    first, second, third, fourth = _windows(x, -torch.inf)
    upper, lower = torch.maximum(first, second), torch.maximum(third, fourth)
    column_above = (second > first).to(torch.uint8)
    column_below = (fourth > third).to(torch.uint8)
    row = (lower > upper).to(torch.uint8)
    # row 0: column_above; row 1: 2 + column_below
    offsets = (column_below + 2 - column_above) * row + column_above
    return torch.maximum(upper, lower), _packed(offsets)


def _unpool(x: Tensor, packed: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, ⌈H/2⌉, ⌈W/2⌉) → (B, C, H, W)."""
    H, W = size
    offsets = _unpacked(packed, x.shape[1])
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        rows = torch.arange(H, device=x.device).unsqueeze(1)
        columns = torch.arange(W, device=x.device)
        window = (..., rows // 2, columns // 2)
        return torch.where(offsets[window] == 2 * (rows % 2) + columns % 2, x[window], 0.0)
    if not _is_channels_last(x):
        flat = x.new_zeros((*x.shape[:2], H * W))
        return flat.scatter_(2, _indices_of(offsets, W).flatten(2), x.flatten(2)).unflatten(2, size)
    integer = _INTEGER_OF_SIZE[x.element_size()]
    y = torch.empty((*x.shape[:2], H, W), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    values, offsets = x.view(integer), offsets.to(integer, memory_format=torch.channels_last)
    here = torch.empty_like(offsets)
    for corner, target in enumerate(_corners(y.view(integer))):
        torch.eq(offsets, corner, out=here)
        target.copy_(here.mul_(values)[..., : target.shape[2], : target.shape[3]])
    return y


def _gather(x: Tensor, packed: Tensor) -> Tensor:
    """(B, C, H, W) → the values at the remembered positions, (B, C, ⌈H/2⌉, ⌈W/2⌉)."""
    offsets = _unpacked(packed, x.shape[1])
    if torch.compiler.is_compiling():
        first, second, third, fourth = _windows(x, 0.0)
        upper, lower = torch.where(offsets == 1, second, first), torch.where(offsets == 3, fourth, third)
        return torch.where(offsets >= 2, lower, upper)
    if not _is_channels_last(x):
        indices = _indices_of(offsets, x.shape[3])
        return x.flatten(2).gather(2, indices.flatten(2)).unflatten(2, indices.shape[2:])
    integer = _INTEGER_OF_SIZE[x.element_size()]
    offsets = offsets.to(integer, memory_format=torch.channels_last)
    here, gathered = torch.empty_like(offsets), torch.zeros_like(offsets)
    for corner, values in enumerate(_windows(x.view(integer), 0)):
        torch.eq(offsets, corner, out=here)
        gathered.add_(here.mul_(values))
    return gathered.view(x.dtype)


def _offsets_of(indices: Tensor, width: int) -> Tensor:
    """Positions in the flattened plane of rows of `width` → offsets 0…3, uint8."""
    flat = indices.to(torch.int32)
    window_rows = torch.arange(flat.shape[2], dtype=torch.int32, device=flat.device).unsqueeze(1)
    row = torch.ge(flat, (2 * window_rows + 1) * width, out=torch.empty_like(flat))
    return flat.sub_(row, alpha=width).bitwise_and_(1).add_(row, alpha=2).to(torch.uint8)


def _indices_of(offsets: Tensor, width: int) -> Tensor:
    """Offsets 0…3 → positions in the flattened plane of rows of `width`, int64."""
    rows, columns = (2 * torch.arange(length, dtype=torch.int32, device=offsets.device) for length in offsets.shape[2:])
    # row·width + column of the window, plus 0, 1, width, width + 1
    flat = (offsets >> 1).to(torch.int32).mul_(width - 2).add_(offsets)
    return flat.add_(rows.unsqueeze(1) * width + columns).long()


def _corners(x: Tensor) -> list[Tensor]:
    """The positions of all 2×2 windows as four strided views, in row-major order."""
    return [x[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]


def _windows(x: Tensor, fill: float) -> list[Tensor]:
    """The corners, those outside the map filled, so that all have (B, C, ⌈H/2⌉, ⌈W/2⌉)."""
    H, W = x.shape[2], x.shape[3]
    if not torch.compiler.is_compiling() and H % 2 == 0 and W % 2 == 0:
        return _corners(x)
    padded = F.pad(x, (0, 1, 0, 1), value=fill)
    return [padded[..., row : H + row : 2, column : W + column : 2] for row in (0, 1) for column in (0, 1)]


def _packed(offsets: Tensor) -> Tensor:
    """(B, C, h, w) uint8 of 0…3 → (B, ⌈C/4⌉, h, w) uint8; unchanged while exporting."""
    if torch.compiler.is_exporting():
        return offsets
    if offsets.shape[1] % 4:
        offsets = F.pad(offsets, (0, 0, 0, 0, 0, -offsets.shape[1] % 4))
    if _is_channels_last(offsets):
        # Four channels are one integer; the product moves their bits into its highest byte.
        quads = offsets.permute(0, 2, 3, 1).view(torch.int32) * 0x01041040
        return quads.bitwise_right_shift_(24).to(torch.uint8).permute(0, 3, 1, 2)
    packed = offsets[:, 0::4]
    for channel in (1, 2, 3):
        packed = packed + offsets[:, channel::4] * 4**channel
    return packed


def _unpacked(packed: Tensor, num_channels: int) -> Tensor:
    """(B, ⌈C/4⌉, h, w) uint8, or what export left as it was, → (B, C, h, w) uint8 of 0…3."""
    if packed.shape[1] == num_channels:  # not packed, or one channel, whose byte is its offset
        return packed
    if _is_channels_last(packed) and num_channels % 4 == 0:
        quads = packed.permute(0, 2, 3, 1).to(torch.int32)
        quads = (quads | quads << 12) & 0x000F000F
        quads = (quads | quads << 6) & 0x03030303
        return quads.view(torch.uint8).permute(0, 3, 1, 2)
    channels = [packed >> 2 * channel & 3 for channel in range(4)]
    return torch.stack(channels, dim=2).flatten(1, 2)[:, :num_channels]


def _is_channels_last(x: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return False
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
