"""Gaussian averages ⟨f(z)⟩ to about twelve digits, on one number or on several correlated ones.

Lines are cut into panels with Gauss–Legendre nodes, and always at kinks, so that a ReLU is averaged as exactly as a
tanh.

Source: The Principles of Deep Learning Theory (arXiv 2106.10165), section 5.1, for what has to be averaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from encore.base.errors import InputError

NODES = 24
"""Gauss–Legendre nodes on each panel of a line."""

_REACH = 12.0
"""Standard deviations on each side; the weight beyond them is below 1e-31."""

_FARTHEST = 48.0
"""How far the reach grows for integrands that rise before they fall, such as powers of exp."""

_PANEL = 0.5
"""Widest panel, in standard deviations."""

_WIDEST = 4.0
"""Widest panel in units of z: activations change over lengths of about one."""

_MOST_PANELS = 6000

_TOLERANCE = 1e-9
"""The share of an average that may come from the outermost panels."""

_POINTS = {1: 90, 2: 40, 3: 24, 4: 15}
"""Half the nodes along each of S samples: those between two kinks, where there are kinks."""

_ENDS = {1: 12.0, 2: 9.0, 3: 8.5, 4: 7.5}
"""Standard deviations on each side that these nodes reach, where there are kinks."""


class GaussianError(InputError):
    """An average that does not exist, or a variance that is none."""


class Nodes(NamedTuple):
    """A quadrature for ⟨f⟩ ≈ Σ weights · f(z).

    Attributes:
        z: (N,) for one variable, (N, S) for S samples, float64.
        weights: (N,) float64; they sum to 1.
    """

    z: Tensor
    weights: Tensor


@lru_cache(maxsize=32)
def _legendre(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return nodes, weights


def line_nodes(variance: float, kinks: Sequence[float] = (), *, reach: float = _REACH, refine: int = 1) -> Nodes:
    """Nodes for ⟨f(z)⟩ with z ~ N(0, K).

    Args:
        variance: K ≥ 0; at 0 there is one node.
        kinks: places in units of z where f or its derivatives jump.
        reach: standard deviations on each side.
        refine: 2 halves the panels, and so on.

    Raises:
        GaussianError: the variance is negative or not finite.
    """
    if not (math.isfinite(variance) and variance >= 0):
        raise GaussianError(f"a kernel of {variance} is no variance", "give a finite K of at least 0")
    if variance == 0:
        return Nodes(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    deviation = math.sqrt(variance)
    end = reach * deviation
    width = min(_PANEL * deviation, _WIDEST) / refine
    count = min(2 * math.ceil(end / width), _MOST_PANELS)
    inside = [kink for kink in kinks if abs(kink) < end]
    edges = np.unique(np.concatenate([np.linspace(-end, end, count + 1), inside, [0.0]]))
    places, shares = _legendre(NODES)
    low, high = edges[:-1, None], edges[1:, None]
    z = ((high + low) / 2 + (high - low) / 2 * places).ravel()
    weights = ((high - low) / 2 * shares).ravel() * np.exp(-(z**2) / (2 * variance)) / (deviation * math.tau**0.5)
    return Nodes(torch.from_numpy(z), torch.from_numpy(weights / weights.sum()))


def expectation(f: Callable[[Tensor], Tensor], variance: float, kinks: Sequence[float] = ()) -> float:
    """⟨f(z)⟩ for z ~ N(0, K).

    Args:
        f: (N,) float64 → (N,), elementwise.
        variance: K ≥ 0.
        kinks: places where f or its derivatives jump.

    Raises:
        GaussianError: f is not finite, or the average diverges: f grows as fast as exp(z²/2K) or faster.
    """
    reach, refine, before = _REACH, 1, math.nan
    while True:
        z, weights = line_nodes(variance, kinks, reach=reach, refine=refine)
        terms = f(z) * weights
        if falls_off(terms):
            value = float(terms.sum())
            size = float(terms.abs().sum())
            if variance == 0 or abs(value - before) <= 1e-12 * size or refine >= 64:
                return value
            before, refine = value, 2 * refine
        elif reach >= _FARTHEST or not bool(torch.isfinite(f(line_nodes(variance, kinks).z)).all()):
            raise divergence(f, variance, kinks)
        else:
            reach, before = 2 * reach, math.nan


def divergence(f: Callable[[Tensor], Tensor], variance: float, kinks: Sequence[float] = ()) -> GaussianError:
    """The error for an average that does not exist, in the theory's terms."""
    near = f(line_nodes(min(variance, 0.01), kinks, reach=1.0).z)
    if not bool(torch.isfinite(near).all()):
        return GaussianError("the function is not finite near 0", "give an activation that is finite everywhere")
    inside = line_nodes(variance, kinks, reach=6.0).z
    if bool(torch.isnan(values := f(inside)).any()):
        place = float(inside[torch.isnan(values)].abs().min())
        return GaussianError(
            f"the function is not a number at |z| = {place:.3g}, which preactivations of kernel K = {variance:g} reach",
            "give an activation that is finite everywhere",
        )
    return GaussianError(
        f"the Gaussian average diverges at kernel K = {variance:g}: the function grows as fast as exp(z²/2K)",
        "give an activation that grows more slowly, or a smaller kernel",
    )


