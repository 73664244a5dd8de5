"""Which pixel depends on which: mutual information, the Chow-Liu tree, and a root for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.special import xlogy

Shape = Literal["directed", "balanced"]

LEVELS = 16
"""Into how many values mutual information sorts a pixel: with 256 it would mostly count chance (official code)."""

PSEUDOCOUNT = 0.1
"""Added to every pair of distributions before their mutual information is taken (official code)."""

_BLOCK = 64
"""Variables whose pairs with as many others are counted by one product of matrices."""


@dataclass(frozen=True, eq=False)
class Tree:
    """A rooted tree over variables 0…D-1.

    Attributes:
        parents: (D,) int64; -1 at the root.
    """

    parents: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.parents.ndim != 1 or (self.parents == -1).sum() != 1:
            raise ValueError("a tree has one root: exactly one parent is -1")
        if (
            self.parents.min() < -1
            or self.parents.max() >= len(self.parents)
            or len(self.preorder) != len(self.parents)
        ):
            raise ValueError("parents do not make a tree")

    def __len__(self) -> int:
        return len(self.parents)

    @property
    def root(self) -> int:
        """The variable without a parent."""
        return int(np.flatnonzero(self.parents == -1)[0])

    @cached_property
    def children(self) -> list[list[int]]:
        """Of each variable, in ascending order."""
        below: list[list[int]] = [[] for _ in self.parents]
        for child, parent in enumerate(self.parents.tolist()):
            if parent >= 0:
                below[parent].append(child)
        return below

    @cached_property
    def depths(self) -> NDArray[np.int64]:
        """Edges between each variable and the root, (D,)."""
        depths = np.zeros(len(self), np.int64)
        for variable in self.preorder[1:]:
            depths[variable] = depths[self.parents[variable]] + 1
        return depths

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Variables at and below each one, (D,)."""
        sizes = np.ones(len(self), np.int64)
        for variable in reversed(self.preorder[1:]):
            sizes[self.parents[variable]] += sizes[variable]
        return sizes

    @cached_property
    def preorder(self) -> list[int]:
        """Every variable before those below it, a whole subtree at a time."""
        order, waiting = [], [self.root]
        while waiting:
            variable = waiting.pop()
            order.append(variable)
            waiting += reversed(self.children[variable])
        return order

    @cached_property
    def inner(self) -> NDArray[np.int64]:
        """The root and all others that have children: by depth, among those of one depth the ones with more children
        first."""
        having = {self.root, *self.parents[self.parents >= 0].tolist()}
        depths = self.depths.tolist()
        return np.array(sorted(having, key=lambda one: (depths[one], -len(self.children[one]), one)), np.int64)


def mutual_information(values: NDArray[Any], num_values: int, pseudocount: float = PSEUDOCOUNT) -> NDArray[np.float64]:
    """Of every pair of variables, in nats, from counts.

    A pair's joint distribution is (count + α/L²) / (N + α) over its L² cells, L = `num_values`; a variable with itself
    has its entropy, or less by α. Counts come from products of matrices of ones, in blocks; values that never occur are
    not counted.

    Args:
        values: (N, D) integers, 0…L-1, N below 2²⁴.
        num_values: L.
        pseudocount: α.

    Returns:
        (D, D), symmetric.
    """
    N, D = values.shape
    counts = np.arange(N + 1)
    cells, margins = (
        xlogy(smoothed, smoothed)
        for smoothed in ((counts + pseudocount / num_values**power) / (N + pseudocount) for power in (2, 1))
    )
    blocks = [_Ones(values[:, start : start + _BLOCK], num_values) for start in range(0, D, _BLOCK)]
    entropies = np.concatenate([one.sums(margins) for one in blocks])
    information = np.empty((D, D))
    for i, rows in enumerate(blocks):
        ones = rows.matrix()
        for j, columns in enumerate(blocks[: i + 1]):
            # Counts below 2²⁴ are exact in float32.
            counted = ones.T @ (ones if j == i else columns.matrix())
            joint = cells[counted.astype(np.int32)]
            sums = np.add.reduceat(np.add.reduceat(joint, rows.starts, 0), columns.starts, 1)
            sums += (num_values**2 - np.outer(rows.used, columns.used)) * cells[0]
            here, there = (slice(start * _BLOCK, (start + 1) * _BLOCK) for start in (i, j))
            block = np.maximum(sums - entropies[here, None] - entropies[there], 0)
            if i == j:
                block = np.maximum(block, block.T)  # rounded in different orders
            information[here, there], information[there, here] = block, block.T
    return information


