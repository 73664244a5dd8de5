"""Pooling with two-bit offsets equals PyTorch's pooling with int64 indices, forwards and backwards."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from encore.nn.pooling import PoolingOffsets, max_pool2d_with_offsets, max_unpool2d_from_offsets

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (2, 4, 6, 8), (1, 5, 1, 4), (2, 8, 7, 2), (3, 64, 9, 10)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def slow_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Window by window: the maximum and its offset, the first of equal ones."""
    B, C, H, W = x.shape
    pooled = x.new_empty(B, C, math.ceil(H / 2), math.ceil(W / 2))
    offsets = torch.empty(pooled.shape, dtype=torch.uint8)
    for b, c, i, j in torch.cartesian_prod(*[torch.arange(n) for n in pooled.shape]).view(-1, 4).tolist():
        places = [(2 * i + r, 2 * j + s) for r in (0, 1) for s in (0, 1)]
        best = max(
            (k for k, (r, s) in enumerate(places) if r < H and s < W),
            key=lambda k: (x[b, c, places[k][0], places[k][1]].item(), -k),
        )
        pooled[b, c, i, j], offsets[b, c, i, j] = x[b, c, places[best][0], places[best][1]], best
    return pooled, offsets


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_maxima_and_indices_are_pytorch_s(shape: tuple[int, ...], layout: torch.memory_format, dtype: torch.dtype):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype).contiguous(memory_format=layout)
    pooled, offsets = max_pool2d_with_offsets(x)
    expected, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
    assert pooled.dtype == dtype
    assert torch.equal(pooled, expected)
    assert torch.equal(offsets.flat_indices(), indices)
    unpooled = max_unpool2d_from_offsets(pooled, offsets)
    restored = F.max_unpool2d(expected.float(), indices, 2, 2, output_size=shape[2:]).to(dtype)
    assert torch.equal(unpooled, restored)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 999),
)
def test_pooling_equals_the_slow_reference_ties_included(
    shape: tuple[int, ...], layout: torch.memory_format, seed: int
):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-1, 2, shape, generator=generator).float().contiguous(memory_format=layout)
    pooled, offsets = max_pool2d_with_offsets(x)
    expected, expected_offsets = slow_pool(x)
    assert torch.equal(pooled, expected)
    assert torch.equal(offsets.unpacked(), expected_offsets)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unpooling_a_pooled_map_keeps_it_at_the_argmax_positions(layout: torch.memory_format):
    x = torch.randn(2, 6, 7, 9).contiguous(memory_format=layout)
    pooled, offsets = max_pool2d_with_offsets(x)
    unpooled = max_unpool2d_from_offsets(pooled, offsets)
    kept = unpooled != 0
    assert int(kept.sum()) == pooled.numel()
    assert torch.equal(unpooled[kept], x[kept])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_infinite_values_and_nan_stay_where_they_are(layout: torch.memory_format):
    x = torch.zeros(1, 4, 4, 4).contiguous(memory_format=layout)
    x[0, 0, 0, 0], x[0, 1, 1, 1] = torch.inf, torch.nan
    pooled, offsets = max_pool2d_with_offsets(x)
    unpooled = max_unpool2d_from_offsets(pooled, offsets)
    assert torch.isinf(pooled[0, 0, 0, 0])
    assert torch.isnan(pooled[0, 1, 0, 0])
    assert torch.isinf(unpooled).sum() == 1
    assert torch.isnan(unpooled).sum() == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 4, 6, 8)])
def test_gradients_are_pytorch_s(shape: tuple[int, ...], layout: torch.memory_format):
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout)
    weights = torch.randn(shape, dtype=torch.float64)
    ours, theirs = (x.clone(memory_format=layout).requires_grad_() for _ in range(2))
    pooled, offsets = max_pool2d_with_offsets(ours)
    (max_unpool2d_from_offsets(pooled.square(), offsets) * weights).sum().backward()
    expected, indices = F.max_pool2d(theirs, 2, 2, ceil_mode=True, return_indices=True)
    (F.max_unpool2d(expected.square(), indices, 2, 2, output_size=shape[2:]) * weights).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad)


def test_gradients_of_gradients_exist():
    x = torch.randn(1, 4, 5, 6, dtype=torch.float64, requires_grad=True)

    def through(x: Tensor) -> Tensor:
        pooled, offsets = max_pool2d_with_offsets(x)
        return max_unpool2d_from_offsets(pooled, offsets)

    assert torch.autograd.gradcheck(through, (x,))
    assert torch.autograd.gradgradcheck(through, (x,))


@pytest.mark.parametrize("channels", [4, 64, 5])
def test_two_bits_per_window_and_channel_are_stored(channels: int):
    _, offsets = max_pool2d_with_offsets(torch.randn(2, channels, 9, 12))
    assert offsets.nbytes == 2 * math.ceil(channels / 4) * 5 * 6
    assert offsets.packed.dtype == torch.uint8


def test_offsets_are_taken_over_from_pytorch_s_indices():
    x = torch.randn(2, 6, 5, 8)
    _, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
    offsets = PoolingOffsets.from_flat_indices(indices, (5, 8))
    assert torch.equal(offsets.flat_indices(), indices)


class _ThereAndBack(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pooled, offsets = max_pool2d_with_offsets(x)
        return max_unpool2d_from_offsets(2 * pooled, offsets)


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_the_exported_form_equals_the_eager_one(size: tuple[int, int]):
    x = torch.randn(1, 6, *size)
    exported = torch.export.export(_ThereAndBack(), (x,)).module()
    assert torch.equal(exported(x), _ThereAndBack()(x))
