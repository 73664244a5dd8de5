"""Ensembles of real multilayer perceptrons at initialisation: a thousand networks are one batched product.

    x ─ W⁽¹⁾ ─→ z⁽¹⁾ ─ σ, W⁽²⁾ ─→ z⁽²⁾ ─ … ─→ z⁽ᴸ⁾        z: (networks, neurons, samples)

What is measured in every layer is what the book's recursions predict: the metric E[z²], the connected four-point
function of different neurons, the mean of the neural tangent kernel Ĥ and its fluctuations A, B, D, F. The kernel Ĥ is
iterated with all its entries between neurons (Eq. 8.12).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from encore.base.errors import ConfigurationError
from encore.base.progress import ProgressReporter, SilentProgress
from encore.base.seeds import derive_seed
from encore.papers.pdlt.recursions import Rates, uniform_rates
from encore.papers.pdlt.statistics import Estimate, Means, jackknife

_CHUNK = 2**24
"""Weights of one layer that lie in memory at once."""


@dataclass(frozen=True)
class Architecture:
    """A multilayer perceptron and how it begins: z' = b + W σ(z) + γz, biases N(0, C_b), weights N(0, C_W/fan-in).

    Attributes:
        function: σ, elementwise on tensors.
        widths: n_1 … n_L; the last is the output layer's, a preactivation.
        bias_variance: C_b ≥ 0.
        weight_variance: C_W > 0.
        skip: γ, the strength of skip connections from each preactivation to the next; 0 for none.

    Raises:
        ConfigurationError: no layers, a width or variance out of range, or skips between layers of different widths.
    """

    function: Callable[[Tensor], Tensor]
    widths: tuple[int, ...]
    bias_variance: float = 0.0
    weight_variance: float = 1.0
    skip: float = 0.0

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ConfigurationError(f"widths {list(self.widths)} make no network", "give a positive width per layer")
        if self.bias_variance < 0 or self.weight_variance <= 0:
            raise ConfigurationError(
                f"C_b = {self.bias_variance}, C_W = {self.weight_variance} are no variances",
                "give C_b ≥ 0 and C_W > 0",
            )
        if self.skip and len(set(self.widths)) > 1:
            raise ConfigurationError(
                f"skip connections need equal widths, not {sorted(set(self.widths))}", "give every layer the same width"
            )

    @classmethod
    def rectangle(
        cls, function: Callable[[Tensor], Tensor], width: int, depth: int, *, weight_variance: float = 1.0,
        bias_variance: float = 0.0, skip: float = 0.0,
    ) -> Architecture:  # fmt: skip
        """`depth` layers of equal width."""
        return cls(function, (width,) * depth, bias_variance, weight_variance, skip)


@dataclass(frozen=True)
class Measurements:
    """What every network shows in every layer; estimates are made of these.

    Attributes:
        widths: n_1 … n_L.
        samples: (N, L) float64 by name: `zz` the mean of z², `zzzz` of z⁴, `pairs` of z_i²z_j² over i ≠ j, `metric`
            Ĝ = C_b + C_W·mean σ² of the layer before; with the kernel also `H`, `HH` (Ĥ_iiĤ_jj), `cross` (Ĥ_ij²), `zzH`
            (z_i²Ĥ_jj), `zHz` (z_i z_j Ĥ_ij), all over i ≠ j; those are NaN in a layer of one neuron.
    """

    widths: tuple[int, ...]
    samples: dict[str, Tensor]

    def _fan_in(self) -> Tensor:
        """n_{ℓ−1}, (L,); the first layer's plays no part, since nothing fluctuates there."""
        return torch.tensor([self.widths[0], *self.widths[:-1]], dtype=torch.float64)

    def _estimate(self, functional: Callable[[Means], Tensor], *names: str) -> Estimate:
        return jackknife({name: self.samples[name] for name in names}, functional)

    def metric(self) -> Estimate:
        """E[z²], which is K + G{1}/n + …"""
        return self._estimate(lambda means: means["zz"], "zz")

    def vertex(self) -> Estimate:
        """V: n_{ℓ−1}·(E[z_i²z_j²] − E[z²]²) of different neurons (Eq. 4.77)."""
        fan_in = self._fan_in()
        return self._estimate(lambda means: fan_in * (means["pairs"] - means["zz"] ** 2), "pairs", "zz")

    def metric_variance(self) -> Estimate:
        """V again, with less noise: n_{ℓ−1}·Var(Ĝ), equal for Gaussian weights. Without skip connections."""
        fan_in = self._fan_in()
        squared = {"metric": self.samples["metric"], "square": self.samples["metric"] ** 2}
        return jackknife(squared, lambda means: fan_in * (means["square"] - means["metric"] ** 2))

    def normalised_vertex(self) -> Estimate:
        """V/(n K²), dimensionless: the connected four-point function over the squared metric."""
        return self._estimate(lambda means: means["pairs"] / means["zz"] ** 2 - 1, "pairs", "zz")

    def kurtosis(self) -> Estimate:
        """E[z⁴]/E[z²]² − 3 of one neuron: 3·V/(n K²) to first order."""
        return self._estimate(lambda means: means["zzzz"] / means["zz"] ** 2 - 3, "zzzz", "zz")

    def kernel_mean(self) -> Estimate:
        """E[Ĥ_ii]: Θ to first order (Eq. 9.5)."""
        return self._estimate(lambda means: means["H"], "H")

    def kernel_fluctuations(self) -> dict[str, Estimate]:
        """A, B, D and F by name (Eqs. 8.67, 8.82), the factor 1/n_{ℓ−1} pulled out."""
        fan_in = self._fan_in()
        return {
            "A": self._estimate(lambda means: fan_in * (means["HH"] - means["H"] ** 2), "HH", "H"),
            "B": self._estimate(lambda means: fan_in * means["cross"], "cross"),
            "D": self._estimate(lambda means: fan_in * (means["zzH"] - means["zz"] * means["H"]), "zzH", "zz", "H"),
            "F": self._estimate(lambda means: fan_in * means["zHz"], "zHz"),
        }


