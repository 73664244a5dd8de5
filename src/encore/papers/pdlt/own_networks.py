"""Ensembles of networks that are not from here: any module of linear and convolutional layers, made anew many times.

All networks go through one vectorised forward pass (`torch.func.vmap`), or one by one where torch cannot vectorise them;
hooks show every layer's preactivations. Networks are in evaluation mode: dropout rests, and a fresh batch normalisation
passes signals on as they are.
"""  # noqa: E501

from __future__ import annotations

import contextlib
import math
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

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


def network_from(factory: Factory) -> nn.Module:
    """One network.

    Raises:
        ConfigurationError: the factory fails or returns something else.
    """
    try:
        network: Any = factory()
    except Exception as error:  # whatever the user's own code raises
        raise ConfigurationError(
            f"the network cannot be made ({first_line(error)})",
            "name a function that takes no arguments and returns the network",
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigurationError(f"the factory returned a {type(network).__name__}", "return an nn.Module")
    return network


def first_line(error: Exception) -> str:
    """What an error says, in one line that is not too long."""
    text = str(error).strip()
    return textwrap.shorten(text.splitlines()[0], 160, placeholder=" …") if text else type(error).__name__


def networks_made(factory: Factory, seed: int, start: int, count: int, device: torch.device) -> list[nn.Module]:
    """Networks `start` … `start + count`, each from a seed of its own; torch's generator stays as it was."""
    made = []
    with torch.random.fork_rng(devices=[]):
        for number in range(start, start + count):
            torch.manual_seed(derive_seed(seed, "network", number))
            made.append(network_from(factory).to(device).eval())
    return made


def checked_input(network: nn.Module, x: Tensor) -> Tensor:
    """x in the network's own dtype, of a network that can be stacked with others, takes x and has layers to look at.

    Raises:
        ConfigurationError: it is none.
    """
    if any(isinstance(one, nn.parameter.UninitializedParameter) for one in network.parameters()):
        raise ConfigurationError(
            "the network has lazy layers without shapes", "call it once on an input inside the factory"
        )
    if not any(isinstance(module, _LAYERS) for module in network.modules()):
        raise ConfigurationError("the network has no linear or convolutional layer", "give one that has")
    x = x.to(next(network.parameters()).dtype)
    seen: list[tuple[str, Tensor]] = []
    try:
        with torch.no_grad(), _watched(network, seen):
            network(x)
    except Exception as error:  # whatever the user's own code raises
        raise ConfigurationError(
            f"the network does not take an input of shape {tuple(x.shape)} ({first_line(error)})",
            "give input_shape, that of one sample",
        ) from error
    called = [name for name, _ in seen]
    if not called:
        raise ConfigurationError(
            "the network's forward pass calls none of its linear or convolutional layers", "give one that does"
        )
    if len(set(called)) < len(called):
        raise ConfigurationError(
            "a layer is called twice, so its weights are shared", "give a network without shared layers"
        )
    own = {name for name, _ in network.named_parameters()}
    strange = [name for name in called if _within(name, "weight") not in own]
    if strange:
        raise ConfigurationError(
            f"the weights of {strange[0]} are those of another layer or computed from other parameters",
            "give a network whose layers have weights of their own, without weight_norm and the like",
        )
    return x


def _within(layer: str, parameter: str) -> str:
    """The name of a layer's parameter in the network."""
    return f"{layer}.{parameter}" if layer else parameter


def stacked_state(networks: list[nn.Module]) -> Any:
    """Parameters and buffers of all networks, by name, the networks first."""
    try:
        return stack_module_state(networks)
    except (RuntimeError, KeyError) as error:
        raise ConfigurationError(
            f"the networks differ in more than their weights ({first_line(error)})",
            "make the same layers in each call",
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
    """One vectorised pass of all networks on x; one by one where that fails, as for branches that depend on data."""
    state = stacked_state(networks)
    base = networks[0]
    names: list[str] = []

    def outputs(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> tuple[Tensor, ...]:
        seen: list[tuple[str, Tensor]] = []
        with _watched(base, seen):
            functional_call(base, (parameters, buffers), (x,))
        names[:] = [name for name, _ in seen]
        return tuple(output for _, output in seen)

    with torch.no_grad():
        try:
            found = list(vmap(outputs)(*state))
        except RuntimeError:
            names, found = _one_by_one(networks, x)
    parameters = state[0]
    return _Observed(
        names,
        found,
        [parameters[_within(name, "weight")] for name in names],
        [parameters.get(_within(name, "bias")) for name in names],
    )


def _one_by_one(networks: list[nn.Module], x: Tensor) -> tuple[list[str], list[Tensor]]:
    """Names of the layers in the order of calls, and their outputs, the networks first."""
    names: list[str] = []
    rows: list[list[Tensor]] = []
    for network in networks:
        seen: list[tuple[str, Tensor]] = []
        with _watched(network, seen):
            network(x)
        names = names or [name for name, _ in seen]
        if names != [name for name, _ in seen]:
            raise ConfigurationError(
                "the networks of the ensemble do not call the same layers", "give a network that calls all of them"
            )
        rows.append([output for _, output in seen])
    return names, [torch.stack(outputs) for outputs in zip(*rows, strict=True)]


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
        x: one input with its batch dimension, (1, …); its device is computed on, in the dtype of the networks.
        networks: N ≥ 2.
        seed: of all networks.
        progress: told of finished networks.

    Returns:
        The layers in the order of the forward pass; each value is (estimate, standard error).

    Raises:
        ConfigurationError: no network, no such layers, a layer that is called twice, networks that differ in more than
            their weights, or not at all.
    """
    progress = progress or SilentProgress()
    if networks < 2:
        raise ConfigurationError(f"{networks} networks are no ensemble", "give networks of at least 2, better 1000")
    (first,) = networks_made(factory, seed, 0, 1, x.device)
    x = checked_input(first, x)
    modules = dict(first.named_modules())
    rows: dict[str, list[dict[str, Tensor]]] = {}
    order: list[str] = []
    for start in range(0, networks, CHUNK):
        observed = _observe(networks_made(factory, seed, start, min(CHUNK, networks - start), x.device), x)
        if start == 0 and all(bool((weights == weights[:1]).all()) for weights in observed.weights):
            raise ConfigurationError(
                "all networks have the same weights, so that there is no ensemble",
                "draw new weights in each call, without a seed inside the function",
            )
        if observed.names != (order or observed.names):
            raise ConfigurationError(
                "the networks of the ensemble do not call the same layers", "give a network that calls all of them"
            )
        order = observed.names
        for name, output, weights, biases in zip(
            observed.names, observed.outputs, observed.weights, observed.biases, strict=True
        ):
            z = _neurons_last(output, modules[name])
            rows.setdefault(name, []).append(_shown(z, weights, biases))
        progress.update("networks", min(start + CHUNK, networks), networks)
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
