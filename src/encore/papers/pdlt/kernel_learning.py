"""What infinitely wide networks predict after training (chapter 10), and exact Bayesian inference (chapter 6).

K, Θ over all inputs ─→ mean Θ_βα Θ̃⁻¹ y  and covariance of fully trained networks (Eqs. 10.39–10.41)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from encore.base.errors import ConfigurationError, DataError
from encore.nn.activations import Activation
from encore.papers.pdlt.recursions import Rates, uniform_rates

TERMS = 96
"""Hermite polynomials that an average over two inputs is expanded in."""


@dataclass(frozen=True)
class Kernels:
    """Over M inputs, float64.

    Attributes:
        K: (M, M) of the output layer.
        theta: (M, M) the frozen neural tangent kernel.
    """

    K: Tensor
    theta: Tensor


@dataclass(frozen=True)
class Prediction:
    """Of an ensemble of infinitely wide networks on T test inputs.

    Attributes:
        mean: (T, outputs).
        covariance: (T, T), the same for each output.
    """

    mean: Tensor
    covariance: Tensor


def kernels(
    activation: Activation,
    inputs: Tensor,
    depth: int,
    *,
    bias_variance: float = 0.0,
    weight_variance: float = 1.0,
    rates: Rates = uniform_rates,
) -> Kernels:
    """K and Θ of layer `depth` between all inputs (Eqs. 4.114, 9.5).

    Scale-invariant activations by their angles, exactly; others through Σ_k a_k(K_11) a_k(K_22) ρ^k with the Hermite
    coefficients a_k of σ and ρ the correlation, about ten digits for smooth activations.

    Args:
        inputs: (M, n_0), none of them zero unless C_b > 0.
        depth: L ≥ 1.
        bias_variance, weight_variance, rates: C_b, C_W, and λ of each layer.

    Raises:
        DataError: the inputs are no finite matrix, or one is zero where C_b = 0.
        ConfigurationError: `depth` is below 1.
    """
    if inputs.dim() != 2 or not bool(torch.isfinite(inputs).all()):
        raise DataError(
            f"inputs of shape {tuple(inputs.shape)} are no finite table", "give numbers (samples, features)"
        )
    if depth < 1:
        raise ConfigurationError(f"a network of {depth} layers has no output", "give a depth from 1 on")
    x = inputs.double()
    gram = x @ x.mT / x.shape[1]
    bias_rate, weight_rate = rates(1)
    K, theta = bias_variance + weight_variance * gram, bias_rate + weight_rate * gram
    if float(K.diagonal().min()) <= 0:
        raise DataError("an input is zero, and so is its kernel", "leave it out or take C_b > 0")
    for layer in range(2, depth + 1):
        values, slopes = _pair_averages(activation, K)
        bias_rate, weight_rate = rates(layer)
        theta = bias_rate + weight_rate * values + weight_variance * slopes * theta
        K = bias_variance + weight_variance * values
    return Kernels(K, theta)


def _pair_averages(activation: Activation, K: Tensor) -> tuple[Tensor, Tensor]:
    """⟨σσ⟩ and ⟨σ'σ'⟩ for every pair of inputs, (M, M) each."""
    deviations = K.diagonal().sqrt()
    correlation = (K / deviations[:, None] / deviations[None, :]).clamp(-1, 1)
    slopes = activation.scale_invariant
    if slopes is not None:
        return _by_angle(slopes, K, deviations, correlation)
    found = []
    for order in (0, 1):
        coefficients, own = _hermite_coefficients(activation, deviations, order)
        power, total = torch.ones_like(correlation), torch.zeros_like(correlation)
        for one in coefficients:
            total += one[:, None] * one[None, :] * power
            power = power * correlation
        rest = (own - coefficients.square().sum(0)).clamp(min=0).sqrt()
        total += rest[:, None] * rest[None, :] * power  # what is left belongs to higher powers
        found.append(total)
    return found[0], found[1]


def _by_angle(slopes: tuple[float, float], K: Tensor, deviations: Tensor, correlation: Tensor) -> tuple[Tensor, Tensor]:
    """The averages of σ = a± z at an angle ψ (Eqs. 5.159, 5.161)."""
    low, high = slopes
    second = (low**2 + high**2) / 2
    rho = (high - low) ** 2 / (2 * math.pi * second)
    correlation = correlation.clone().fill_diagonal_(1.0)
    angle = correlation.acos()
    bend = rho * (angle.sin() - angle * correlation)
    return second * deviations[:, None] * deviations[None, :] * (correlation + bend), second * (1 - rho * angle)


def _hermite_coefficients(activation: Activation, deviations: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """a_k = ⟨f(√K u) h_k(u)⟩ of σ or σ' with orthonormal Hermite polynomials h_k: (TERMS, M), and ⟨f²⟩ (M,)."""
    kernels, places = deviations.square().unique(return_inverse=True)
    columns, squares = [], []
    for kernel in kernels.tolist():
        at = activation.at(kernel)
        u, weighted = at.z / math.sqrt(kernel), at.weights * at.values(order)
        before, now = torch.zeros_like(u), torch.ones_like(u)
        rows = []
        for term in range(TERMS):
            rows.append(weighted @ now)
            before, now = now, (u * now - math.sqrt(term) * before) / math.sqrt(term + 1)
        columns.append(torch.stack(rows))
        squares.append(weighted @ at.values(order))
    return torch.stack(columns, 1)[:, places], torch.stack(squares)[places]


def trained_prediction(found: Kernels, targets: Tensor) -> Prediction:
    """Of fully trained infinitely wide networks on the inputs that follow the training inputs (Eqs. 10.40–10.41).

    Args:
        found: kernels over training inputs first, then test inputs.
        targets: (A, outputs) of the A training inputs.

    Raises:
        DataError: no training or no test inputs, or a training kernel that cannot be inverted (equal inputs).
    """
    return _predict(found.K, found.theta, targets)


def bayesian_posterior(found: Kernels, targets: Tensor) -> Prediction:
    """Exact Bayesian inference at infinite width: the same with K in the place of Θ (Eq. 6.64)."""
    return _predict(found.K, found.K, targets)


def _predict(K: Tensor, theta: Tensor, targets: Tensor) -> Prediction:
    y = targets.double()
    y = y[:, None] if y.dim() == 1 else y
    number = len(y)
    if not 0 < number < len(K):
        raise DataError(
            f"{number} targets for {len(K)} inputs", "give training inputs first and at least one test input"
        )
    factor, failed = torch.linalg.cholesky_ex(theta[:number, :number])
    if bool(failed):
        raise DataError(
            "the kernel of the training inputs cannot be inverted", "leave out training inputs that are equal"
        )
    projector = torch.cholesky_solve(theta[:number, number:], factor).mT  # Θ_βα Θ̃⁻¹
    cross = projector @ K[:number, number:]
    covariance = K[number:, number:] - cross - cross.mT + projector @ K[:number, :number] @ projector.mT
    return Prediction(projector @ y, covariance)
