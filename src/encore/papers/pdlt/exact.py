"""What is known at any width: deep linear networks (chapter 3), scale-invariant vertices, angles of two inputs."""

from __future__ import annotations

import math

from encore.base.errors import ConfigurationError


def moment_factor(order: int, width: int) -> float:
    """c_2m(n) = Π_{s=1}^{m−1}(1 + 2s/n): what a layer of a critical deep linear network does to the 2m-point function.

    Args:
        order: m ≥ 1 (Eqs. 3.45–3.46).
        width: n of the layer before.
    """
    return math.prod(1 + 2 * step / width for step in range(1, order))


def scaled_moment(order: int, ratio: float) -> float:
    """G_2m/G_2^m of a deep linear network as L and n grow at a fixed r = L/n: exp(m(m−1)r) (Eq. 3.55)."""
    return math.exp(order * (order - 1) * ratio)


def connected_four_point(ratio: float) -> float:
    """Of a deep linear network at r = L/n, over G_2²: e^{2r} − 1 (Eq. 3.56)."""
    return math.expm1(2 * ratio)


def connected_six_point(ratio: float) -> float:
    """Of a deep linear network at r = L/n, over G_2³: e^{6r} − 3e^{2r} + 2 (Eq. 3.57)."""
    return math.exp(6 * ratio) - 3 * math.exp(2 * ratio) + 2


def scale_invariant_vertex(growth: float, layer: int, width: int) -> float:
    """V/K² at criticality for equal widths, exact in n: n[(1 + ν/n)^{ℓ−1} − 1]; (ℓ − 1)ν to first order (Eq. 5.120).

    Args:
        growth: ν: 2 for linear, 5 for ReLU.
        layer: ℓ ≥ 1.
        width: n.
    """
    return width * math.expm1((layer - 1) * math.log1p(growth / width))


def next_angle(angle: float, negative_slope: float, positive_slope: float) -> float:
    """ψ' of two inputs of a critical scale-invariant network one layer on (Eqs. 5.162–5.163).

    Args:
        angle: ψ in 0…π, radians.
        negative_slope, positive_slope: a₋ and a₊.

    Raises:
        ConfigurationError: the angle is none.
    """
    if not 0 <= angle <= math.pi:
        raise ConfigurationError(f"{angle} is no angle between two inputs", "give radians from 0 to π")
    rho = (positive_slope - negative_slope) ** 2 / (math.pi * (positive_slope**2 + negative_slope**2))
    cosine = math.cos(angle) + rho * (math.sin(angle) - angle * math.cos(angle))
    return math.acos(max(-1.0, min(1.0, cosine)))


def angles(first: float, depth: int, negative_slope: float, positive_slope: float) -> list[float]:
    """ψ of layers 1 … `depth`; it falls as (3/ρ)/ℓ, slowly to that (Eq. 5.166)."""
    found = [first]
    while len(found) < depth:
        found.append(next_angle(found[-1], negative_slope, positive_slope))
    return found
