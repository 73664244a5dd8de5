"""Questions that the book answers: `encore ask pdlt QUESTION [key=value …]`."""

from __future__ import annotations

import math
from itertools import pairwise

from pydantic import Field

from encore.base.errors import ConfigurationError
from encore.nn.critical_init import critical_init_
from encore.nn.criticality import (
    CriticalPoint,
    corrected_weight_variance,
    critical_point,
    residual_weight_variance,
    universality_class,
)
from encore.papers.pdlt.asking import (
    ActivationQuestion,
    ShapeQuestion,
    Size,
    activation_asked,
    factory_asked,
    number,
    table,
)
from encore.papers.pdlt.information import growth_of, most_information, mutual_information, optimal_ratio
from encore.papers.pdlt.kernel_questions import KERNEL
from encore.papers.pdlt.learning_rates import equivalent_rates
from encore.papers.pdlt.network_question import NETWORK
from encore.papers.pdlt.own_networks import network_from
from encore.papers.pdlt.residual import growth, optimal_skip, vertices
from encore.results.questions import Answer, Question, QuestionContext


def _point(point: CriticalPoint) -> dict[str, object]:
    return {
        "K*": number(point.kernel, 9),
        "C_b": number(point.bias_variance, 9),
        "C_W": number(point.weight_variance, 9),
        "class": point.universality,
        "stability": point.stability,
        **{name: number(value) for name, value in point.exponents.items()},
    }


def _universality_class(asked: ActivationQuestion, context: QuestionContext) -> Answer:
    activation = activation_asked(asked.activation)
    found = universality_class(activation)
    points = [_point(point) for point in found.points]
    kind = "of no universality class" if found.name == "none" else f"of the class {found.name}"
    return Answer(
        text=f"{activation.name} is {kind}: {found.reason}.",
        values={"activation": activation.name, "class": found.name, "reason": found.reason, "critical_points": points},
        rows=points,
    )


class _CriticalPointQuestion(ActivationQuestion):
    """Where to begin."""

    width: int = Field(
        0, ge=0, le=10**9, description="n, for the correction of first order in 1/n; 0 for infinite width"
    )


def _critical_point(asked: _CriticalPointQuestion, context: QuestionContext) -> Answer:
    activation = activation_asked(asked.activation)
    point = critical_point(activation)
    values = {"activation": activation.name, **_point(point)}
    text = (
        f"{activation.name} is critical at C_b = {point.bias_variance:.9g} and C_W = {point.weight_variance:.9g}: draw "
        f"biases from N(0, C_b) and weights from N(0, C_W/fan-in)."
    )
    if point.universality == "half-stable":
        text += f" Scale inputs so that the first layer's kernel is K* = {point.kernel:.6g}."
    if asked.width:
        if point.universality == "half-stable":
            text += " The book gives no correction of first order in 1/n at half-stable points."
        else:
            corrected = corrected_weight_variance(activation, asked.width)
            values["C_W at this width"] = number(corrected, 9)
            text += f" At width {asked.width}, to first order: C_W = {corrected:.9g}."
    return Answer(text, values, [_point(one) for one in universality_class(activation).points])


class _InitialiseQuestion(ActivationQuestion):
    """A network to initialise."""

    widths: list[Size] = Field(
        [784, 500, 500, 10], min_length=2, description="n_0 … n_L of a multilayer perceptron, inputs first"
    )
    network: str = Field("", description="module:function that makes an nn.Module, instead of widths and activation")
    skip: float = Field(0.0, description="γ of skip connections between equally wide layers")


