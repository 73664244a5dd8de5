"""The questions that set theory beside an ensemble: of a multilayer perceptron, and of the user's own network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import matplotlib
import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor, nn

from encore.base.configuration import Configuration
from encore.base.errors import ConfigurationError
from encore.base.files import replacing
from encore.nn.activations import Activation
from encore.nn.criticality import critical_point
from encore.papers.pdlt.asking import (
    ShapeQuestion,
    activation_asked,
    factory_asked,
    network_from,
    number,
    some_layers,
    table,
)
from encore.papers.pdlt.ensemble_runs import derivative_of, device_named
from encore.papers.pdlt.ensembles import Architecture, Measurements, measure, measure_kernel
from encore.papers.pdlt.learning_rates import equivalent_rates
from encore.papers.pdlt.own_networks import ObservedLayer, measure_networks
from encore.papers.pdlt.recursions import Layer, recursions, uniform_rates
from encore.papers.pdlt.statistics import Estimate
from encore.results.plots import PALETTE
from encore.results.questions import Answer, Question, QuestionContext

_WIDEST_KERNEL = 256
"""Widest network whose tangent kernels are iterated: n³ operations each."""


class _KernelQuestion(ShapeQuestion):
    """Signals and tangent kernel layer by layer."""

    outputs: int = Field(0, ge=0, description="n_L; 0 for as many as hidden neurons")
    weight_variance: float | None = Field(None, gt=0, description="C_W; the critical one by default")
    bias_variance: float | None = Field(None, ge=0, description="C_b; the critical one by default")
    first_kernel: float | None = Field(None, gt=0, description="K of the first layer; K* or 1 by default")
    rates: Literal["book", "uniform"] = Field(
        "uniform", description="λ of each layer: book for the equivalence principle's, uniform for 1"
    )
    networks: int = Field(0, ge=0, description="of an ensemble to measure beside the theory; 0 for theory alone")


def _kernel(asked: _KernelQuestion, context: QuestionContext) -> Answer:
    activation = activation_asked(asked.activation)
    weight_variance, bias_variance, first = _variances(asked, activation)
    widths = (*[asked.width] * (asked.depth - 1), asked.outputs or asked.width)
    rates = equivalent_rates(activation, asked.depth) if asked.rates == "book" else uniform_rates
    theory = recursions(
        activation,
        asked.depth,
        bias_variance=bias_variance,
        weight_variance=weight_variance,
        first_kernel=first,
        rates=rates,
        widths=widths,
        second_differentials=False,
    )
    measured: Measurements | None = None
    if asked.networks:
        architecture = Architecture(activation.function, widths, bias_variance, weight_variance)
        x = torch.full((16,), math.sqrt((first - bias_variance) / weight_variance), device=device_named(context.device))
        if asked.networks < 2:
            raise ConfigurationError("one network has no spread", "give networks=1000 or so")
        if asked.width <= _WIDEST_KERNEL:
            measured = measure_kernel(
                architecture, x, asked.networks, derivative_of(activation), rates, seed=context.seed,
                progress=context.progress,
            )  # fmt: skip
        else:
            measured = measure(architecture, x, asked.networks, seed=context.seed, progress=context.progress)
    known = _layer_values(theory, widths, measured)
    shown = [_kernel_row(known[layer - 1]) for layer in some_layers(asked.depth)]
    last = theory[-1]
    fan_in = widths[-2] if len(widths) > 1 else widths[0]
    text = (
        f"{activation.name}, C_b = {bias_variance:.6g}, C_W = {weight_variance:.6g}: after {asked.depth} layers K = "
        f"{last.K:.4g}, squared signals of different neurons correlate by V/(nK²) = "
        f"{last.normalised_vertex(fan_in):.3g}, and the frozen tangent kernel is Θ = {last.theta:.4g}."
    )
    if measured is not None:
        text += f" Beside it, {asked.networks} networks with their standard errors (±)."
        if asked.width > _WIDEST_KERNEL:
            text += f" Tangent kernels are measured up to width {_WIDEST_KERNEL}."
    pictures = []
    if context.folder is not None:
        pictures.append(_kernel_picture(theory, widths, measured, context.folder / "kernel.png"))
    values = {"activation": activation.name, "C_b": bias_variance, "C_W": weight_variance, "layers": known}
    return Answer(text, values, table(shown), pictures)


def _variances(asked: _KernelQuestion, activation: Activation) -> tuple[float, float, float]:
    """C_W, C_b and the first kernel, critical where they are not given."""
    weight_variance, bias_variance = asked.weight_variance, asked.bias_variance
    kernel = asked.first_kernel
    if weight_variance is None or bias_variance is None or kernel is None:
        given = weight_variance is not None and asked.bias_variance is not None
        point = None if given else critical_point(activation)
        if point is not None:
            weight_variance = point.weight_variance if weight_variance is None else weight_variance
            bias_variance = point.bias_variance if bias_variance is None else bias_variance
            kernel = kernel or point.kernel or None
    assert weight_variance is not None
    assert bias_variance is not None
    kernel = kernel or bias_variance + weight_variance
    if kernel <= bias_variance:
        raise ConfigurationError(
            f"first_kernel={kernel:g} is not above C_b = {bias_variance:g}", "give a larger first_kernel"
        )
    return weight_variance, bias_variance, kernel


def _layer_values(
    theory: Sequence[Layer], widths: Sequence[int], measured: Measurements | None
) -> list[dict[str, Any]]:
    """Everything that is known of every layer: predicted numbers, and (estimate, standard error) of measured ones."""
    found: dict[str, Estimate] = {}
    if measured is not None:
        found = {"mean_square": measured.metric(), "normalised_vertex": measured.normalised_vertex()}
        if "H" in measured.samples:
            found |= {"tangent_kernel": measured.kernel_mean(), **measured.kernel_fluctuations()}
    values = []
    for place, one in enumerate(theory):
        fan_in = widths[max(place - 1, 0)]
        measured_here = {
            name: [number(float(estimate.value[place])), number(float(estimate.error[place]), 3)]
            for name, estimate in found.items()
        }
        values.append(
            {
                "layer": one.layer,
                **{
                    name: number(getattr(one, name)) for name in ("K", "G1", "V", "theta", "A", "B", "D", "F", "P", "Q")
                },
                "mean_square": number(one.K + one.G1 / fan_in),
                "normalised_vertex": number(one.normalised_vertex(fan_in)),
                "measured": measured_here,
            }
        )
    return values


_THEORY_COLUMNS = {
    "layer": "layer",
    "K": "K",
    "G1": "G1",
    "normalised_vertex": "V/(nK²)",
    "theta": "Θ",
    "A": "A",
    "B": "B",
    "D": "D",
    "F": "F",
}
_MEASURED_COLUMNS = {
    "mean_square": ("K + G1/n", "mean z²"),
    "normalised_vertex": ("V/(nK²)", "four-point"),
    "tangent_kernel": ("Θ", "mean Ĥ"),
}


def _kernel_row(values: dict[str, Any]) -> dict[str, Any]:
    """One row for reading: theory alone, or theory beside what was measured."""
    if not values["measured"]:
        return {label: values[name] for name, label in _THEORY_COLUMNS.items()}
    row = {"layer": values["layer"]}
    for name, (label, beside) in _MEASURED_COLUMNS.items():
        if name in values["measured"]:
            row[label] = number(values["theta" if name == "tangent_kernel" else name], 4)
            row[beside] = _with_error(*values["measured"][name])
    return row


def _with_error(value: float | None, error: float | None) -> str:
    """`0.1034 ± 0.0021`."""
    return "–" if value is None or error is None else f"{value:.4g} ± {error:.2g}"


def _kernel_picture(theory: Sequence[Layer], widths: Sequence[int], measured: Measurements | None, path: Path) -> Path:
    """Kernel, four-point function and tangent kernel, predicted and measured."""
    layers = [one.layer for one in theory]
    fan_ins = [widths[0], *widths[:-1]]
    panels = {
        "E[z²]": [one.K + one.G1 / fan_in for one, fan_in in zip(theory, fan_ins, strict=True)],
        "E[z²z²]/E[z²]² − 1": [one.normalised_vertex(fan_in) for one, fan_in in zip(theory, fan_ins, strict=True)],
        "tangent kernel": [one.theta for one in theory],
    }
    found: dict[str, Estimate] = {}
    if measured is not None:
        found = {"E[z²]": measured.metric(), "E[z²z²]/E[z²]² − 1": measured.normalised_vertex()}
        if "H" in measured.samples:
            found["tangent kernel"] = measured.kernel_mean()
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9.5, 3), layout="constrained")
        for axis, (name, values) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            axis.plot(layers, values, color=PALETTE[0], label="theory, first order in 1/n")
            if name in found:
                one = found[name]
                axis.errorbar(
                    layers,
                    one.value,
                    one.error,
                    fmt="o",
                    markersize=3,
                    color=PALETTE[1],
                    label="measured",
                    linewidth=0.9,
                )
            axis.set_title(name, loc="left", fontsize=10)
            axis.set_xlabel("layer ℓ")
        axis.legend(frameon=False, fontsize=8)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=130)
    return path


class _NetworkQuestion(Configuration):
    """A network of the user's."""

    network: str = Field(description="module:function that makes it with new random weights")
    activation: str = Field("", description="between its layers, to set theory beside it; empty for none")
    input_shape: list[int] = Field([784], min_length=1, description="of one sample, without the batch")
    networks: int = Field(1000, ge=2, description="how many to make")


