"""How kernels and their differences change in one layer: g, χ∥, χ⊥ and h of an activation.

Source: The Principles of Deep Learning Theory (arXiv 2106.10165), sections 5.1 and 5.2; equation numbers are of the
preprint of June 2021.
"""

from __future__ import annotations

import math

from encore.nn.activations import Activation, ElementwiseFunction, as_activation
from encore.nn.gaussian import GaussianError

ActivationLike = str | Activation | ElementwiseFunction


def g(activation: ActivationLike, kernel: float) -> float:
    """g(K) = ⟨σ²⟩ (5.5).

    Raises:
        GaussianError: the average diverges.
    """
    return as_activation(activation).at(kernel).moment(2)


def g_slope(activation: ActivationLike, kernel: float) -> float:
    """g'(K) = ⟨σ²(z² − K)⟩ / 2K² (5.50); at K = 0 its limit.

    Raises:
        GaussianError: the average diverges, or there is no limit at 0.
    """
    sigma = as_activation(activation)
    if kernel == 0:
        low, high = sigma.slopes_at_zero
        bend = sigma.value_at_zero * _curvature_at_zero(sigma)
        return (low**2 + high**2) / 2 + bend
    averages = sigma.at(kernel)
    return averages.mean(averages.values() ** 2 * (averages.z**2 - kernel)) / (2 * kernel**2)


def _curvature_at_zero(sigma: Activation) -> float:
    if sigma.value_at_zero == 0:
        return 0.0
    if sigma.taylor is None:
        raise GaussianError(f"g'(K) of {sigma.name} has no limit at K = 0", "ask at K > 0")
    return sigma.taylor[2]


def g_curvature(activation: ActivationLike, kernel: float) -> float:
    """g''(K) = ⟨σ²(z⁴ − 6Kz² + 3K²)⟩ / 4K⁴ for K > 0."""
    averages = as_activation(activation).at(kernel)
    z2 = averages.z**2
    return averages.mean(averages.values() ** 2 * (z2**2 - 6 * kernel * z2 + 3 * kernel**2)) / (4 * kernel**4)


def chi_parallel(activation: ActivationLike, kernel: float, weight_variance: float) -> float:
    """χ∥(K) = C_W g'(K) (5.50): how a difference in length grows in one layer."""
    return weight_variance * g_slope(activation, kernel)


def chi_perpendicular(activation: ActivationLike, kernel: float, weight_variance: float) -> float:
    """χ⊥(K) = C_W ⟨σ'²⟩ (5.51): how a difference in direction grows in one layer.

    Raises:
        GaussianError: the average diverges, as for a step.
    """
    return weight_variance * slope_square(as_activation(activation), kernel)


def slope_square(sigma: Activation, kernel: float) -> float:
    """⟨σ'²⟩ at kernel K; at 0 its limit.

    Raises:
        GaussianError: the average diverges, as for a step.
    """
    if kernel == 0:
        low, high = sigma.slopes_at_zero
        return (low**2 + high**2) / 2
    return sigma.at(kernel).moment(0, 2)


def h(activation: ActivationLike, kernel: float, weight_variance: float) -> float:
    """h(K) = ½ dχ⊥/dK = C_W ⟨σ'²(z² − K)⟩ / 4K² (5.52); at K = 0 its limit, for activations smooth there."""
    sigma = as_activation(activation)
    if kernel == 0:
        if sigma.taylor is None:
            if sigma.scale_invariant:
                return 0.0
            raise GaussianError(f"h(K) of {sigma.name} has no limit at K = 0", "ask at K > 0")
        _, one, two, three, *_ = sigma.taylor
        return weight_variance * (two**2 + one * three) / 2
    averages = sigma.at(kernel)
    averages.moment(0, 2)  # refuses steps
    return weight_variance * averages.mean(averages.values(1) ** 2 * (averages.z**2 - kernel)) / (4 * kernel**2)


def fixed_point(
    activation: ActivationLike,
    bias_variance: float,
    weight_variance: float,
    kernel: float = 1.0,
    *,
    layers: int = 100_000,
    tolerance: float = 1e-10,
) -> float:
    """Where K' = C_b + C_W g(K) comes to rest when it starts at `kernel`; infinity if it grows without end.

    At criticality kernels move as slowly as 1/ℓ, so that the answer there is near K*, not equal to it.

    Args:
        activation, bias_variance, weight_variance: σ, C_b ≥ 0, C_W ≥ 0.
        kernel: K of the first layer.
        layers: after which the kernel is taken as it is.
        tolerance: relative change in a layer below which it rests.

    Raises:
        GaussianError: an average diverges.
    """
    sigma = as_activation(activation)
    current = kernel
    for _ in range(layers):
        following = bias_variance + weight_variance * g(sigma, current)
        if following > 1e12:
            return math.inf
        if abs(following - current) <= tolerance * max(current, 1e-12):
            return following
        if following < 1e-14:
            return 0.0
        current = following
    return current