def _initialise(asked: _InitialiseQuestion, context: QuestionContext) -> Answer:
    if asked.network:
        report = critical_init_(network_from(factory_asked(asked.network)), residual_gain=asked.skip or None)
        layers = [
            {
                "layer": one.name,
                "kind": one.kind,
                "fan_in": one.fan_in,
                "fed by": one.activation,
                "C_W": one.weight_variance,
                "C_b": one.bias_variance,
                "σ of weights": one.deviation,
                "σ of biases": math.sqrt(one.bias_variance),
            }
            for one in report.layers
        ]
        text = f"{asked.network} is critical with these. `critical_init_(model)` of encore.nn.critical_init sets them."
        return Answer(" ".join([text, *report.notes]), {"layers": layers, "notes": list(report.notes)}, table(layers))
    activation = activation_asked(asked.activation)
    point = critical_point(activation)
    shapes = list(pairwise(asked.widths))
    residual_variance = residual_weight_variance(activation, asked.skip) if asked.skip else point.weight_variance
    if asked.skip and not any(fan_in == width for fan_in, width in shapes[1:]):
        raise ConfigurationError(
            f"no skip connection fits widths {asked.widths}", "give neighbouring hidden layers the same width"
        )
    rows = []
    for layer, (fan_in, width) in enumerate(shapes, 1):
        variance = residual_variance if layer > 1 and fan_in == width else point.weight_variance
        if layer == 1 and point.universality == "half-stable":
            variance = point.kernel - point.bias_variance  # inputs of mean square 1 give the kernel K*
        rows.append(
            {
                "layer": layer,
                "fan_in": fan_in,
                "width": width,
                "C_W": variance,
                "C_b": point.bias_variance,
                "σ of weights": math.sqrt(variance / fan_in),
                "σ of biases": math.sqrt(point.bias_variance),
            }
        )
    text = f"A critical {activation.name} network has normal weights and biases of these standard deviations."
    if asked.skip:
        text += f" Skips of γ = {asked.skip:g} join equally wide layers, from the second on."
    return Answer(text, {"activation": activation.name, "layers": rows}, table(rows))


class _RatesQuestion(ShapeQuestion):
    """Learning rates."""

    inputs: Size = Field(784, description="n_0")
    bias_rate: float = Field(1.0, gt=0, description="λ̃_b, the share of biases")
    weight_rate: float = Field(1.0, gt=0, description="λ̃_W, the share of weights")


def _learning_rates(asked: _RatesQuestion, context: QuestionContext) -> Answer:
    activation = activation_asked(asked.activation)
    rates = equivalent_rates(activation, asked.depth, asked.bias_rate, asked.weight_rate)
    fan_ins = (asked.inputs, *asked.widths[:-1])
    rows = []
    for layer, fan_in in enumerate(fan_ins, 1):
        bias_rate, weight_rate = rates(layer)
        rows.append({"layer": layer, "biases": bias_rate, "weights": weight_rate / fan_in, "fan_in": fan_in})
    text = (
        f"Multiply the global rate η of plain gradient descent by these: all layers of the {activation.name} network "
        f"then count alike in the tangent kernel. `learning_rates(model, lr=η)` of encore.nn.critical_init makes the "
        "groups."
    )
    return Answer(text, {"activation": activation.name, "layers": rows}, table(rows))


def _depth(asked: ShapeQuestion, context: QuestionContext) -> Answer:
    activation = activation_asked(asked.activation)
    nu = growth_of(activation)
    best, ratio = optimal_ratio(nu, asked.outputs), asked.depth / asked.width
    values = {
        "activation": activation.name,
        "growth": number(nu),
        "ratio": number(ratio),
        "fluctuation": number(nu * ratio),
        "optimal_ratio": number(best),
        "optimal_depth": round(best * asked.width, 1),
        "width_for_this_depth": math.ceil(asked.depth / best),
    }
    kind = "nearly Gaussian" if nu * ratio < 1 else "strongly coupled: fluctuations between networks rule"
    return Answer(
        f"r = L/n = {ratio:.3g}; squared signals of different neurons correlate by ν·r = {nu:.3g}·r = {nu * ratio:.3g} "
        f"({kind}). With {asked.outputs} output{'s' * (asked.outputs > 1)} the optimal ratio is r* = {best:.2g} (an "
        f"estimate): about {best * asked.width:.0f} layers at width {asked.width}, or width "
        f"{math.ceil(asked.depth / best)} for {asked.depth} layers.",
        values,
    )