class _Ones:
    """A block of variables as columns of ones, one for each value that occurs; made anew whenever it is wanted.

    Args:
        values: (N, d).
        num_values: L.

    Attributes:
        starts: (d,) first column of each variable.
        used: (d,) how many it has.
    """

    def __init__(self, values: NDArray[Any], num_values: int) -> None:
        self._values, self._num_values = values, num_values
        self._present, self._counts = np.unique(self._columns(), return_counts=True)
        self.used = np.bincount(self._present // num_values, minlength=values.shape[1])
        self.starts = np.cumsum(self.used) - self.used

    def _columns(self) -> NDArray[np.int64]:
        return self._values.astype(np.int64) + np.arange(self._values.shape[1]) * self._num_values

    def matrix(self) -> NDArray[np.float32]:
        """(N, columns) of ones and zeros."""
        ones = np.zeros((len(self._values), len(self._present)), np.float32)
        ones[np.arange(len(ones))[:, None], np.searchsorted(self._present, self._columns())] = 1
        return ones

    def sums(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Σ p log p of each variable, (d,), from a table of p log p by counts."""
        total: NDArray[np.float64] = np.add.reduceat(table[self._counts], self.starts)
        return total + (self._num_values - self.used) * table[0]


def chow_liu_tree(information: NDArray[np.float64], shape: Shape = "directed") -> Tree:
    """The spanning tree of the largest mutual information, rooted at its centre.

    Args:
        information: (D, D), symmetric.
        shape: `directed` keeps the tree's edges; `balanced` makes the centre of every part that the root leaves a child
            of the root, and so on, so that depth grows as log D, at the price of other edges than the best.

    Raises:
        ValueError: there are no variables.
    """
    D = len(information)
    if not D:
        raise ValueError("no variables")
    # Lengths are above 0, which in a sparse matrix would be no edge.
    lengths = 1 + information.max() - information
    np.fill_diagonal(lengths, 0)
    edges = minimum_spanning_tree(lengths).tocoo()
    neighbours: list[list[int]] = [[] for _ in range(D)]
    for one, other in zip(edges.row.tolist(), edges.col.tolist(), strict=True):
        neighbours[one].append(other)
        neighbours[other].append(one)
    parents = np.full(D, -1, np.int64)
    if shape == "directed":
        for variable, before in _walk(neighbours, _centre(neighbours, list(range(D))), frozenset()):
            parents[variable] = before
        return Tree(parents)
    removed: set[int] = set()
    parts = [(list(range(D)), -1)]
    while parts:
        part, above = parts.pop()
        centre = _centre(neighbours, part, removed)
        parents[centre] = above
        removed.add(centre)
        left = [one for one in neighbours[centre] if one not in removed]
        parts += [([variable for variable, _ in _walk(neighbours, start, removed)], centre) for start in left]
    return Tree(parents)


def _walk(neighbours: Sequence[Sequence[int]], start: int, removed: frozenset[int] | set[int]) -> list[tuple[int, int]]:
    """(variable, the one it was reached from), breadth first, `start` from -1."""
    reached = [(start, -1)]
    for variable, before in reached:
        reached += [(one, variable) for one in neighbours[variable] if one != before and one not in removed]
    return reached


def _centre(neighbours: Sequence[Sequence[int]], part: Sequence[int], removed: set[int] | None = None) -> int:
    """The middle of a longest path of the part that is connected with its first variable."""
    gone = removed or set()
    end = _walk(neighbours, part[0], gone)[-1][0]
    reached = _walk(neighbours, end, gone)
    before = dict(reached)
    path = [reached[-1][0]]
    while before[path[-1]] >= 0:
        path.append(before[path[-1]])
    return path[len(path) // 2]
