"""Which cells of a batch are visible, and where their positions lie at every scale.

A picture is cut into cells as wide as the network's total stride; at a scale where a cell is p positions wide, its
p×p positions are a tile. A dense map is (B, C, f_h·p, f_w·p). Where all samples see the same number n of cells, the
visible tiles alone make the packed map (B, C, n·p, p), one below the other in row-major order of the cells. Both are
kept channels last, so that a position is one contiguous row of C values and moving positions is moving rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from encore.base.errors import InputError


@dataclass(frozen=True, eq=False)
class RowPlan:
    """A gather of rows and its adjoint: out[m] = rows[index[m]], and Σ over the places to which a row went.

    Attributes:
        index: (M,) int64; num_rows means a row of zeros, num_rows + 1 one of the fill value.
        inverse: (num_rows, K) int64, up to K places m for each row; M means none.
        num_rows: N.
        complete: whether every place takes a row.
        used: whether every row goes to K places.
    """

    index: Tensor
    inverse: Tensor
    num_rows: int
    complete: bool = False
    used: bool = False


class VisibleCells:
    """The mask of one batch.

    It belongs to one forward pass: the layers that need it hold a reference, nothing else does.

    Args:
        active: (B, 1, f_h, f_w) bool, true where a cell is visible.
    """

    def __init__(self, active: Tensor) -> None:
        self.active = active
        self.batch, self.grid = active.shape[0], (active.shape[2], active.shape[3])
        self._masks: dict[tuple[int, torch.dtype], Tensor] = {}
        self._plans: dict[tuple[str | int, ...], RowPlan] = {}

    def tile_side(self, height: int, width: int) -> int | None:
        """How many positions a cell is wide on a map of this size; None if cells do not fit it."""
        side = height // self.grid[0]
        return side if side and (height, width) == (side * self.grid[0], side * self.grid[1]) else None

    def mask(self, side: int, dtype: torch.dtype = torch.bool) -> Tensor:
        """`active` at a scale: (B, 1, f_h·side, f_w·side), every cell repeated."""
        if (side, dtype) not in self._masks:
            repeated = self.active.repeat_interleave(side, 2).repeat_interleave(side, 3)
            self._masks[side, dtype] = repeated.to(dtype)
        return self._masks[side, dtype]

    @cached_property
    def num_visible(self) -> Tensor:
        """Visible cells of each sample, (B,) int64."""
        return self.active.flatten(1).sum(1)

    @cached_property
    def _coordinates(self) -> tuple[Tensor, Tensor, Tensor]:
        """(sample, row, column) of every visible cell, in row-major order."""
        sample, _, row, column = self.active.nonzero(as_tuple=True)
        return sample, row, column

    @property
    def total(self) -> int:
        """Visible cells of the batch."""
        return len(self._coordinates[0])

    @cached_property
    def per_sample(self) -> int:
        """n, the same for all samples.

        Raises:
            InputError: the samples see different numbers of cells.
        """
        n = self.total // self.batch
        if not bool((self.num_visible == n).all()):
            raise InputError(
                "the pictures of a batch show different numbers of cells, which cannot be packed",
                "give every picture as many visible cells, or use encoding='masked'",
            )
        return n

    @cached_property
    def _ranks(self) -> Tensor:
        """(B, f_h, f_w): a visible cell's place among all visible cells, -1 for hidden ones."""
        ranks = torch.full(self.active.shape, -1, device=self.active.device)
        ranks[self.active] = torch.arange(self.total, device=ranks.device)
        return ranks[:, 0]

    def positions(self, side: int) -> RowPlan:
        """From a dense map's rows to the visible positions, tile by tile; its adjoint puts them back."""
        key = ("positions", side)
        if key not in self._plans:
            sample, row, column = (one.view(-1, 1, 1) for one in self._coordinates)
            inside = torch.arange(side, device=self.active.device)
            height, width = self.grid[0] * side, self.grid[1] * side
            index = ((sample * height + row * side + inside.view(-1, 1)) * width + column * side + inside).flatten()
            num_rows = self.batch * height * width
            inverse = torch.full((num_rows, 1), len(index), device=index.device)
            inverse[index, 0] = torch.arange(len(index), device=index.device)
            self._plans[key] = RowPlan(index, inverse, num_rows, complete=True)
        return self._plans[key]

    def scattering(self, side: int) -> RowPlan:
        """From the visible positions to a dense map's rows, zero where hidden: `positions` the other way round."""
        key = ("scattering", side)
        if key not in self._plans:
            there = self.positions(side)
            self._plans[key] = RowPlan(
                there.inverse.flatten(), there.index.view(-1, 1), len(there.index), complete=False, used=True
            )
        return self._plans[key]

    def halo(self, side: int, before: int, after: int) -> RowPlan:
        """From the visible positions to tiles with a border: (tiles, q, q) places, q = before + side + after.

        Border positions come from the neighbouring tiles; hidden ones are zero, those outside the picture the fill.
        """
        key = ("halo", side, before, after)
        if key not in self._plans:
            window, displacement = self._window(side, before, after)
            # a position lies in its own tile and in few others: at most one more along each axis, or one per cell
            narrow = before + after <= side
            slot = (displacement != 0).long() if narrow else displacement - displacement.min()
            num_slots = int(slot.max()) + 1
            slots = slot.view(-1, 1) * num_slots + slot
            self._plans[key] = self._inverted(window.flatten(), slots.expand_as(window).flatten(), num_slots**2, side)
        return self._plans[key]

    def columns(self, side: int, kernel: int, stride: int, padding: int, dilation: int) -> RowPlan:
        """From the visible positions to what a convolution sees: (tiles, p', p', k, k) places, p' = p/stride."""
        key = ("columns", side, kernel, stride, padding, dilation)
        if key not in self._plans:
            out = side // stride
            reach = (out - 1) * stride + dilation * (kernel - 1) + 1
            window, _ = self._window(side, padding, reach - padding - side)
            steps = torch.arange(out, device=window.device).view(-1, 1) * stride
            taps = steps + torch.arange(kernel, device=window.device) * dilation
            index = window[:, taps.view(out, 1, kernel, 1), taps.view(1, out, 1, kernel)]
            slots = torch.arange(kernel**2, device=window.device).view(kernel, kernel).expand_as(index)
            self._plans[key] = self._inverted(index.flatten(), slots.flatten(), kernel**2, side)
        return self._plans[key]

    def _window(self, side: int, before: int, after: int) -> tuple[Tensor, Tensor]:
        """(tiles, q, q) rows of the packed map, and (q,) by how many cells each place is away from its tile's own."""
        device = self.active.device
        along = torch.arange(-before, side + after, device=device)
        displacement, inside = along.div(side, rounding_mode="floor"), along % side
        margin = max(int(displacement.abs().max()), 1)
        f_h, f_w = self.grid
        ranks = torch.full((self.batch, f_h + 2 * margin, f_w + 2 * margin), -2, device=device)
        ranks[:, margin : margin + f_h, margin : margin + f_w] = self._ranks
        sample, row, column = (one.view(-1, 1, 1) for one in self._coordinates)
        cell = ranks[sample, row + margin + displacement.view(-1, 1), column + margin + displacement]
        num_rows = self.total * side**2
        rows = cell * side**2 + (inside.view(-1, 1) * side + inside)
        rows = torch.where(cell >= 0, rows, num_rows - 1 - cell)  # -1 (hidden) → num_rows, -2 (outside) → num_rows + 1
        return rows, displacement

    def _inverted(self, index: Tensor, slots: Tensor, num_slots: int, side: int) -> RowPlan:
        num_rows = self.total * side**2
        inverse = torch.full((num_rows + 2, num_slots), len(index), device=index.device)
        inverse[index, slots] = torch.arange(len(index), device=index.device)
        return RowPlan(index, inverse[:num_rows], num_rows)
