"""How ensembles change with depth: extrapolated to 1/n → 0 layer by layer, fitted by powers and exponentials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from encore.base.errors import ConfigurationError
from encore.papers.pdlt.ensemble_runs import SCALE_INVARIANT, EnsembleRuns, critical_setting
from encore.papers.pdlt.exact import scale_invariant_vertex
from encore.papers.pdlt.exact_errors import law_errors
from encore.papers.pdlt.fits import expand, slope_of, slopes_of
from encore.papers.pdlt.scales import EnsembleSettings
from encore.papers.pdlt.statistics import Estimate, spread_of

MOST_GROWTH = 0.6
"""ν·ℓ/n up to which a width takes part in an expansion in 1/n."""

MOST_EXACT = 0.4
"""Normalised vertex up to which deviations of averages are about normal: its law has a long tail."""


def expand_layers(
    measured: Mapping[int, Estimate], growth: float, depth: int, most: float = MOST_GROWTH, order: int = 2
) -> tuple[list[int], list[Estimate]]:
    """Polynomials in 1/n, layer by layer from the second on, from the widths that are wide enough, at least three.

    Args:
        measured: an estimate per width, (L,) each.
        growth: ν.
        depth: L.
        most: the largest ν(ℓ − 1)/n of a width that takes part.
        order: of the polynomials, 1 or 2.

    Returns:
        The layers that have three such widths; c_0 and c_1.

    Raises:
        ConfigurationError: no layer has three such widths.
    """
    layers, parts = [], []
    for layer in range(2, depth + 1):
        widths = [width for width in measured if growth * (layer - 1) / width <= most]
        if len(widths) < 3:
            break
        layers.append(layer)
        parts.append(expand({width: measured[width][layer - 1 : layer] for width in widths}, order).coefficients)
    if not layers:
        raise ConfigurationError(
            f"ensembles of widths {', '.join(map(str, measured))} are too narrow for an expansion in 1/n where "
            f"fluctuations grow as {growth:.3g}·ℓ/n",
            f"give at least three widths of {math.ceil(growth / most)} and more",
        )
    return layers, [
        Estimate(torch.cat([part[power].value for part in parts]), torch.cat([part[power].error for part in parts]))
        for power in range(2)
    ]


def extrapolated(
    runs: EnsembleRuns, settings: EnsembleSettings, name: str, quantity: str
) -> tuple[list[int], list[Estimate]]:
    """Layers and the first two coefficients in 1/n of an activation's ensembles."""
    depth = settings.depth_of(name)
    measured = {width: runs.signals(name, width, depth)[quantity] for width in settings.widths}
    return expand_layers(measured, critical_setting(name).growth, depth)


def first_correction(runs: EnsembleRuns, settings: EnsembleSettings, name: str) -> tuple[list[int], Estimate]:
    """Layers, and G{1} there as n(E[z²] − K) at 1/n → 0: with K held it is sharper than beside a free c_0."""
    depth, setting = settings.depth_of(name), critical_setting(name)
    K = torch.tensor([one.K for one in setting.theory(depth)], dtype=torch.float64)
    found = {width: runs.signals(name, width, depth)["metric"] for width in settings.widths}
    measured = {width: Estimate(width * (one.value - K), width * one.error) for width, one in found.items()}
    layers, (first, _) = expand_layers(measured, setting.growth, depth, order=1)
    return layers, first


def exact_range(
    runs: EnsembleRuns, settings: EnsembleSettings, name: str, quantity: str
) -> list[tuple[int, list[int], Estimate]]:
    """Of a scale-invariant activation, per width the layers from the second on whose vertex is small enough.

    Errors are those that the law itself gives (`exact_errors`), not those of the sample.
    """
    setting, depth, found = critical_setting(name), settings.depth_of(name), []
    growth, slopes = setting.growth, setting.activation.scale_invariant
    assert slopes is not None
    for width in settings.widths:
        last = max(
            [
                layer
                for layer in range(2, depth + 1)
                if scale_invariant_vertex(growth, layer, width) / width <= MOST_EXACT
            ],
            default=2,
        )
        layers = list(range(2, last + 1))
        errors = law_errors(quantity, slopes, layers, width, runs.networks(width, depth), setting.first_kernel)
        sampled = runs.signals(name, width, depth)[quantity][1:last]
        found.append((width, layers, replace(sampled, error=errors)))
    return found


_FIELDS = {"metric": "K", "metric_variance": "V"}
"""The tensors of the recursions that are measured."""


@dataclass(frozen=True)
class Exponent:
    """A fitted power of depth: what falls as ℓ^−p has the value p.

    Attributes:
        value, error: p and its standard error over networks.
        layers: that it is fitted to, in words.
        predicted: p of the recursions over the same layers, at infinite width.
    """

    value: float
    error: float
    layers: str
    predicted: float


def measured_exponent(runs: EnsembleRuns, settings: EnsembleSettings, name: str, quantity: str) -> Exponent:
    """The exponent of the metric or of its variance, in the widest ensemble.

    Of scale-invariant activations the vertex is taken as n·log(1 + V/(nK²)), which is a power of ℓ − 1 at every width
    and V/K² to first order. Of others it is V, whose relative error of order ν·ℓ/n is small in the widest ensemble.

    Args:
        quantity: `metric` or `metric_variance`.
    """
    depth, width, setting, offset = settings.depth_of(name), settings.widths[-1], critical_setting(name), 0
    if quantity == "metric_variance" and name in SCALE_INVARIANT:
        _, layers, found = exact_range(runs, settings, name, quantity)[-1]
        scale, offset = width * setting.first_kernel**2, 1
        value, replicates = width * (found.value / scale).log1p(), width * (_replicates(found) / scale).log1p()
    else:
        layers, found = list(range(2, depth + 1)), runs.signals(name, width, depth)[quantity][1:]
        value, replicates = found.value, _replicates(found)
    start = min(settings.depth // 5, layers[-1] // 4 + 1)
    kept = [place for place, layer in enumerate(layers) if layer >= start]
    x = torch.tensor([layers[place] - offset for place in kept], dtype=torch.float64).log()
    fitted = -slopes_of(x, value[kept].clamp(min=1e-12).log())
    error = spread_of(-slopes_of(x, replicates[:, kept].clamp(min=1e-12).log()))
    theory = setting.theory(layers[-1])
    due = torch.tensor([getattr(theory[layers[place] - 1], _FIELDS[quantity]) for place in kept], dtype=torch.float64)
    predicted = -slopes_of(x, due.clamp(min=1e-300).log())
    return Exponent(float(fitted), error, f"{layers[kept[0]]}–{layers[-1]}", float(predicted))


def _replicates(found: Estimate) -> Tensor:
    assert found.replicates is not None, "an ensemble's own estimate has them"
    return found.replicates


def law_of(metric: Tensor) -> tuple[str, str]:
    """Whether a kernel over layers 1 … L follows a `power` of depth or an `exponential`, and the fit in words.

    From a third of the depth on: what stays within a factor √e is a power (of exponent about 0); otherwise the
    better straight line decides, against ℓ or against log ℓ.
    """
    layers = torch.arange(1, len(metric) + 1, dtype=torch.float64)[len(metric) // 3 :]
    values = metric[len(metric) // 3 :].clamp(min=1e-300).log()
    per_layer, left_per_layer = slope_of(layers, values)
    power, left_power = slope_of(layers.log(), values)
    if float((values[-1] - values[0]).abs()) < 0.5 or left_power < left_per_layer:
        return "power", f"ℓ^{power:.2f}"
    return "exponential", f"e^({per_layer:.3f}ℓ)"
