"""Networks with skip connections z' = b + Wσ(z) + γz (Appendix B).

The book's vertex recursion leaves out correlations of an odd number of preactivations. They vanish without skip connections
and for odd activations; with a skip connection and a ReLU they do not: E[z_i² z_j] = T/n between different neurons feeds
the four-point function. `vertices` follows T as well, for any activation:

    V' = C_W²(⟨σ⁴⟩ − ⟨σ²⟩²) + (χ∥ + γ²)²V + 4γ²χ∥K² + (terms of T)        T' = γ·(…)

with χ∥ that of the branch alone. With T left out it is (B.26).
"""  # noqa: E501

from __future__ import annotations

import math
from dataclasses import dataclass

from encore.base.errors import ConfigurationError
from encore.nn.activations import Activation
from encore.papers.pdlt.information import TANH_GROWTH, optimal_ratio, scale_invariant_growth


@dataclass(frozen=True)
class ResidualLayer:
    """One layer on one input.

    Attributes:
        layer: ℓ.
        K: the kernel (Eq. B.11).
        V: the four-point vertex, with what odd correlations add.
        T: n·E[z_i² z_j] of different neurons.
        book_vertex: the vertex of (B.26), which leaves T out.
    """

    layer: int
    K: float
    V: float
    T: float
    book_vertex: float


def growth(activation: Activation, skip: float) -> float:
    """ν(γ): how fast the normalised vertex of (B.26) grows with ℓ/n at criticality (Eqs. B.29, B.35).

    For odd activations that is the growth; for a ReLU odd correlations add to it (see `vertices`).

    Raises:
        ConfigurationError: the activation is neither scale-invariant nor smooth at 0 and of the class K* = 0.
    """
    square = _square(skip)
    slopes = activation.scale_invariant
    if slopes is not None:
        return (1 - square) * ((1 - square) * scale_invariant_growth(*slopes) + 4 * square)
    if activation.taylor is None or activation.taylor[0] != 0 or activation.taylor[1] == 0:
        raise ConfigurationError(
            f"the growth of fluctuations with skips is known of scale-invariant activations and of those of the class "
            f"K* = 0 that are smooth at 0, not of {activation.name}",
            "ask for a ReLU, tanh or sin",
        )
    return TANH_GROWTH * (1 - square**2)


def _square(skip: float) -> float:
    if not skip**2 < 1:
        raise ConfigurationError(
            f"a skip connection of strength γ = {skip:g} cannot be critical: C_W = (1 − γ²)/A_2 would not be positive",
            "choose |γ| below 1",
        )
    return skip**2


def vertices(
    activation: Activation,
    depth: int,
    *,
    weight_variance: float,
    skip: float,
    bias_variance: float = 0.0,
    first_kernel: float = 1.0,
) -> list[ResidualLayer]:
    """Follow K, V and T to layer `depth`, to first order in one over the width.

    With X = Σ σ(z_j)²/n the next preactivation is Gaussian given this layer, z'_i ~ N(γz_i, C_b + C_W X), so that
    E[z'_i² z'_j²] and E[z'_i² z'_j] follow from covariances of X, z_i² and z_i between neurons, which to first order
    are derivatives of averages times V and T. Not in the book for T ≠ 0.
    """
    square = skip**2
    layers = [ResidualLayer(1, first_kernel, 0.0, 0.0, 0.0)]
    for layer in range(2, depth + 1):
        now = layers[-1]
        K, C_W = now.K, weight_variance
        at = activation.at(K)
        ss = at.moment(2)
        zss = at.moment(2, z=1)
        slope = (at.moment(2, z=2) - K * ss) / (2 * K**2)  # dg/dK
        tilt = zss / K  # ⟨∂σ²⟩: the change of ⟨σ²⟩ with the mean of z
        variance = at.moment(4) - ss**2
        # n·Cov(σ_i², z_j²) and n·Cov(σ_i², z_j) of different neurons
        across_squares = slope * now.V + tilt * now.T
        across_values = slope * now.T
        # n·Cov(X, z_j²), n·Cov(X, z_j) and n·Var(X), the same neuron included
        metric_square = 2 * K**2 * slope + across_squares
        metric_value = zss + across_values
        metric = variance + slope * across_squares + tilt * across_values
        V = C_W**2 * metric + 2 * square * C_W * metric_square + square**2 * now.V
        T = skip * (C_W * metric_value + square * now.T)
        book = C_W**2 * variance + (C_W * slope + square) ** 2 * now.book_vertex + 4 * square * C_W * slope * K**2
        layers.append(ResidualLayer(layer, bias_variance + C_W * ss + square * K, V, T, book))
    return layers


def optimal_skip(activation: Activation, ratio: float, outputs: int) -> float:
    """The γ at which r* is the depth over width that is given; 0 where that is shallow enough (Eq. B.36).

    Args:
        activation: scale-invariant or of the class K* = 0.
        ratio: r = L/n > 0.
        outputs: n_L.
    """
    if optimal_ratio(growth(activation, 0.0), outputs) >= ratio:
        return 0.0
    low = max((growth(activation, step / 1000), step / 1000) for step in range(1000))[1]  # beyond, ν falls with γ
    high = 1.0 - 1e-12
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if optimal_ratio(growth(activation, middle), outputs) < ratio else (low, middle)
    return math.fsum((low, high)) / 2