class _ResidualQuestion(ShapeQuestion):
    """Skip connections."""

    skip: float = Field(math.sqrt(0.5), description="γ of the skip connections, |γ| < 1")


def _residual(asked: _ResidualQuestion, context: QuestionContext) -> Answer:
    activation = activation_asked(asked.activation)
    weight_variance = residual_weight_variance(activation, asked.skip)
    nu = growth(activation, asked.skip)
    layers = vertices(activation, asked.depth, weight_variance=weight_variance, skip=asked.skip)
    rows = [
        {
            "layer": one.layer,
            "K": one.K,
            "V/(nK²)": one.V / (asked.width * one.K**2),
            "book": one.book_vertex / (asked.width * one.K**2),
        }
        for one in layers
    ]
    best = optimal_skip(activation, asked.depth / asked.width, asked.outputs)
    odd = abs(layers[-1].T) > 1e-9
    text = (
        f"With skips of γ = {asked.skip:.4g} a {activation.name} network is critical at C_b = 0 and C_W = "
        f"{weight_variance:.9g}; the book's fluctuations grow as {nu:.4g}·ℓ/n. For L/n = "
        f"{asked.depth / asked.width:.3g} and {asked.outputs} output{'s' * (asked.outputs > 1)} the best γ is "
        f"{best:.3g}."
    )
    if odd:
        text += (
            " Odd correlations, which the book leaves out, add to the fluctuations of this activation: the column "
            "V/(nK²) has them, the best γ leaves them out."
        )
    values = {"C_W": weight_variance, "growth": nu, "optimal_skip": best, "odd_correlations": odd, "layers": rows}
    return Answer(text, values, table(rows))


class _InformationQuestion(ShapeQuestion):
    """Halves of the output layer."""

    outputs: int = Field(10, ge=2, le=10**9, description="n_L, an even number")


def _information(asked: _InformationQuestion, context: QuestionContext) -> Answer:
    activation = activation_asked(asked.activation)
    if asked.outputs % 2:
        raise ConfigurationError(
            f"{asked.outputs} outputs cannot be halved", "give an even number of outputs, for example outputs=10"
        )
    nu, half = growth_of(activation), asked.outputs // 2
    best = optimal_ratio(nu, asked.outputs)
    rows = []
    for depth in sorted({1, 2, 3, 5, 8, 10, 20, 50, asked.depth, max(1, round(best * asked.width))}):
        vertex = nu * depth / asked.width
        rows.append({"depth": depth, "r": depth / asked.width, "nats": mutual_information(half, half, vertex)})
    return Answer(
        f"Halves of the {asked.outputs} outputs of a {activation.name} network of width {asked.width} tell most of "
        f"each other at r* = {best:.2g}, {most_information(asked.outputs):.3g} nats; beyond, the expansion in ℓ/n "
        f"falls below zero and says nothing more.",
        {"optimal_ratio": best, "most_nats": most_information(asked.outputs), "by_depth": rows},
        table(rows),
    )


QUESTIONS: dict[str, Question] = {
    "universality-class": Question(
        "Which universality class is an activation in?", ActivationQuestion, _universality_class
    ),
    "critical-point": Question(
        "Which variances of weights and biases make an activation critical?", _CriticalPointQuestion, _critical_point
    ),
    "initialise": Question("How are the layers of a network initialised critically?", _InitialiseQuestion, _initialise),
    "learning-rates": Question("Which learning rates give all layers an equal say?", _RatesQuestion, _learning_rates),
    "depth": Question("How deep may a network of this width be?", ShapeQuestion, _depth),
    "kernel": KERNEL,
    "network": NETWORK,
    "residual": Question("How do skip connections change criticality and fluctuations?", _ResidualQuestion, _residual),
    "information": Question(
        "How much do halves of the output layer tell of each other?",
        _InformationQuestion,
        _information,
    ),
}
"""By name."""
