"""Moving rows, and a convolution of moved rows, with backward passes that move rows too.

PyTorch's own backward of an indexing sums with atomics or one row at a time. Here every gather knows its inverse
(`RowPlan`), so that its adjoint is another gather and a sum over few terms.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

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
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, plan: RowPlan) -> Tensor:
        ctx.plan = plan
        ctx.save_for_backward(rows, weight)
        return _gathered(rows, plan, 0.0).view(-1, weight.shape[1]) @ weight.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        rows, weight = ctx.saved_tensors
        (gradient,) = gradients
        for_rows = for_weight = None
        if ctx.needs_input_grad[1]:
            for_weight = gradient.t() @ _gathered(rows, ctx.plan, 0.0).view(-1, weight.shape[1])
        if ctx.needs_input_grad[0]:
            places, channels = len(ctx.plan.index), rows.shape[1]
            moved = gradient.new_empty(places + 1, channels)
            torch.mm(gradient, weight, out=moved[:places].view(len(gradient), -1))
            moved[places] = 0
            for_rows = _sum_of_places(moved, ctx.plan)
        return for_rows, for_weight, None


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
