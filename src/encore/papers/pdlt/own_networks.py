"""Ensembles of networks that are not from here: any module of linear and convolutional layers, made anew many times.

All networks go through one vectorised forward pass (`torch.func.vmap`); hooks show every layer's preactivations.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, stack_module_state, vmap

from encore.base.errors import ConfigurationError
from encore.base.progress import ProgressReporter, SilentProgress
from encore.base.seeds import derive_seed
from encore.papers.pdlt.statistics import Estimate, Means, jackknife

Factory = Callable[[], nn.Module]
"""Makes the network with fresh random weights, from torch's global generator."""

CHUNK = 64
"""Networks in one vectorised pass."""

MOST_POSITIONS = 256
"""Positions of a map that are looked at, evenly chosen."""

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class ObservedLayer:
    """One linear or convolutional layer over the ensemble.

    Attributes:
        name: its path in the module.
        fan_in, width: inputs of one neuron, and neurons (channels of a convolution).
        weight_variance: C_W, fan-in times the variance of the weights that the networks began with.
        bias_variance: C_b, the mean square of the biases.
        metric: E[z²], over neurons and positions.
        normalised_vertex: E[z_i²z_j²]/E[z²]² − 1 of different neurons at one position; NaN for a single neuron.
        kurtosis: E[z⁴]/E[z²]² − 3.
    """

    name: str
    fan_in: int
    width: int
    weight_variance: float
    bias_variance: float
    metric: tuple[float, float]
    normalised_vertex: tuple[float, float]
    kurtosis: tuple[float, float]


@dataclass(frozen=True)
class _Observed:
    names: list[str]
    outputs: list[Tensor]
    weights: list[Tensor]
    biases: list[Tensor | None]


def _made(factory: Factory, seed: int, start: int, count: int) -> list[nn.Module]:
    """Networks `start` … `start + count`, each from a seed of its own; torch's generator stays as it was."""
    made = []
    with torch.random.fork_rng(devices=[]):
        for number in range(start, start + count):
            torch.manual_seed(derive_seed(seed, "network", number))
            network = factory()
            if not isinstance(network, nn.Module):
                raise ConfigurationError(
                    f"the factory returned a {type(network).__name__}", "give a callable that returns an nn.Module"
                )
            made.append(network.eval())
    return made


def _check(network: nn.Module, x: Tensor) -> None:
    """Refuse a network that cannot be stacked with others or does not take x."""
    if any(isinstance(one, nn.parameter.UninitializedParameter) for one in network.parameters()):
        raise ConfigurationError(
            "the network has lazy layers without shapes", "call it once on an input inside the factory"
        )
    if not any(isinstance(module, _LAYERS) for module in network.modules()):
        raise ConfigurationError("the network has no linear or convolutional layer", "give one that has")
    try:
        with torch.no_grad():
            network(x)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the network does not take an input of shape {tuple(x.shape)} ({str(error).splitlines()[0]})",
            "give the shape of one sample",
        ) from error


