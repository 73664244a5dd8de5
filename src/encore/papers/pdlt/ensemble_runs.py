"""The ensembles that the claims are judged on, each kept as a finished step of the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from encore.base.errors import ConfigurationError
from encore.nn.activations import Activation, activation_named
from encore.nn.criticality import critical_point, residual_weight_variance
from encore.papers.pdlt.ensembles import Architecture, Measurements, measure, measure_kernel
from encore.papers.pdlt.information import growth_of
from encore.papers.pdlt.learning_rates import equivalent_rates
from encore.papers.pdlt.recursions import Layer, Rates, recursions, uniform_rates
from encore.papers.pdlt.scales import EnsembleSettings
from encore.papers.pdlt.statistics import Estimate
from encore.results.performance import Performance

INPUTS = 16
"""n_0 of the input, which is the same number in every place: the first layer's preactivations are Gaussian anyway."""

SCALE_INVARIANT = ("linear", "relu")
SLOWLY_FALLING = ("tanh", "sin")


@dataclass(frozen=True)
class Setting:
    """An activation with variances and an input.

    Attributes:
        activation: σ.
        bias_variance, weight_variance: C_b and C_W.
        first_kernel: K of the first layer.
        growth: ν.
    """

    activation: Activation
    bias_variance: float
    weight_variance: float
    first_kernel: float
    growth: float

    @property
    def input(self) -> Tensor:
        """(n_0,) with C_b + C_W x·x/n_0 the first kernel."""
        return torch.full((INPUTS,), math.sqrt((self.first_kernel - self.bias_variance) / self.weight_variance))

    def architecture(self, width: int, depth: int, skip: float = 0.0) -> Architecture:
        """Equal widths."""
        return Architecture(self.activation.function, (width,) * depth, self.bias_variance, self.weight_variance, skip)

    def theory(self, depth: int, rates: Rates = uniform_rates) -> list[Layer]:
        """The recursions of this setting."""
        return recursions(
            self.activation,
            depth,
            bias_variance=self.bias_variance,
            weight_variance=self.weight_variance,
            first_kernel=self.first_kernel,
            rates=rates,
        )


@lru_cache(maxsize=32)
def critical_setting(name: str) -> Setting:
    """An activation at its critical point, on an input at K*, or at 1 where K* is 0."""
    activation = activation_named(name)
    point = critical_point(activation)
    kernel = point.kernel or 1.0
    return Setting(activation, point.bias_variance, point.weight_variance, kernel, growth_of(activation))


def tangent_rates(name: str, depth: int) -> Rates:
    """λ_b = 1/ℓ, λ_W = 1 for tanh (Eq. 9.96); 1 everywhere for scale-invariant activations."""
    activation = activation_named(name)
    return uniform_rates if activation.scale_invariant else equivalent_rates(activation, depth)


