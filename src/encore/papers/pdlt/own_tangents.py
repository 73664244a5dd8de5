"""The tangent kernel of networks that are not from here, by automatic differentiation, and how it varies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from encore.base.errors import ConfigurationError
from encore.base.progress import ProgressReporter, SilentProgress
from encore.papers.pdlt.own_networks import Factory, checked_input, first_line, networks_made, stacked_state
from encore.papers.pdlt.statistics import Means, jackknife

MOST_OUTPUTS = 64
"""Outputs of a network whose tangent kernel is measured."""

_JACOBIAN = 2**25
"""Derivatives that lie in memory at once."""


@dataclass(frozen=True)
class TangentKernel:
    """Ĥ of the outputs over an ensemble; each value is (estimate, standard error).

    Attributes:
        mean: E[Ĥ_ii], Θ to first order.
        A: fan-in of the outputs times Cov(Ĥ_ii, Ĥ_jj) of different outputs (Eq. 8.82); NaN for one output.
        B: fan-in times E[Ĥ_ij²]; NaN for one output.
        spread: √Var(Ĥ_ii)/E[Ĥ_ii], to first order √((A + 2B)/n)/Θ if weights are normal; uniform ones vary less.
    """

    mean: tuple[float, float]
    A: tuple[float, float]
    B: tuple[float, float]
    spread: tuple[float, float]


def observed_kernel(kernels: Tensor, fan_in: int) -> TangentKernel:
    """What Ĥ (N, outputs, outputs) of N ≥ 2 independent networks shows; `fan_in` is n_{L−1}."""
    kernels = kernels.double().cpu()
    own, outputs = kernels.diagonal(dim1=1, dim2=2), kernels.shape[1]
    squares = own.square().sum(1)
    pairs = outputs * (outputs - 1) if outputs > 1 else math.nan
    samples = {
        "H": own.mean(1),
        "own": squares / outputs,
        "HH": (own.sum(1) ** 2 - squares) / pairs,
        "cross": (kernels.square().sum((1, 2)) - squares) / pairs,
    }

    def estimate(functional: Callable[[Means], Tensor]) -> tuple[float, float]:
        found = jackknife(samples, functional)
        return float(found.value), float(found.error)

    return TangentKernel(
        mean=estimate(lambda means: means["H"]),
        A=estimate(lambda means: fan_in * (means["HH"] - means["H"] ** 2)),
        B=estimate(lambda means: fan_in * means["cross"]),
        spread=estimate(lambda means: (means["own"] - means["H"] ** 2).clamp(min=0).sqrt() / means["H"]),
    )


def tangent_kernels_of(
    factory: Factory,
    x: Tensor,
    networks: int,
    rates: Callable[[str], tuple[float, float]] = lambda name: (1.0, 1.0),
    *,
    seed: int = 0,
    progress: ProgressReporter | None = None,
) -> Tensor:
    """Ĥ of the outputs of N networks on one input by automatic differentiation: Σ_μ λ_μ ∂z_i/∂θ_μ ∂z_j/∂θ_μ (Eq. 8.6).

    Args:
        factory: makes one network whose parameters belong to linear and convolutional layers.
        x: one input with its batch dimension, (1, …).
        networks: N.
        rates: (λ_b, λ_W) of the layer with a name; weights count with λ_W over the fan-in.
        seed: of all networks.
        progress: told of finished networks.

    Returns:
        (N, outputs, outputs) in the dtype of the parameters.

    Raises:
        ConfigurationError: no network, more than 64 outputs, or a network that torch cannot vectorise.
    """
    progress = progress or SilentProgress()
    (first,) = networks_made(factory, seed, 0, 1, x.device)
    x = checked_input(first, x)
    with torch.no_grad():
        answer: Any = first(x)
    outputs_of = answer.numel() if isinstance(answer, Tensor) else 0
    if not 0 < outputs_of <= MOST_OUTPUTS:
        raise ConfigurationError(
            f"the network has {outputs_of or 'no'} outputs in one tensor",
            f"tangent kernels are measured of 1 to {MOST_OUTPUTS} outputs",
        )
    found = []
    size = max(1, min(16, _JACOBIAN // (outputs_of * sum(one.numel() for one in first.parameters()))))
    for start in range(0, networks, size):
        made = networks_made(factory, seed, start, min(size, networks - start), x.device)
        parameters, buffers = stacked_state(made)
        base = made[0]

        def outputs(own: dict[str, Tensor], fixed: dict[str, Tensor], base: nn.Module = base) -> Tensor:
            answer: Tensor = functional_call(base, (own, fixed), (x,))
            return answer.flatten()

        try:
            jacobians = vmap(jacrev(outputs))(parameters, buffers)
        except RuntimeError as error:
            raise ConfigurationError(
                f"torch cannot vectorise the derivatives of the network ({first_line(error)})",
                "leave its tangent kernel out",
            ) from error
        total: Tensor | None = None
        for name, jacobian in jacobians.items():
            layer, _, kind = name.rpartition(".")
            bias_rate, weight_rate = rates(layer)
            rate = bias_rate if kind == "bias" else weight_rate / parameters[name][0, 0].numel()
            flat = jacobian.flatten(2)
            term = rate * flat @ flat.mT
            total = term if total is None else total + term
        assert total is not None
        found.append(total.detach())
        progress.update("tangent kernels", min(start + size, networks), networks)
    return torch.cat(found)
