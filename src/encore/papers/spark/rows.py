"""Moving rows, and a convolution of moved rows, with backward passes that move rows too.

PyTorch's own backward of an indexing sums with atomics or one row at a time. Here every gather knows its inverse
(`RowPlan`), so that its adjoint is another gather and a sum over few terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from encore.nn.pointwise import linear_of_rows
from encore.papers.spark.cells import RowPlan


def rows_of(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B·H·W, C), without a copy where `x` is channels last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def map_of(rows: Tensor, batch: int, height: int, width: int) -> Tensor:
    """(B·H·W, C) → (B, C, H, W), channels last."""
    return rows.view(batch, height, width, rows.shape[1]).permute(0, 3, 1, 2)


def gather_rows(rows: Tensor, plan: RowPlan, fill: float = 0.0) -> Tensor:
    """(N, C) → (M, C) by `plan`; places outside the picture are `fill`."""
    moved: Tensor = _Gather.apply(rows, plan, fill)
    return moved


def convolve_rows(rows: Tensor, plan: RowPlan, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution as one product of matrices.

    Only the rows are kept for the backward pass; what the windows see, k² times as much, is gathered once more.

    Args:
        rows: (N, C).
        plan: `VisibleCells.columns` of the kernel: (positions, k, k) places.
        weight: (O, C, k, k).
        bias: (O,).

    Returns:
        (positions, O).
    """
    if torch.is_autocast_enabled(rows.device.type):
        dtype = torch.get_autocast_dtype(rows.device.type)
        rows, weight = rows.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    flat = weight.permute(0, 2, 3, 1).flatten(1)  # taps before channels, as the windows lie
    out: Tensor = _Convolution.apply(rows, flat, plan)
    return out if bias is None else out + bias


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, plan: RowPlan, fill: float) -> Tensor:
        ctx.plan = plan
        return _gathered(rows, plan, fill)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Sum.apply(gradients[0], ctx.plan), None, None


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, moved: Tensor, plan: RowPlan) -> Tensor:
        ctx.plan = plan
        return _summed(moved, plan)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Gather.apply(gradients[0], ctx.plan, 0.0), None


class _Convolution(Function):
    """On a CPU its products are 1×1 convolutions, for the reason that `linear_of_rows` gives."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, plan: RowPlan) -> Tensor:
        ctx.plan = plan
        ctx.save_for_backward(rows, weight)
        seen = _gathered(rows, plan, 0.0).view(1, -1, 1, weight.shape[1])
        return linear_of_rows(seen, weight, None).flatten(0, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        rows, weight = ctx.saved_tensors
        seen = _gathered(rows, ctx.plan, 0.0).view(-1, weight.shape[1])
        moved, for_weight = _gradients(seen, weight, gradients[0], ctx.needs_input_grad[:2])
        for_rows = None
        if moved is not None:
            moved = moved.view(-1, rows.shape[1])
            for_rows = _sum_of_places(torch.cat([moved, moved.new_zeros(1, rows.shape[1])]), ctx.plan)
        return for_rows, for_weight, None


def _gradients(
    seen: Tensor, weight: Tensor, gradient: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Of `seen @ weight.t()`, (N, I) and (O, I), where that of the product is (N, O)."""
    if seen.device.type != "cpu":
        return gradient @ weight if needed[0] else None, gradient.t() @ seen if needed[1] else None
    for_map, for_kernel, _ = torch.ops.aten.convolution_backward(
        _column(gradient),
        _column(seen),
        weight[:, :, None, None],
        bias_sizes=None,
        stride=[1, 1],
        padding=[0, 0],
        dilation=[1, 1],
        transposed=False,
        output_padding=[0, 0],
        groups=1,
        output_mask=[*needed, False],
    )
    return rows_of(for_map) if needed[0] else None, for_kernel.flatten(1) if needed[1] else None


def _column(rows: Tensor) -> Tensor:
    """(N, C) → a map of one column, (1, C, N, 1), channels last."""
    return map_of(rows.contiguous(), 1, len(rows), 1)


def _gathered(rows: Tensor, plan: RowPlan, fill: float) -> Tensor:
    if plan.complete:
        return rows.index_select(0, plan.index)
    padded = rows.new_empty(plan.num_rows + 2, rows.shape[1])
    padded[: plan.num_rows] = rows
    padded[plan.num_rows] = 0
    padded[plan.num_rows + 1] = fill
    return padded.index_select(0, plan.index)


def _summed(moved: Tensor, plan: RowPlan) -> Tensor:
    if plan.used:
        return _sum_of_places(moved, plan)
    padded = moved.new_empty(len(moved) + 1, moved.shape[1])
    padded[:-1] = moved
    padded[-1] = 0
    return _sum_of_places(padded, plan)


def _sum_of_places(moved: Tensor, plan: RowPlan) -> Tensor:
    num_places = plan.inverse.shape[1]
    taken = moved.index_select(0, plan.inverse.flatten())
    return taken if num_places == 1 else taken.view(-1, num_places, moved.shape[1]).sum(1)