def device_named(name: str) -> str:
    """`cpu` or `cuda`, of `auto`, `cpu` and `cuda`.

    Raises:
        ConfigurationError: a GPU is asked for where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("--device cuda, but there is no GPU that torch can use", "leave it out, or use cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


Estimates = dict[str, Estimate]


class EnsembleRuns:
    """Measures ensembles once per run folder.

    Args:
        performance: the run; its first seed is that of the weights.
        settings: how much of it.
    """

    def __init__(self, performance: Performance, settings: EnsembleSettings) -> None:
        self._performance, self._settings = performance, settings
        self.device = device_named(performance.runtime.device)

    def networks(self, width: int, depth: int) -> int:
        """How many networks of this shape."""
        return max(self._settings.networks, round(self._settings.weights / (depth * width**2)))

    def kernel_networks(self, width: int, depth: int) -> int:
        """How many networks whose tangent kernels are iterated."""
        return max(self._settings.kernel_networks, round(self._settings.kernel_entries / (depth * width**3)))

    def signals(self, name: str, width: int, depth: int) -> Estimates:
        """`metric`, `vertex`, `metric_variance`, `normalised_vertex` at criticality."""
        setting = critical_setting(name)

        def measured() -> Measurements:
            return measure(
                setting.architecture(width, depth),
                setting.input.to(self.device),
                self.networks(width, depth),
                seed=self._performance.seeds[0],
                progress=self._performance.progress,
                stage=f"{name} of width {width}",
            )

        return self._kept(f"ensembles/{name}-{width}", measured, _signal_estimates)

    def residual(self, name: str, width: int, depth: int, skip: float) -> Estimates:
        """The same estimates with skip connections, at their critical weight variance."""
        activation = activation_named(name)
        setting = Setting(activation, 0.0, residual_weight_variance(activation, skip), 1.0, 0.0)

        def measured() -> Measurements:
            return measure(
                setting.architecture(width, depth, skip),
                setting.input.to(self.device),
                4 * self.networks(width, depth),
                seed=self._performance.seeds[0],
                progress=self._performance.progress,
                stage=f"residual {name} of width {width}",
            )

        return self._kept(f"ensembles/residual-{name}-{width}", measured, _signal_estimates)

    def law(self, name: str, factor: float, depth: int) -> Estimates:
        """`metric` with the critical weight variance times `factor`."""
        setting, settings = critical_setting(name), self._settings
        changed = Setting(setting.activation, 0.0, factor * setting.weight_variance, 1.0, setting.growth)

        def measured() -> Measurements:
            return measure(
                changed.architecture(settings.law_width, depth),
                changed.input.to(self.device),
                settings.law_networks,
                seed=self._performance.seeds[0],
                progress=self._performance.progress,
                stage=f"{name} at {factor:g} of critical",
            )

        return self._kept(f"ensembles/law-{name}-{factor:g}", measured, lambda found: {"metric": found.metric()})

    def kernels(self, name: str, width: int) -> Estimates:
        """`mean`, `A`, `B`, `D`, `F` of the tangent kernel."""
        setting, depth = critical_setting(name), self._settings.kernel_depth
        activation = setting.activation

        def measured() -> Measurements:
            return measure_kernel(
                setting.architecture(width, depth),
                setting.input.to(self.device),
                self.kernel_networks(width, depth),
                derivative_of(activation),
                tangent_rates(name, depth),
                seed=self._performance.seeds[0],
                progress=self._performance.progress,
                stage=f"tangent kernels of {name}, width {width}",
            )

        return self._kept(
            f"ensembles/kernels-{name}-{width}",
            measured,
            lambda found: {"mean": found.kernel_mean(), **found.kernel_fluctuations()},
        )

    def _kept(
        self, step: str, measured: Callable[[], Measurements], estimates: Callable[[Measurements], Estimates]
    ) -> Estimates:
        folder = self._performance.folder
        assert folder is not None, "ensembles belong to a run"
        kept: dict[str, dict[str, Any]] | None = folder.finished(step)
        if kept is None:
            folder.subfolder("ensembles")
            found = estimates(measured())
            kept = {name: _as_json(one) for name, one in found.items()}
            folder.finish(step, kept)
        return {name: Estimate(*(_as_tensor(one[key]) for key in _FIELDS)) for name, one in kept.items()}


_FIELDS = ("value", "error", "replicates")


def _as_json(estimate: Estimate) -> dict[str, Any]:
    return {key: None if getattr(estimate, key) is None else getattr(estimate, key).tolist() for key in _FIELDS}


def _as_tensor(values: Any) -> Any:
    return None if values is None else torch.tensor(values, dtype=torch.float64)


def _signal_estimates(found: Measurements) -> Estimates:
    return {
        "metric": found.metric(),
        "vertex": found.vertex(),
        "metric_variance": found.metric_variance(),
        "normalised_vertex": found.normalised_vertex(),
    }


def derivative_of(activation: Activation) -> Callable[[Tensor], Tensor]:
    """σ' as a function on tensors of any dtype, for forward passes."""

    def derivative(z: Tensor) -> Tensor:
        with torch.enable_grad():
            value = z.detach().requires_grad_()
            (slope,) = torch.autograd.grad(activation.function(value).sum(), value)
        return slope

    return derivative
