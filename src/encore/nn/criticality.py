"""Critical points of activations: the weights and biases at which signals neither grow nor die with depth.

Source: The Principles of Deep Learning Theory (arXiv 2106.10165), chapter 5; equation numbers are of the preprint of
June 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from encore.base.errors import InputError
from encore.nn.activations import Activation, as_activation
from encore.nn.gaussian import GaussianError
from encore.nn.susceptibilities import (
    ActivationLike,
    chi_parallel,
    chi_perpendicular,
    fixed_point,
    g,
    g_curvature,
    g_slope,
    h,
    slope_square,
)

__all__ = [
    "ActivationLike",
    "CriticalPoint",
    "CriticalityError",
    "Expansion",
    "Universality",
    "chi_parallel",
    "chi_perpendicular",
    "corrected_weight_variance",
    "critical_point",
    "critical_points",
    "expansion",
    "fixed_point",
    "g",
    "g_curvature",
    "g_slope",
    "h",
    "residual_weight_variance",
    "universality_class",
]

UniversalityName = Literal["scale-invariant", "K*=0", "half-stable", "none"]

Stability = Literal["neutral", "stable", "unstable", "attracts from below", "attracts from above"]

_LARGEST_KERNEL = 1e4
"""Critical points are looked for up to here."""

_SEARCH_POINTS = 281


class CriticalityError(InputError):
    """An activation that has no critical point, or none that can be used."""


@dataclass(frozen=True)
class CriticalPoint:
    """A place where χ∥ = χ⊥ = 1 and K* = C_b + C_W g(K*) (5.55–5.56).

    Attributes:
        kernel: K*; of scale-invariant activations, where each kernel is a fixed point, 1.
        bias_variance: C_b.
        weight_variance: C_W; weights have variance C_W over the fan-in.
        universality: the class of this point.
        stability: which way kernels near K* move from layer to layer.
        exponents: `p_0`, `p_parallel`, `p_perpendicular`: K, δK_[1] and δδK_[2] fall as ℓ^−p (5.94–5.99); empty for
            half-stable points, which are approached from one side alone.
        curvature: ã1, half the second derivative of C_W g at K* (its sign tells the attracting side).
    """

    kernel: float
    bias_variance: float
    weight_variance: float
    universality: UniversalityName
    stability: Stability
    exponents: dict[str, float]
    curvature: float = 0.0


@dataclass(frozen=True)
class Universality:
    """The class of an activation.

    Attributes:
        name: `scale-invariant`, `K*=0`, `half-stable` or `none`.
        points: all its critical points.
        reason: why it is of this class, in one sentence.
    """

    name: UniversalityName
    points: tuple[CriticalPoint, ...]
    reason: str


# expansion around K = 0


@dataclass(frozen=True)
class Expansion:
    """Of the recursions around K = 0 at C_W = 1/σ1² (5.83–5.88).

    C_W g = K + a1 K² + a2 K³; χ∥ = 1 + 2 a1 K + 3 a2 K²; χ⊥ = 1 + b1 K.
    """

    a1: float
    a2: float
    b1: float


def expansion(activation: ActivationLike) -> Expansion:
    """a1, a2 and b1 from the Taylor coefficients of σ (5.86–5.88).

    Raises:
        CriticalityError: σ has a kink at 0, or σ(0) ≠ 0, or σ'(0) = 0.
    """
    sigma = as_activation(activation)
    if sigma.taylor is None or sigma.taylor[0] != 0 or sigma.taylor[1] == 0:
        raise CriticalityError(
            f"{sigma.name} cannot be expanded around K = 0", "this takes σ smooth at 0, with σ(0) = 0 and σ'(0) ≠ 0"
        )
    _, one, two, three, four, five = sigma.taylor
    return Expansion(
        a1=three / one + 0.75 * (two / one) ** 2,
        a2=five / one / 4 + 0.625 * (four / one) * (two / one) + 5 / 12 * (three / one) ** 2,
        b1=three / one + (two / one) ** 2,
    )


def _point_at_zero(sigma: Activation) -> CriticalPoint | None:
    """The critical point at K* = 0, for σ(0) = 0 and a slope at 0 (5.90)."""
    low, high = sigma.slopes_at_zero
    if sigma.value_at_zero != 0 or low**2 + high**2 == 0:
        return None
    weight_variance = 2 / (low**2 + high**2)
    order, a, b = _leading_behaviour(sigma, weight_variance)
    stability: Stability = "neutral" if a == 0 else "stable" if a < 0 else "unstable"
    exponents = {}
    if a < 0:  # K' = K + a K^(1+m) falls as ℓ^(−1/m)
        exponents = {"p_0": 1 / order, "p_parallel": (order + 1) / order}
        if low == high:  # where the slope jumps, directions do not follow (5.48)
            exponents["p_perpendicular"] = b / (a * order)
    return CriticalPoint(0.0, 0.0, weight_variance, "K*=0", stability, exponents, a)


def _leading_behaviour(sigma: Activation, weight_variance: float) -> tuple[float, float, float]:
    """(m, a, b) with C_W g = K + a K^(1+m) and χ⊥ = 1 + b K^m near 0: m = 1 for a smooth σ (5.83), ½ at a kink."""
    if sigma.taylor is not None:
        found = expansion(sigma)
        if found.a1 != 0:
            return 1.0, found.a1, found.b1
    kernels = (4e-4, 1e-4)
    excess = [weight_variance * g(sigma, kernel) / kernel - 1 for kernel in kernels]
    bend = [chi_perpendicular(sigma, kernel, weight_variance) - 1 for kernel in kernels]
    if max(abs(one) for one in excess) < 1e-11:
        return 1.0, 0.0, 0.0
    order = round(2 * math.log(abs(excess[0] / excess[1])) / math.log(kernels[0] / kernels[1])) / 2
    order = max(order, 0.5)
    # the coefficient at K → 0 by one step of Richardson's extrapolation in √K
    root = [math.sqrt(kernel) for kernel in kernels]
    a, b = (
        (root[0] * two - root[1] * one) / (root[0] - root[1])
        for one, two in (
            [value / kernel**order for value, kernel in zip(pair, kernels, strict=True)] for pair in (excess, bend)
        )
    )
    return order, a, b


# the search


def critical_points(activation: ActivationLike) -> list[CriticalPoint]:
    """All critical points of an activation (5.71–5.73), the best to start from first; empty if there is none.

    At K* > 0 the ratio χ⊥/χ∥ crosses 1, which is looked for up to K = 10⁴; then C_W = 1/⟨σ'²⟩ and
    C_b = K − ⟨σ²⟩/⟨σ'²⟩, which must not be negative.

    Raises:
        GaussianError: averages diverge at every kernel.
    """
    return list(universality_class(activation).points)


def universality_class(activation: ActivationLike) -> Universality:
    """The class of an activation (5.2–5.3), its critical points, and the reason.

    Raises:
        ActivationError: no activation.
        GaussianError: averages diverge at every kernel.
    """
    return _classified(as_activation(activation))


@lru_cache(maxsize=128)
def _classified(sigma: Activation) -> Universality:
    slopes = sigma.scale_invariant
    if slopes is not None:
        A2 = (slopes[0] ** 2 + slopes[1] ** 2) / 2
        point = CriticalPoint(
            1.0, 0.0, 1 / A2, "scale-invariant", "neutral", {"p_0": 0.0, "p_parallel": 0.0, "p_perpendicular": 0.0}
        )
        if slopes[0] != slopes[1]:  # the angle falls as 1/ℓ, and δδK as its square (5.166)
            point.exponents["p_perpendicular"] = 2.0
        reason = f"σ(z) = a z with slopes {slopes[0]:g} and {slopes[1]:g}: every kernel is a fixed point at C_W = 1/A2"
        return Universality("scale-invariant", (point,), reason)
    steps = [kink for kink in sigma.kinks if kink.values[0] != kink.values[1]]
    if steps:
        nearest = min((kink.position for kink in steps), key=abs)
        why = f"{sigma.name} jumps or is vertical at z = {nearest:g}, so that ⟨σ'²⟩ and with it χ⊥ is infinite"
        return Universality("none", (), why)
    if slope_square(sigma, 1.0) == 0:
        return Universality("none", (), f"{sigma.name} is constant, so that nothing passes it")
    zero = _point_at_zero(sigma)
    positive, refused = _positive_points(sigma)
    if zero is not None and zero.stability != "unstable":
        points = (zero, *positive)
        word = "attracts" if zero.stability == "stable" else "neither attracts nor repels to the order looked at"
        low, high = sigma.slopes_at_zero
        slope = "σ'(0) ≠ 0, and at C_W = 1/σ'(0)²" if low == high else "a slope jumps there, and at C_W = 1/A2"
        return Universality("K*=0", points, f"σ(0) = 0, {slope} the fixed point K* = 0 {word}")
    if positive:
        return Universality(
            "half-stable", (*positive, *([zero] if zero else [])), "χ⊥/χ∥ = 1 at a kernel K* > 0 that attracts one side"
        )
    if zero is not None:
        why = "its only critical point, K* = 0, repels: kernels grow away from it"
        return Universality("none", (zero,), why)
    return Universality("none", (), _why_none(sigma, refused))


def _imbalance(sigma: Activation, kernel: float) -> float:
    """(⟨σ'²⟩ − g'(K)) K / g(K): zero where χ⊥ = χ∥."""
    averages = sigma.at(kernel)
    square = averages.values() ** 2
    value = averages.mean(square)
    slope = averages.mean(square * (averages.z**2 - kernel)) / (2 * kernel**2)
    return (averages.moment(0, 2) - slope) * kernel / value if value else math.nan


def _positive_points(sigma: Activation) -> tuple[list[CriticalPoint], list[tuple[float, float]]]:
    """Critical points at K* > 0, and (K, C_b) of those refused for a negative C_b."""
    kernels = np.geomspace(1e-3, _LARGEST_KERNEL, _SEARCH_POINTS)
    values: list[float] = []
    for kernel in kernels:
        try:
            values.append(_imbalance(sigma, float(kernel)))
        except GaussianError:
            if not values:
                raise
            break  # beyond, averages diverge
    points, refused = [], []
    for root in _crossings(sigma, kernels, values):
        square = slope_square(sigma, root)
        bias_variance, weight_variance = root - g(sigma, root) / square, 1 / square
        if bias_variance < -1e-12 * root:
            refused.append((root, bias_variance))
            continue
        curvature = weight_variance * g_curvature(sigma, root) / 2
        side: Stability = "attracts from below" if curvature > 0 else "attracts from above"
        points.append(CriticalPoint(root, max(bias_variance, 0.0), weight_variance, "half-stable", side, {}, curvature))
    return points, refused


def _crossings(sigma: Activation, kernels: NDArray[np.float64], values: list[float]) -> list[float]:
    """Kernels at which the imbalance changes its sign; 1 if it is zero everywhere, as where σ is 0 at all its kinks."""
    middle = [value for kernel, value in zip(kernels, values, strict=False) if 0.5 < kernel < 50]
    if middle and max(map(abs, middle)) < 1e-10:
        return [1.0]
    roots = []
    for index in range(len(values) - 1):
        before, after = values[index], values[index + 1]
        if before * after < 0 and max(abs(before), abs(after)) >= 1e-10:
            ends = float(kernels[index]), float(kernels[index + 1])
            roots.append(float(brentq(lambda kernel: _imbalance(sigma, kernel), *ends, xtol=1e-13, rtol=1e-14)))
    return roots


def _why_none(sigma: Activation, refused: list[tuple[float, float]]) -> str:
    if refused:
        kernel, bias = refused[0]
        return f"χ⊥ = χ∥ at K = {kernel:g}, but there C_b = {bias:.3g} would have to be negative"
    taylor = sigma.taylor
    if taylor is not None and taylor[0] != 0 and taylor[1] != 0 and taylor[2] == 0:
        bias = -((taylor[0] / taylor[1]) ** 2)
        return f"χ⊥ = χ∥ at K = 0 alone, and there C_b = −(σ(0)/σ'(0))² = {bias:g} would have to be negative"
    samples = [(kernel, slope_square(sigma, kernel) / g_slope(sigma, kernel)) for kernel in (0.1, 1.0, 10.0)]
    ratios = ", ".join(f"{ratio:.4g} at K = {kernel:g}" for kernel, ratio in samples)
    return f"χ⊥/χ∥ is never 1 ({ratios}): lengths and directions cannot both be kept"


def critical_point(activation: ActivationLike) -> CriticalPoint:
    """The critical point to initialise with.

    Raises:
        CriticalityError: the activation has none, with the reason.
    """
    sigma = as_activation(activation)
    found = universality_class(sigma)
    if found.name == "none":
        raise CriticalityError(
            f"{sigma.name} has no critical point that can be used ({found.reason})",
            "choose an activation with one, such as tanh, ReLU, GELU or SWISH",
        )
    return found.points[0]


def corrected_weight_variance(activation: ActivationLike, width: int) -> float:
    """C_W to first order in 1/width at K* = 0 of a smooth σ: (1/σ1²)(1 + 2/(3n)) (5.142); of others as it is.

    Raises:
        CriticalityError: the activation has no critical point.
    """
    sigma = as_activation(activation)
    point = critical_point(sigma)
    if point.universality == "K*=0" and sigma.taylor is not None:
        return point.weight_variance * (1 + 2 / (3 * width))
    return point.weight_variance


def residual_weight_variance(activation: ActivationLike, gain: float) -> float:
    """C_W of z' = b + W σ(z) + γ z: (1 − γ²)/A2, or (1 − γ²)/σ1² (B.20, B.21).

    Args:
        activation: scale-invariant or of class K* = 0.
        gain: γ of the skip connection, |γ| < 1.

    Raises:
        CriticalityError: γ = 1 leaves nothing for the weights, or the class has no such point.
    """
    point = critical_point(activation)
    if not abs(gain) < 1:
        raise CriticalityError(
            f"a skip connection of strength γ = {gain:g} cannot be critical: C_W = (1 − γ²)·{point.weight_variance:g} "
            "leaves nothing for the weights",
            "multiply the skip by γ < 1, for example γ² = 1 − 1/(number of blocks)",
        )
    if point.universality == "half-stable":
        raise CriticalityError(
            f"{as_activation(activation).name} is half-stable, and its residual critical point is not in the book",
            "use ReLU, tanh or another activation of their classes in residual networks",
        )
    return (1 - gain**2) * point.weight_variance
