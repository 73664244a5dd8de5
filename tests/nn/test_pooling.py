"""Two-bit pooling offsets against PyTorch's own pooling and unpooling with int64 indices."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from encore.nn.pooling import PoolingOffsets, max_pool2d_with_offsets, max_unpool2d_from_offsets

SIZES = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (5, 8), (6, 7), (9, 1), (8, 8)]
CHANNELS = [1, 3, 4, 5, 8]
FORMATS = [torch.contiguous_format, torch.channels_last]
TYPES = [torch.float32, torch.float64, torch.bfloat16]


def with_many_ties(*shape: int, dtype: torch.dtype = torch.float32, memory_format=torch.contiguous_format) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-2, 3, shape, generator=generator).to(dtype).to(memory_format=memory_format)


def without_ties(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randperm(math.prod(shape), generator=generator).to(dtype).view(shape) / 7 - 3


def reference_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    return F.max_pool2d(x.contiguous(), 2, 2, ceil_mode=True, return_indices=True)


def reference_unpool(pooled: Tensor, indices: Tensor, size: tuple[int, int]) -> Tensor:
    """PyTorch's, which has no bfloat16; float32 holds its values exactly."""
    wide = pooled.to(torch.float64) if pooled.dtype == torch.float64 else pooled.to(torch.float32)
    return F.max_unpool2d(wide, indices, 2, 2, output_size=size).to(pooled.dtype)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", TYPES)
def test_pooling_and_unpooling_are_those_of_pytorch(dtype, memory_format):
    for channels, (H, W) in itertools.product(CHANNELS, SIZES):
        x = with_many_ties(2, channels, H, W, dtype=dtype, memory_format=memory_format)
        due, indices = reference_pool(x)
        pooled, offsets = max_pool2d_with_offsets(x)
        assert pooled.dtype == dtype
        torch.testing.assert_close(pooled, due, rtol=0, atol=0, check_stride=False)
        assert offsets.flat_indices().equal(indices), (channels, H, W)
        unpooled = max_unpool2d_from_offsets(pooled, offsets)
        assert unpooled.dtype == dtype
        assert unpooled.equal(reference_unpool(due, indices, (H, W))), (channels, H, W)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 11), st.integers(1, 11)),
    channels_last=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(deadline=None, max_examples=60)
def test_any_shape_pools_and_unpools_as_in_pytorch(shape, channels_last, seed):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    due, indices = reference_pool(x)
    pooled, offsets = max_pool2d_with_offsets(x)
    assert pooled.equal(due)
    assert offsets.flat_indices().equal(indices)
    assert max_unpool2d_from_offsets(pooled, offsets).equal(reference_unpool(due, indices, shape[2:]))


