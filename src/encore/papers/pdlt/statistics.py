"""Estimates with standard errors from independent networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

GROUPS = 50
"""Groups of networks that the jackknife leaves out in turn."""

ROUNDING = 1e-6
"""Relative error of sums over networks that compute in float32."""

Means = Mapping[str, Tensor]


@dataclass(frozen=True)
class Estimate:
    """A measured quantity, one value per layer.

    Attributes:
        value: (L,) float64.
        error: (L,) float64, the standard error over networks.
        replicates: (G, L) the value without each group of networks, where it is kept.
    """

    value: Tensor
    error: Tensor
    replicates: Tensor | None = None

    def deviations(self, theory: Tensor) -> Tensor:
        """(L,): how far the value lies from `theory`, in standard errors, which are at least those of rounding."""
        theory = theory.to(self.value)
        rounding = ROUNDING * theory.abs().max().clamp(min=1e-30)
        return (self.value - theory) / self.error.clamp(min=rounding)

    def __getitem__(self, layers: slice | list[int]) -> Estimate:
        """The same of some layers, by position."""
        replicates = None if self.replicates is None else self.replicates[:, layers]
        return Estimate(self.value[layers], self.error[layers], replicates)


def spread_of(replicates: Tensor) -> float:
    """The standard error that jackknife replicates (G,) of a number show."""
    groups = len(replicates)
    return math.sqrt((groups - 1) / groups * float((replicates - replicates.mean()).square().sum()))


def jackknife(samples: Means, functional: Callable[[Means], Tensor], groups: int = GROUPS) -> Estimate:
    """A function of means over networks, its bias of first order removed, with the standard error.

    Args:
        samples: (N, L) float64 each, one row per independent network.
        functional: takes means (…, L) by the same names and returns (…, L).
        groups: of networks, left out in turn; at most N.

    Raises:
        ValueError: fewer than two networks.
    """
    number = len(next(iter(samples.values())))
    groups = min(groups, number)
    if groups < 2:
        raise ValueError(f"{number} network has no spread; an estimate takes at least two")
    size = number // groups
    kept = {name: values[: size * groups].double() for name, values in samples.items()}
    whole = {name: values.mean(0) for name, values in kept.items()}
    without = {
        name: (values.sum(0) - values.unflatten(0, (groups, size)).sum(1)) / (size * (groups - 1))
        for name, values in kept.items()
    }
    value, left = functional(whole), functional(without)
    mean = left.mean(0)
    error = ((groups - 1) / groups * (left - mean).square().sum(0)).sqrt()
    return Estimate(groups * value - (groups - 1) * mean, error, left)