def _network(asked: _NetworkQuestion, context: QuestionContext) -> Answer:
    factory = factory_asked(asked.network)
    network = network_from(factory)
    generator = torch.Generator().manual_seed(context.seed)
    x = torch.randn(1, *asked.input_shape, generator=generator)
    x = x / x.square().mean().sqrt()
    layers = measure_networks(factory, x, asked.networks, seed=context.seed, progress=context.progress)
    theory, why = _chain_theory(network, layers, asked.activation, x)
    rows = []
    for place, one in enumerate(layers):
        row: dict[str, Any] = {
            "layer": one.name,
            "fan_in": one.fan_in,
            "width": one.width,
            "C_W": number(one.weight_variance, 4),
            "C_b": number(one.bias_variance, 4),
            "mean z²": _with_error(*one.metric),
            "four-point": _with_error(*map(number, one.normalised_vertex)),
            "kurtosis": _with_error(*map(number, one.kurtosis)),
        }
        if theory:
            fan_in = layers[max(place - 1, 0)].width
            row["theory: mean z²"] = number(theory[place].K + theory[place].G1 / fan_in, 4)
            row["theory: four-point"] = number(theory[place].normalised_vertex(fan_in), 4)
        rows.append(row)
    shrink = (layers[-1].metric[0] / layers[0].metric[0]) ** (1 / max(len(layers) - 1, 1))
    text = (
        f"Over {asked.networks} networks the mean square of signals changes by a factor {shrink:.3g} per layer, to "
        f"{layers[-1].metric[0]:.3g} in the last; there squared signals of different neurons correlate by "
        f"{layers[-1].normalised_vertex[0]:.3g}. {why}"
    )
    return Answer(text, {"layers": [_observed(one) for one in layers], "change_per_layer": number(shrink)}, rows)