@dataclass
class _Collected:
    """Per-chunk rows of each layer, joined at the end."""

    rows: dict[str, list[list[Tensor]]] = field(default_factory=dict)

    def add(self, name: str, layer: int, values: Tensor) -> None:
        layers = self.rows.setdefault(name, [])
        if len(layers) <= layer:
            layers.append([])
        layers[layer].append(values.double().cpu())

    def joined(self) -> dict[str, Tensor]:
        return {name: torch.stack([torch.cat(one) for one in layers], 1) for name, layers in self.rows.items()}


def preactivations(
    architecture: Architecture, x: Tensor, networks: int, seed: int = 0
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Forward passes of `networks` networks with weights of their own, layer by layer, as many at once as fit.

    Args:
        architecture: widths, variances, activation.
        x: (n_0, M) or (n_0,) float32 or float64, one column per sample; its device and dtype are computed in.
        networks: N.
        seed: of all weights; ensembles of other widths have other weights throughout.

    Yields:
        (ℓ, z, W): ℓ = 1 … L, z (chunk, n_ℓ, M) and the weights (chunk, n_ℓ, n_{ℓ−1}) that led to it.
    """
    x = x[:, None] if x.dim() == 1 else x
    fan_ins = (len(x), *architecture.widths[:-1])
    largest = max(one * other for one, other in zip(fan_ins, architecture.widths, strict=True))
    chunk = max(1, min(networks, _CHUNK // largest))
    generator = torch.Generator(x.device)
    for start in range(0, networks, chunk):
        generator.manual_seed(derive_seed(seed, "networks", *architecture.widths, start))
        count = min(chunk, networks - start)
        z = x.expand(count, *x.shape)
        for layer, (fan_in, width) in enumerate(zip(fan_ins, architecture.widths, strict=True), 1):
            weights = torch.randn(count, width, fan_in, generator=generator, device=x.device, dtype=x.dtype)
            weights *= (architecture.weight_variance / fan_in) ** 0.5
            signals = z if layer == 1 else architecture.function(z)
            new = torch.bmm(weights, signals)
            if architecture.bias_variance:
                biases = torch.randn(count, width, 1, generator=generator, device=x.device, dtype=x.dtype)
                new += architecture.bias_variance**0.5 * biases
            z = new + architecture.skip * z if architecture.skip and layer > 1 else new
            yield layer, z, weights


def _measure_signals(collected: _Collected, layer: int, z: Tensor, metric: Tensor) -> None:
    """What a layer's preactivations z (c, n, 1) and the metric (c,) that they were drawn with show."""
    squares = z[:, :, 0].double() ** 2
    width = squares.shape[1]
    mean, fourth = squares.mean(1), (squares**2).mean(1)
    collected.add("zz", layer, mean)
    collected.add("zzzz", layer, fourth)
    collected.add("pairs", layer, (width * mean**2 - fourth) / _others(width))
    collected.add("metric", layer, metric)


def _others(width: int) -> float:
    """Neurons beside one; NaN where there are none, and with it all that is averaged over pairs."""
    return width - 1 if width > 1 else math.nan


def _metric(architecture: Architecture, signals: Tensor) -> Tensor:
    """Ĝ (c,) = C_b + C_W·mean of the squared signals (c, n, 1)."""
    squares: Tensor = (signals[:, :, 0].double() ** 2).mean(1)
    return architecture.bias_variance + architecture.weight_variance * squares


def measure(
    architecture: Architecture,
    x: Tensor,
    networks: int,
    *,
    seed: int = 0,
    progress: ProgressReporter | None = None,
    stage: str = "ensemble",
) -> Measurements:
    """Metric and four-point function of real networks on one input, layer by layer.

    Args:
        architecture: at least two neurons in every layer.
        x: (n_0,) the input.
        networks: N ≥ 2.
        seed: of all weights.
        progress, stage: told of finished networks.
    """
    passes = ((layer, z, None) for layer, z, _ in preactivations(architecture, x, networks, seed))
    return _measured(architecture, x, passes, networks, progress or SilentProgress(), stage)


def _measured(
    architecture: Architecture,
    x: Tensor,
    passes: Iterable[tuple[int, Tensor, Tensor | None]],
    networks: int,
    progress: ProgressReporter,
    stage: str,
) -> Measurements:
    """What passes of (layer, z, Ĥ or None) show, layer by layer and chunk by chunk."""
    collected, done, before = _Collected(), 0, x[None, :, None]
    for layer, z, kernel in passes:
        if layer == 1:
            before = x[None, :, None].expand(len(z), -1, -1)
        _measure_signals(collected, layer - 1, z, _metric(architecture, before))
        if kernel is not None:
            _measure_kernels(collected, layer - 1, z[:, :, 0].double(), kernel.double())
        before = architecture.function(z)
        if layer == len(architecture.widths):
            done += len(z)
            progress.update(stage, done, networks)
    return Measurements(architecture.widths, collected.joined())


def measure_without_weights(architecture: Architecture, x: Tensor, networks: int, *, seed: int = 0) -> Measurements:
    """The same for many more networks: given a layer's signals, the next preactivations are independent N(0, Ĝ) (§7.3).

    Equal in law to networks with weights, at the cost of one random number per neuron. With a skip connection γz is
    added to each.
    """
    collected = _Collected()
    generator = torch.Generator(x.device)
    chunk = max(1, min(networks, _CHUNK // max(architecture.widths)))
    for start in range(0, networks, chunk):
        generator.manual_seed(derive_seed(seed, "neurons", *architecture.widths, start))
        count = min(chunk, networks - start)
        signals, earlier = x.expand(count, -1)[:, :, None], None
        for layer, width in enumerate(architecture.widths):
            metric = _metric(architecture, signals)
            noise = torch.randn(count, width, 1, generator=generator, device=x.device, dtype=x.dtype)
            z = metric.sqrt().to(x)[:, None, None] * noise
            if architecture.skip and earlier is not None:
                z += architecture.skip * earlier
            _measure_signals(collected, layer, z, metric)
            earlier, signals = z, architecture.function(z)
    return Measurements(architecture.widths, collected.joined())


def measure_kernel(
    architecture: Architecture,
    x: Tensor,
    networks: int,
    derivative: Callable[[Tensor], Tensor],
    rates: Rates = uniform_rates,
    *,
    seed: int = 0,
    progress: ProgressReporter | None = None,
    stage: str = "tangent kernels",
) -> Measurements:
    """Statistics of the neural tangent kernel of real networks on one input, layer by layer.

    Args:
        architecture: without skip connections; costs n³ per network and layer.
        x: (n_0,) the input.
        networks: N ≥ 2.
        derivative: σ', elementwise.
        rates: λ_b and λ_W of each layer.
        seed: of all weights; the same networks as `measure` draws.
        progress, stage: told of finished networks.

    Raises:
        ConfigurationError: the architecture has skip connections.
    """
    passes = tangent_kernels(architecture, x, networks, derivative, rates, seed=seed)
    return _measured(architecture, x, passes, networks, progress or SilentProgress(), stage)


def tangent_kernels(
    architecture: Architecture,
    x: Tensor,
    networks: int,
    derivative: Callable[[Tensor], Tensor],
    rates: Rates = uniform_rates,
    *,
    seed: int = 0,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Iterate the stochastic forward equation (8.12) on one input.

    Yields:
        (ℓ, z, Ĥ): z (chunk, n_ℓ, 1) and Ĥ (chunk, n_ℓ, n_ℓ), the kernel between the layer's preactivations.
    """
    if architecture.skip:
        raise ConfigurationError("kernels are iterated without skip connections", "set skip=0")
    kernel, before = torch.empty(0), x[None, :, None]
    for layer, z, weights in preactivations(architecture, x, networks, seed):
        assert weights is not None
        bias_rate, weight_rate = rates(layer)
        if layer == 1:
            own = (bias_rate + weight_rate * (x**2).mean()).expand(len(z))
            kernel = own[:, None, None] * torch.eye(z.shape[1], dtype=x.dtype, device=x.device)
        else:
            own = bias_rate + weight_rate * (architecture.function(before)[:, :, 0] ** 2).mean(1)
            passed = weights * derivative(before)[:, :, 0][:, None, :]
            kernel = passed @ kernel @ passed.mT
            kernel.diagonal(dim1=1, dim2=2).add_(own[:, None])
        before = z
        yield layer, z, kernel


def _measure_kernels(collected: _Collected, layer: int, z: Tensor, kernel: Tensor) -> None:
    """What z (c, n) and Ĥ (c, n, n) show, averaged over ordered pairs of different neurons."""
    width = z.shape[1]
    pairs = width * _others(width)
    own = kernel.diagonal(dim1=1, dim2=2)
    squares = z**2
    collected.add("H", layer, own.mean(1))
    collected.add("HH", layer, (own.sum(1) ** 2 - (own**2).sum(1)) / pairs)
    collected.add("cross", layer, ((kernel**2).sum((1, 2)) - (own**2).sum(1)) / pairs)
    collected.add("zzH", layer, (squares.sum(1) * own.sum(1) - (squares * own).sum(1)) / pairs)
    through = torch.einsum("ci,cij,cj->c", z, kernel, z)
    collected.add("zHz", layer, (through - (squares * own).sum(1)) / pairs)