def slow_offsets(x: Tensor) -> Tensor:
    """Window by window: where the first of the largest values lies."""
    B, C, H, W = x.shape
    offsets = torch.empty(B, C, math.ceil(H / 2), math.ceil(W / 2), dtype=torch.uint8)
    for b, c, i, j in itertools.product(*(range(length) for length in offsets.shape)):
        inside = [o for o in range(4) if 2 * i + o // 2 < H and 2 * j + o % 2 < W]
        values = [x[b, c, 2 * i + o // 2, 2 * j + o % 2].item() for o in inside]
        offsets[b, c, i, j] = inside[values.index(max(values))]
    return offsets


@pytest.mark.parametrize("memory_format", FORMATS)
def test_offsets_are_those_of_a_search_window_by_window(memory_format):
    for channels, (H, W) in itertools.product(CHANNELS, SIZES):
        x = with_many_ties(1, channels, H, W, memory_format=memory_format)
        assert max_pool2d_with_offsets(x)[1].unpacked().equal(slow_offsets(x)), (channels, H, W)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_memory_format_is_kept(memory_format):
    x = with_many_ties(2, 8, 5, 6, memory_format=memory_format)
    pooled, offsets = max_pool2d_with_offsets(x)
    unpooled = max_unpool2d_from_offsets(pooled, offsets)
    for one in (pooled, offsets.packed, unpooled):
        assert one.is_contiguous(memory_format=memory_format)


def test_maps_that_lie_in_neither_format_are_pooled_all_the_same():
    whole = torch.randn(2, 8, 10, 12)
    for x in (whole[:, ::2, 1:8, ::2], whole.to(memory_format=torch.channels_last)[:, 1:6, 2:9], whole.transpose(2, 3)):
        due, indices = reference_pool(x)
        pooled, offsets = max_pool2d_with_offsets(x)
        assert pooled.equal(due)
        assert offsets.flat_indices().equal(indices)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_ties_go_to_the_first_position(memory_format):
    x = torch.zeros(1, 4, 6, 6).to(memory_format=memory_format)
    assert max_pool2d_with_offsets(x)[1].unpacked().eq(0).all()
    x[:, :, 1::2, :] = 1.0  # the lower row wins, its first cell first
    assert max_pool2d_with_offsets(x)[1].unpacked().eq(2).all()


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("position", range(4))
def test_a_nan_anywhere_in_a_window_gives_nan(position, memory_format):
    x = torch.zeros(1, 8, 4, 4).to(memory_format=memory_format)
    x[:, :, position // 2, position % 2] = torch.nan
    pooled, offsets = max_pool2d_with_offsets(x)
    assert pooled[:, :, 0, 0].isnan().all()
    assert pooled[:, :, 1:].eq(0).all()
    unpooled = max_unpool2d_from_offsets(pooled, offsets)
    assert unpooled.isnan().sum(dim=(2, 3)).eq(1).all()


@pytest.mark.parametrize("memory_format", FORMATS)
def test_infinite_values_stay_in_place(memory_format):
    x = torch.full((1, 4, 3, 3), -torch.inf).to(memory_format=memory_format)
    x[:, :, 1, 1] = torch.inf
    pooled, offsets = max_pool2d_with_offsets(x)
    unpooled = max_unpool2d_from_offsets(pooled, offsets)
    corner_maxima = torch.tensor([[0, 0, -torch.inf], [0, torch.inf, 0], [-torch.inf, 0, -torch.inf]])
    assert unpooled.equal(corner_maxima.expand(1, 4, 3, 3))


@pytest.mark.parametrize("memory_format", FORMATS)
def test_unpooling_what_was_pooled_leaves_the_maxima_and_zeros(memory_format):
    x = without_ties(2, 5, 7, 6).to(memory_format=memory_format)
    restored = max_unpool2d_from_offsets(*max_pool2d_with_offsets(x))
    for row, column in itertools.product(range(0, 7, 2), range(0, 6, 2)):
        window = x[:, :, row : row + 2, column : column + 2]
        is_maximum = window == window.amax(dim=(2, 3), keepdim=True)
        assert restored[:, :, row : row + 2, column : column + 2].equal(window * is_maximum)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("shape", [(2, 5, 7, 6), (1, 8, 4, 4), (1, 1, 1, 1), (2, 3, 1, 5)])
def test_gradients_are_those_of_the_pytorch_operators(shape, memory_format):
    x = without_ties(*shape).to(memory_format=memory_format)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = torch.randn(shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))

    pooled, offsets = max_pool2d_with_offsets(ours)
    (max_unpool2d_from_offsets(pooled.tanh(), offsets) * weights).sum().backward()
    due, indices = F.max_pool2d(theirs, 2, 2, ceil_mode=True, return_indices=True)
    (F.max_unpool2d(due.tanh(), indices, 2, 2, output_size=shape[2:]) * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, check_stride=False)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_first_and_second_derivatives_are_the_numerical_ones(memory_format):
    x = without_ties(1, 5, 3, 4).to(memory_format=memory_format).requires_grad_()

    def pool_and_unpool(values: Tensor) -> Tensor:
        pooled, offsets = max_pool2d_with_offsets(values)
        return max_unpool2d_from_offsets(pooled**2, offsets)

    assert torch.autograd.gradcheck(pool_and_unpool, x)
    assert torch.autograd.gradgradcheck(pool_and_unpool, x)


@pytest.mark.parametrize("channels", CHANNELS)
def test_stored_offsets_take_two_bits_per_window_and_channel(channels):
    for H, W in SIZES:
        offsets = max_pool2d_with_offsets(with_many_ties(3, channels, H, W))[1]
        windows = math.ceil(H / 2) * math.ceil(W / 2)
        assert offsets.nbytes == 3 * windows * math.ceil(channels / 4)
        if channels % 4 == 0:
            assert 8 * offsets.nbytes == 2 * 3 * windows * channels


def test_training_keeps_the_packed_offsets_only():
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        max_pool2d_with_offsets(torch.randn(1, 8, 6, 6, requires_grad=True))
    assert [(tensor.dtype, tuple(tensor.shape)) for tensor in saved] == [(torch.uint8, (1, 2, 3, 3))]


@pytest.mark.parametrize("memory_format", FORMATS)
def test_flat_indices_there_and_back_are_the_same_offsets(memory_format):
    for channels, (H, W) in itertools.product(CHANNELS, SIZES):
        offsets = max_pool2d_with_offsets(with_many_ties(2, channels, H, W, memory_format=memory_format))[1]
        indices = offsets.flat_indices()
        again = PoolingOffsets.from_flat_indices(indices, (H, W))
        assert again.packed.equal(offsets.packed)
        assert (again.num_channels, again.size) == (channels, (H, W))
        assert indices.equal(again.flat_indices())


class PoolAndUnpool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pooled, offsets = max_pool2d_with_offsets(x)
        return max_unpool2d_from_offsets(2 * pooled, offsets)


def test_the_exported_form_gives_the_same_at_every_size():
    x = with_many_ties(2, 5, 7, 6)
    free = torch.export.Dim.AUTO
    program = torch.export.export(PoolAndUnpool(), (x,), dynamic_shapes={"x": {2: free, 3: free}}).module()
    for H, W in [(7, 6), (4, 9), (3, 3)]:
        other = with_many_ties(2, 5, H, W)
        assert program(other).equal(PoolAndUnpool()(other))


def test_the_compiled_form_gives_the_same_values_and_gradients():
    compiled = torch.compile(PoolAndUnpool(), backend="eager", fullgraph=True)
    ours, due = (without_ties(2, 5, 7, 6).requires_grad_() for _ in range(2))
    assert compiled(ours).equal(PoolAndUnpool()(due))
    compiled(ours).square().sum().backward()
    PoolAndUnpool()(due).square().sum().backward()
    assert ours.grad.equal(due.grad)
