"""Standard errors that the exact law of scale-invariant networks itself gives to averages over an ensemble.

Layer after layer the metric of a critical scale-invariant network is multiplied by an independent factor,

    Ĝ' = Ĝ · (1/n) Σ y_i,    y = C_W σ(u)²,  u ~ N(0, 1),  E[y] = 1,

so that E[Ĝ^k] is the (ℓ − 1)-th power of the factor's k-th moment, and given Ĝ the preactivations are independent
N(0, Ĝ). So the variance of every estimate is known. It is what a sample shows only if it has met the few networks that
rule the averages: Ĝ is close to log-normal, and errors that are estimated from a sample without them are too small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

QUANTITIES = ("metric", "metric_variance", "vertex")


def factor_moments(slopes: tuple[float, float], width: int) -> tuple[float, float, float, float]:
    """E[r^k], k = 1 … 4, of the factor r = (1/n) Σ y_i of one layer.

    Args:
        slopes: a₋ and a₊ of σ.
        width: n.
    """
    second = (slopes[0] ** 2 + slopes[1] ** 2) / 2
    one, two, three, four = (
        (slopes[0] ** (2 * k) + slopes[1] ** (2 * k)) / 2 * math.prod(range(1, 2 * k, 2)) / second**k
        for k in range(1, 5)
    )
    # Cumulants of y over powers of n are those of the mean.
    k2 = (two - one**2) / width
    k3 = (three - 3 * two * one + 2 * one**3) / width**2
    k4 = (four - 4 * three * one - 3 * two**2 + 12 * two * one**2 - 6 * one**4) / width**3
    return one, k2 + one**2, k3 + 3 * k2 * one + one**3, k4 + 4 * k3 * one + 3 * k2**2 + 6 * k2 * one**2 + one**4


def law_errors(
    quantity: str, slopes: tuple[float, float], layers: Sequence[int], width: int, networks: int, kernel: float = 1.0
) -> Tensor:
    """The standard error of an estimate of `Measurements` over an ensemble of equal widths, by the delta method.

    Args:
        quantity: `metric`, `metric_variance` or `vertex`.
        slopes: a₋ and a₊ of σ.
        layers: ℓ, from 1 on.
        width: n ≥ 2.
        networks: N.
        kernel: K.

    Returns:
        (layers,) float64.
    """
    n = width
    _, m2, m3, m4 = factor_moments(slopes, width)
    pairs_square = (18 + 12 * (n - 2) + (n - 2) * (n - 3)) / (n * (n - 1))  # E[(mean of u_i²u_j², i ≠ j)²]
    pairs_mean = (n + 4) / n  # E[(mean of u_i²u_j²)(mean of u_i²)]
    errors = []
    for layer in layers:
        g2, g3, g4 = (moment ** (layer - 1) for moment in (m2, m3, m4))
        if quantity == "metric":
            variance, scale = g2 * (1 + 2 / n) - 1, kernel
        elif quantity == "metric_variance":  # n (E[Ĝ²] − E[Ĝ]²)
            variance, scale = g4 - 4 * g3 + 4 * g2 - (g2 - 2) ** 2, n * kernel**2
        else:  # n (E[z_i²z_j²] − E[z²]²)
            variance = g4 * pairs_square - 4 * g3 * pairs_mean + 4 * g2 * (1 + 2 / n) - (g2 - 2) ** 2
            scale = n * kernel**2
        errors.append(scale * math.sqrt(max(variance, 0.0) / networks))
    return torch.tensor(errors, dtype=torch.float64)
