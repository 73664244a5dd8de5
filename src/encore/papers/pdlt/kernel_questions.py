"""The question that sets theory beside an ensemble of multilayer perceptrons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import matplotlib
import torch
from matplotlib.figure import Figure
from pydantic import Field

from encore.base.errors import ConfigurationError
from encore.base.files import replacing
from encore.nn.activations import Activation
from encore.nn.criticality import CriticalityError, critical_point
from encore.papers.pdlt.asking import (
    ShapeQuestion,
    activation_asked,
    number,
    some_layers,
    table,
    with_error,
)
from encore.papers.pdlt.ensemble_runs import derivative_of, device_named
from encore.papers.pdlt.ensembles import Architecture, Measurements, measure, measure_kernel
from encore.papers.pdlt.learning_rates import equivalent_rates
from encore.papers.pdlt.recursions import Layer, recursions, uniform_rates
from encore.papers.pdlt.statistics import Estimate
from encore.results.plots import PALETTE
from encore.results.questions import Answer, Question, QuestionContext

_WIDEST_KERNEL = 256
"""Widest network whose tangent kernels are iterated: n³ operations each."""

_MOST_WEIGHTS = 2**28
"""Weights of one layer that are drawn: a gibibyte."""


class _KernelQuestion(ShapeQuestion):
    """Signals and tangent kernel layer by layer."""

    outputs: int = Field(0, ge=0, le=10**9, description="n_L; 0 for as many as hidden neurons")
    weight_variance: float | None = Field(None, gt=0, description="C_W; the critical one by default")
    bias_variance: float | None = Field(None, ge=0, description="C_b; the critical one by default")
    first_kernel: float | None = Field(None, gt=0, description="K of the first layer; K* or 1 by default")
    rates: Literal["book", "uniform"] = Field(
        "uniform", description="λ of each layer: book for the equivalence principle's, uniform for 1"
    )
    networks: int = Field(
        0, ge=0, le=10**9, description="of an ensemble to measure beside the theory; 0 for theory alone"
    )


def _kernel(asked: _KernelQuestion, context: QuestionContext) -> Answer:
    activation = activation_asked(asked.activation)
    weight_variance, bias_variance, first = _variances(asked, activation)
    widths = (*[asked.width] * (asked.depth - 1), asked.outputs or asked.width)
    rates = equivalent_rates(activation, asked.depth) if asked.rates == "book" else uniform_rates
    if asked.networks:
        _check_ensemble(asked.networks, widths)
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
        if max(widths) <= _WIDEST_KERNEL:
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
        text += _fluctuations(known[-1])
        if max(widths) > _WIDEST_KERNEL:
            text += f" Tangent kernels are measured up to width {_WIDEST_KERNEL}."
    pictures = []
    if context.folder is not None:
        pictures.append(_kernel_picture(theory, widths, measured, context.folder / "kernel.png"))
    values = {"activation": activation.name, "C_b": bias_variance, "C_W": weight_variance, "layers": known}
    return Answer(text, values, table(shown), pictures)


def _check_ensemble(networks: int, widths: Sequence[int]) -> None:
    """Refuse what cannot be measured before any of it is."""
    if networks < 2:
        raise ConfigurationError("one network has no spread", "give networks=1000 or so")
    largest = max(one * other for one, other in pairwise((16, *widths)))
    if largest > _MOST_WEIGHTS:
        raise ConfigurationError(
            f"a layer of these widths has {largest:.3g} weights, too many to draw",
            f"leave networks out for theory alone, or give a width up to {math.isqrt(_MOST_WEIGHTS)}",
        )


def _variances(asked: _KernelQuestion, activation: Activation) -> tuple[float, float, float]:
    """C_W, C_b and the first kernel, critical where they are not given."""
    weight_variance, bias_variance = asked.weight_variance, asked.bias_variance
    kernel = asked.first_kernel
    if weight_variance is None or bias_variance is None or kernel is None:
        given = weight_variance is not None and asked.bias_variance is not None
        try:
            point = None if given else critical_point(activation)
        except CriticalityError as error:
            raise ConfigurationError(error.problem, "give both weight_variance and bias_variance") from error
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
            row[beside] = with_error(*values["measured"][name])
    return row


def _fluctuations(values: dict[str, Any]) -> str:
    """The tangent kernel's A, B, D, F of one layer, measured beside theory."""
    measured = [name for name in "ABDF" if values["measured"].get(name, [None])[0] is not None]
    if not measured:
        return ""
    words = [f"{name} {with_error(*values['measured'][name])} ({number(values[name], 4)})" for name in measured]
    return f" Fluctuations of the tangent kernel in the last layer, measured (theory): {', '.join(words)}."


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


KERNEL = Question(
    "What are kernel, fluctuations and tangent kernel of every layer, predicted and measured?", _KernelQuestion, _kernel
)