def falls_off(terms: Tensor) -> bool:
    """Whether a sum over nodes of a line is finite and owes nothing to its ends."""
    if len(terms) == 1:
        return bool(torch.isfinite(terms).all())
    sizes = terms.abs()
    total = float(sizes.sum())
    ends = float(sizes[:NODES].sum() + sizes[-NODES:].sum())
    return math.isfinite(total) and ends <= _TOLERANCE * total


def sample_nodes(covariance: ArrayLike, kinks: Sequence[float] = (), points: int | None = None) -> Nodes:
    """Nodes for ⟨f(z_1 … z_S)⟩ with z ~ N(0, K) over 1 to 4 samples, equal or dependent samples included.

    The samples are z = L u with K = L Lᵀ. Without kinks each u has Gauss–Hermite nodes, which are exact for
    polynomials; otherwise its line is cut where its z meets a kink. Errors are about 1e-9 for two samples and 1e-7 for
    four.

    Args:
        covariance: (S, S), symmetric and positive semi-definite.
        kinks: places where the activation or its derivatives jump.
        points: nodes between two kinks along each sample, or half of them where there are no kinks; by default 90, 40,
            24, 15 for S = 1, 2, 3, 4, and never more than 90.

    Raises:
        GaussianError: the matrix is no covariance, or there are more than four samples.
    """
    K = np.atleast_2d(np.asarray(covariance, dtype=np.float64))
    if K.ndim != 2 or K.shape[0] != K.shape[1] or not 1 <= len(K) <= 4:
        raise GaussianError(f"a kernel of shape {K.shape} cannot be averaged over", "give 1 to 4 samples, (S, S)")
    if not np.isfinite(K).all() or not np.allclose(K, K.T, atol=1e-10 * max(1.0, float(np.abs(K).max()))):
        raise GaussianError("the kernel is not a finite symmetric matrix", "give K with K[i, j] = K[j, i]")
    L = _cholesky(K)
    count = min(points or _POINTS[len(K)], 90)  # NumPy's Hermite weights overflow beyond about 250 nodes
    places, shares = _legendre(count)
    free = np.polynomial.hermite_e.hermegauss(2 * count)
    u = np.zeros((1, 0))
    weights = np.ones(1)
    for row in range(len(K)):
        if L[row, row] == 0:  # this sample follows from those before it
            u = np.concatenate([u, np.zeros((len(u), 1))], 1)
            continue
        if kinks:
            end, shift = _ENDS[len(K)], u @ L[row, :row]
            cuts = [np.clip((kink - shift) / L[row, row], -end, end) for kink in sorted(kinks)]
            edges = np.stack([np.full(len(u), -end), *cuts, np.full(len(u), end)], 1)
            low, high = edges[:, :-1, None], edges[:, 1:, None]
            t = ((high + low) / 2 + (high - low) / 2 * places).reshape(len(u), -1)
            w = ((high - low) / 2 * shares).reshape(len(u), -1) * np.exp(-(t**2) / 2) / math.tau**0.5
        else:
            t, w = (np.broadcast_to(one, (len(u), 2 * count)) for one in free)
            w = w / math.tau**0.5
        keep = (weights[:, None] * w) > 1e-22
        parents = np.nonzero(keep)[0]
        weights = (weights[:, None] * w)[keep]
        u = np.concatenate([u[parents], t[keep][:, None]], 1)
    return Nodes(torch.from_numpy(u @ L.T), torch.from_numpy(weights / weights.sum()))


def _cholesky(K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower L with L Lᵀ = K; the diagonal is 0 where a sample follows from those before it.

    Raises:
        GaussianError: K has a negative eigenvalue.
    """
    size = float(np.abs(np.diag(K)).max())
    if float(np.linalg.eigvalsh(K).min()) < -1e-8 * max(size, 1e-300):
        raise GaussianError("the kernel has a negative eigenvalue", "give a positive semi-definite matrix")
    L = np.zeros_like(K)
    for row in range(len(K)):
        for column in range(row):
            if L[column, column] > 0:
                L[row, column] = (K[row, column] - L[row, :column] @ L[column, :column]) / L[column, column]
        left = K[row, row] - L[row, :row] @ L[row, :row]
        L[row, row] = math.sqrt(left) if left > 1e-13 * size else 0.0
    return L


def expectations(
    f: Callable[[Tensor], Tensor], covariance: ArrayLike, kinks: Sequence[float] = (), points: int | None = None
) -> Tensor:
    """⟨f(z_1 … z_S)⟩ over 1 to 4 correlated samples.

    Args:
        f: (N, S) float64 → (N, …).
        covariance: (S, S).
        kinks, points: see `sample_nodes`.

    Returns:
        (…) float64.

    Raises:
        GaussianError: no covariance, or f is not finite.
    """
    z, weights = sample_nodes(covariance, kinks, points)
    values = f(z)
    mean = torch.tensordot(weights, values, dims=([0], [0]))
    if not bool(torch.isfinite(mean).all()):
        raise GaussianError("the Gaussian average is not finite", "give a function that is finite everywhere")
    return mean
