"""Setting ensembles of several widths against a theory of first order in one over the width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from scipy.special import ndtri
from torch import Tensor

from encore.papers.pdlt.statistics import Estimate

CHANCE = 0.01
"""How often chance alone may break an agreement that is true."""


@dataclass(frozen=True)
class Expansion:
    """c_0 + c_1/n + … fitted to ensembles of several widths, layer by layer.

    Attributes:
        coefficients: one estimate per power of 1/n, (L,) each.
    """

    coefficients: list[Estimate]


def expand(measured: Mapping[int, Estimate], order: int) -> Expansion:
    """Weighted least squares in powers of 1/n.

    Args:
        measured: an estimate per width, (L,); errors that are zero (nothing fluctuates) count as tiny.
        order: the highest power; fewer than the number of widths.

    Raises:
        ValueError: too few widths.
    """
    widths = list(measured)
    if len(widths) <= order:
        raise ValueError(f"{len(widths)} widths cannot carry an expansion to order {order}")
    inverse = torch.tensor([1 / width for width in widths], dtype=torch.float64)
    design = inverse[:, None] ** torch.arange(order + 1, dtype=torch.float64)  # (widths, order + 1)
    values = torch.stack([measured[width].value for width in widths], 1)  # (L, widths)
    errors = torch.stack([measured[width].error for width in widths], 1)
    errors = torch.maximum(errors, 1e-9 * values.abs().clamp(min=1e-30))
    weights = errors.reciprocal()
    scaled = design[None] * weights[:, :, None]
    inverse_matrix = torch.linalg.pinv(scaled)  # (L, order + 1, widths)
    found = (inverse_matrix @ (values * weights)[:, :, None])[:, :, 0]
    spread = inverse_matrix.square().sum(2).sqrt()
    return Expansion([Estimate(found[:, power], spread[:, power]) for power in range(order + 1)])


@dataclass(frozen=True)
class Agreement:
    """How well measurements agree with a theory.

    Attributes:
        largest: the largest deviation, in standard errors.
        points: how many points were compared.
        allowed: what the largest of so many may be by chance, one time in a hundred.
        where: which series deviates most.
        precision: how sharp the comparison is, in words: the smallest and largest of the series' standard errors, each
            the median over its points of error over theory.
    """

    largest: float
    points: int
    allowed: float
    where: str
    precision: str

    @property
    def holds(self) -> bool:
        """Whether the largest deviation is one that chance makes."""
        return self.largest <= self.allowed


def agreement(compared: Mapping[str, tuple[Estimate, Tensor]]) -> Agreement:
    """Judge deviations in standard errors by the largest of them (Bonferroni's bound).

    Args:
        compared: measured (P,) and theory (P,) of each series, named in words.

    Raises:
        ValueError: there is nothing to compare.
    """
    points = sum(theory.numel() for _, theory in compared.values())
    if not points:
        raise ValueError("no point is compared")
    sizes = {name: float(one.deviations(theory).abs().max()) for name, (one, theory) in compared.items() if len(theory)}
    where = max(sizes, key=lambda name: sizes[name])
    allowed = float(-ndtri(CHANCE / (2 * points)))
    return Agreement(sizes[where], points, allowed, where, _precision(compared))


def _precision(compared: Mapping[str, tuple[Estimate, Tensor]]) -> str:
    shares = {}
    for name, (one, theory) in compared.items():
        told = theory != 0
        if bool(told.any()):
            shares[name] = float((one.error[told] / theory[told].abs()).median())
    if not shares:
        return "theory is 0 everywhere"
    fine, coarse = (choose(shares, key=lambda name: shares[name]) for choose in (min, max))
    return f"{_percent(shares[fine])} of theory ({fine}) to {_percent(shares[coarse])} ({coarse})"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def slope_of(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Least squares of y on x: the slope and the root mean square of what is left."""
    slope = float(slopes_of(x, y))
    left = y - y.mean() - slope * (x - x.mean())
    return slope, math.sqrt(float(left.square().mean()))


def slopes_of(x: Tensor, y: Tensor) -> Tensor:
    """Slopes of rows y (…, P) on x (P,), (…)."""
    centred = x - x.mean()
    return y @ centred / (centred @ centred)