@contextlib.contextmanager
def _watched(network: nn.Module, seen: list[tuple[str, Tensor]]) -> Iterator[None]:
    """Inside the block every call of a known layer leaves its name and output in `seen`."""
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: seen.append((name, output)))
        for name, module in network.named_modules()
        if isinstance(module, _LAYERS)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _observe(networks: list[nn.Module], x: Tensor) -> _Observed:
    """One vectorised pass of all networks on x."""
    state: Any = stack_module_state(networks)
    base = networks[0]
    names: list[str] = []

    def outputs(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> tuple[Tensor, ...]:
        seen: list[tuple[str, Tensor]] = []
        with _watched(base, seen):
            functional_call(base, (parameters, buffers), (x,))
        names[:] = [name for name, _ in seen]
        return tuple(output for _, output in seen)

    with torch.no_grad():
        found = vmap(outputs)(*state)
    parameters = state[0]
    return _Observed(
        names,
        list(found),
        [parameters[f"{name}.weight" if name else "weight"] for name in names],
        [parameters.get(f"{name}.bias" if name else "bias") for name in names],
    )


def _neurons_last(output: Tensor, module: nn.Module) -> Tensor:
    """(networks, positions, neurons) of a layer's output (networks, batch, …)."""
    if not isinstance(module, nn.Linear):
        output = output.movedim(2, -1)
    return output.flatten(1, -2).double()


def measure_networks(
    factory: Factory,
    x: Tensor,
    networks: int,
    *,
    seed: int = 0,
    progress: ProgressReporter | None = None,
) -> list[ObservedLayer]:
    """Metric, four-point function and kurtosis in every linear and convolutional layer of an ensemble.

    Args:
        factory: makes one network; called `networks` times.
        x: one input with its batch dimension, (1, …).
        networks: N ≥ 2.
        seed: of all networks.
        progress: told of finished networks.

    Returns:
        The layers in the order of the forward pass; each value is (estimate, standard error).

    Raises:
        ConfigurationError: no such layers, a layer without independent weights per neuron, or no network.
    """
    progress = progress or SilentProgress()
    if networks < 2:
        raise ConfigurationError(f"{networks} networks are no ensemble", "give networks of at least 2, better 1000")
    (first,) = _made(factory, seed, 0, 1)
    _check(first, x)
    modules = dict(first.named_modules())
    rows: dict[str, list[dict[str, Tensor]]] = {}
    order: list[str] = []
    for start in range(0, networks, CHUNK):
        observed = _observe(_made(factory, seed, start, min(CHUNK, networks - start)), x)
        order = order or observed.names
        for name, output, weights, biases in zip(
            observed.names, observed.outputs, observed.weights, observed.biases, strict=True
        ):
            z = _neurons_last(output, modules[name])
            rows.setdefault(name, []).append(_shown(z, weights, biases))
        progress.update("networks", min(start + CHUNK, networks), networks)
    if not order:
        raise ConfigurationError(
            "the network's forward pass calls none of its linear or convolutional layers", "give one that does"
        )
    if len(set(order)) < len(order):
        raise ConfigurationError(
            "a layer is called twice, so its weights are shared", "give a network without shared layers"
        )
    return [_layer(name, modules[name], rows[name]) for name in order]


def _shown(z: Tensor, weights: Tensor, biases: Tensor | None) -> dict[str, Tensor]:
    """Per network and position: means over neurons of z (networks, positions, neurons); and of the weights."""
    z = z[:, :: -(-z.shape[1] // MOST_POSITIONS)]
    squares, width = z**2, z.shape[2]
    mean, fourth = squares.mean(2), (squares**2).mean(2)
    bias: Tensor = torch.zeros(len(z)) if biases is None else biases.detach()
    return {
        "zz": mean,
        "zzzz": fourth,
        "pairs": (width * mean**2 - fourth) / max(width - 1, 1),
        "weights": weights.detach().double().flatten(1).square().mean(1),
        "biases": bias.double().square().reshape(len(z), -1).mean(1),
    }


def _layer(name: str, module: nn.Module, rows: list[dict[str, Tensor]]) -> ObservedLayer:
    samples = {key: torch.cat([row[key] for row in rows]) for key in rows[0]}
    weight: Any = module.weight
    fan_in, width = weight[0].numel(), len(weight)
    signals = {key: samples[key] for key in ("zz", "zzzz", "pairs")}

    def estimate(functional: Callable[[Means], Tensor]) -> tuple[float, float]:
        found: Estimate = jackknife(signals, functional)
        return float(found.value), float(found.error)

    def relative(means: Means, name: str) -> Tensor:
        return means[name].mean(-1) / (means["zz"] ** 2).mean(-1)

    alone = (math.nan, math.nan)
    return ObservedLayer(
        name=name,
        fan_in=fan_in,
        width=width,
        weight_variance=fan_in * float(samples["weights"].mean()),
        bias_variance=float(samples["biases"].mean()),
        metric=estimate(lambda means: means["zz"].mean(-1)),
        normalised_vertex=estimate(lambda means: relative(means, "pairs") - 1) if width > 1 else alone,
        kurtosis=estimate(lambda means: relative(means, "zzzz") - 3),
    )


def tangent_kernels_of(
    factory: Factory,
    x: Tensor,
    networks: int,
    rates: Callable[[str], tuple[float, float]] = lambda name: (1.0, 1.0),
    *,
    seed: int = 0,
) -> Tensor:
    """Ĥ of the outputs of N networks on one input by automatic differentiation: Σ_μ λ_μ ∂z_i/∂θ_μ ∂z_j/∂θ_μ (Eq. 8.6).

    Args:
        factory: makes one network whose parameters belong to linear and convolutional layers.
        x: one input with its batch dimension, (1, …).
        networks: N.
        rates: (λ_b, λ_W) of the layer with a name; weights count with λ_W over the fan-in.
        seed: of all networks.

    Returns:
        (N, outputs, outputs) in the dtype of the parameters.
    """
    found = []
    size = 16
    for start in range(0, networks, size):
        made = _made(factory, seed, start, min(size, networks - start))
        parameters, buffers = stack_module_state(made)
        base = made[0]

        def outputs(own: dict[str, Tensor], fixed: dict[str, Tensor], base: nn.Module = base) -> Tensor:
            answer: Tensor = functional_call(base, (own, fixed), (x,))
            return answer.flatten()

        jacobians = vmap(jacrev(outputs))(parameters, buffers)
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
    return torch.cat(found)