def _observed(layer: ObservedLayer) -> dict[str, Any]:
    """A layer as JSON values; pairs are (estimate, standard error)."""
    return {
        name: [number(one) for one in value]
        if isinstance(value, tuple)
        else number(value)
        if isinstance(value, float)
        else value
        for name, value in asdict(layer).items()
    }


def _chain_theory(
    network: nn.Module, layers: Sequence[ObservedLayer], activation: str, x: Tensor
) -> tuple[list[Layer], str]:
    """The recursions with the network's own variances, where it is a chain of linear layers; else why not."""
    modules = dict(network.named_modules())
    chained = all(one.width == other.fan_in for one, other in pairwise(layers))
    if not activation:
        return [], "Name the activation to see what theory predicts."
    if not chained or any(not isinstance(modules[one.name], nn.Linear) for one in layers) or x.dim() > 2:
        return [], "Theory is set beside chains of linear layers alone."
    first = layers[0].bias_variance + layers[0].weight_variance * float(x.square().mean())
    theory = recursions(
        activation_asked(activation),
        len(layers),
        bias_variance=[one.bias_variance for one in layers],
        weight_variance=[one.weight_variance for one in layers],
        first_kernel=first,
        widths=[one.width for one in layers],
    )
    return theory, "Predicted columns are the recursions with the network's own variances, to first order in 1/n."


KERNEL = Question(
    "What are kernel, fluctuations and tangent kernel of every layer, predicted and measured?", _KernelQuestion, _kernel
)
NETWORK = Question("What do signals do in my own network, measured over an ensemble?", _NetworkQuestion, _network)
