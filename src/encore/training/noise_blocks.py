"""Normal numbers for gradients: all of one kind, one after the other, are one vector that is drawn block by block."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor

from encore.base.seeds import derive_seed

BLOCK = 2**18
"""Random numbers that a CPU draws at once: as many as a core's cache holds, from which they are added at once."""

GRAIN = 2**15
"""Elements up to which PyTorch works on one core."""

MANY = 16
"""Blocks from which drawing them side by side is worth waking the threads for."""

GPU_BLOCK = 2**24
"""As many as keep a GPU busy, in a buffer that is small beside it."""


def block_size(device: torch.device) -> int:
    """Random numbers that are drawn at once."""
    return BLOCK if device.type == "cpu" else GPU_BLOCK


Draw = Callable[[Tensor, int], Any]
"""Fills a block with standard normal numbers, given which one of the vector it is."""


def fill(block: Tensor, seed: int, step: int, place: tuple[int, ...], index: int) -> None:
    """Fill block number `index` of the vector at `place` with the numbers of a step."""
    generator = torch.Generator(block.device)
    generator.manual_seed(derive_seed(seed, "gradient noise", step, *place, index))
    block.normal_(generator=generator)


def draw_all(blocks: Sequence[Tensor], indices: Iterable[int], draw: Draw) -> None:
    """Fill blocks, on a CPU side by side: PyTorch draws normal numbers on one core."""
    if len(blocks) > 1 and blocks[0].device.type == "cpu" and torch.get_num_threads() > 1:
        for work in [_pool().submit(draw, block, index) for block, index in zip(blocks, indices, strict=True)]:
            work.result()
    else:
        for block, index in zip(blocks, indices, strict=True):
            draw(block, index)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="gradient-noise")


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not follow into a child


Kind = tuple[torch.device, torch.dtype, tuple[int, ...]]
"""Device, type of the random numbers, and coordinates of the shard in its mesh, -1 where it is replicated."""


def by_kind(gradients: Sequence[Tensor]) -> dict[Kind, list[Tensor]]:
    """Gradients as plain real tensors, by what can be drawn together; the order within a kind stays."""
    kinds: dict[Kind, list[Tensor]] = {}
    for gradient in gradients:
        shard: tuple[int, ...] = ()
        if hasattr(gradient, "placements"):  # a DTensor, without loading torch.distributed for those who have none
            gradient, shard = _own_part(gradient)
        if gradient.is_complex():
            gradient = torch.view_as_real(gradient)
        drawn = torch.float64 if gradient.dtype == torch.float64 else torch.float32
        kinds.setdefault((gradient.device, drawn, shard), []).append(gradient)
    return kinds


def _own_part(gradient: Any) -> tuple[Tensor, tuple[int, ...]]:
    """What this process holds of a DTensor, and where that lies in the mesh of processes."""
    coordinates = gradient.device_mesh.get_coordinate() or ()
    shard = tuple(
        -1 if placement.is_replicate() else where
        for where, placement in zip(coordinates, gradient.placements, strict=False)
    )
    return gradient.to_local(), shard


def summed_gradient(parameter: Any) -> Tensor:
    """The gradient; that of a DTensor whose processes hold terms of a sum (sequence parallelism) is summed first.

    The noise of every term would be in the sum. The optimiser would sum it too, as it needs it laid out as the
    parameter is.
    """
    if any(placement.is_partial() for placement in getattr(parameter.grad, "placements", ())):
        parameter.grad = parameter.grad.redistribute(placements=parameter.placements)
    gradient: Tensor = parameter.grad
    return gradient


@torch.no_grad()
def add_noise(gradients: Sequence[Tensor], std: float, draw: Draw, blocks_at_once: int) -> None:
    """Add noise to gradients of one kind, block by block.

    Args:
        gradients: on one device.
        std: of the noise.
        draw: fills a block.
        blocks_at_once: how many may be drawn side by side.
    """
    drawn = torch.float64 if gradients[0].dtype == torch.float64 else torch.float32
    flat = [_flat(gradient) for gradient in gradients]
    blocks = list(_blocks(flat, block_size(gradients[0].device)))
    sizes = [[len(piece) for piece in block] for block in blocks]
    at_once = blocks_at_once if len(blocks) >= MANY else min(len(blocks), 1)
    buffer = torch.empty(at_once, max(map(sum, sizes), default=0), dtype=drawn, device=gradients[0].device)

    @torch.no_grad()
    def add_blocks(worker: int) -> None:
        for index in range(worker, len(blocks), at_once):
            row = buffer[worker, : sum(sizes[index])]
            draw(row, index)
            for piece, numbers in zip(blocks[index], row.split(sizes[index]), strict=True):
                # Side by side, pieces are so small that none of them starts threads of its own.
                most = GRAIN if at_once > 1 else max(len(piece), 1)
                for one, other in zip(piece.split(most), numbers.split(most), strict=True):
                    one.add_(other, alpha=std)

    if at_once > 1:
        for work in [_pool().submit(add_blocks, worker) for worker in range(at_once)]:
            work.result()
    elif at_once:
        add_blocks(0)
    for gradient, one in zip(gradients, flat, strict=True):
        if one.data_ptr() != gradient.data_ptr():  # a gradient with gaps has no flat view
            gradient.copy_(one.view(gradient.shape))


def _blocks(vectors: Sequence[Tensor], size: int) -> Iterator[list[Tensor]]:
    """The vectors one after the other, cut into blocks of `size`: each a list of views."""
    block: list[Tensor] = []
    room = size
    for vector in vectors:
        rest = vector
        while len(rest):
            piece, rest = rest[:room], rest[room:]
            block.append(piece)
            room -= len(piece)
            if room == 0:
                yield block
                block, room = [], size
    if block:
        yield block


def _flat(gradient: Tensor) -> Tensor:
    """A one-dimensional view, in the order of memory where it is dense; a copy where it is not."""
    if gradient.is_contiguous():
        return gradient.view(-1)
    order = sorted(range(gradient.ndim), key=gradient.stride, reverse=True)
    in_memory = gradient.permute(order)
    return in_memory.view(-1) if in_memory.is_contiguous() else gradient.reshape(-1)
