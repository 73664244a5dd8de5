"""The question that measures an ensemble of the user's own network and sets theory beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from encore.base.configuration import Configuration
from encore.base.errors import ConfigurationError, InputError
from encore.nn.activations import Activation
from encore.papers.pdlt.asking import Size, activation_asked, factory_asked, number, with_error
from encore.papers.pdlt.ensemble_runs import device_named
from encore.papers.pdlt.own_networks import Factory, ObservedLayer, measure_networks, network_from
from encore.papers.pdlt.own_tangents import TangentKernel, observed_kernel, tangent_kernels_of
from encore.papers.pdlt.recursions import Layer, recursions
from encore.results.questions import Answer, Question, QuestionContext

_LARGEST_INPUT = 2**26
"""Numbers of one sample."""


class _NetworkQuestion(Configuration):
    """A network of the user's."""

    network: str = Field(description="module:function that makes it with new random weights")
    activation: str = Field("", description="between its layers, to set theory beside it; empty for none")
    input_shape: list[Size] = Field([784], min_length=1, description="of one sample, without the batch")
    networks: int = Field(1000, ge=2, le=10**9, description="how many to make")
    tangent_networks: int = Field(
        0, ge=0, le=10**9, description="of so many also the tangent kernel of the outputs, λ = 1; 0 for none"
    )


def _network(asked: _NetworkQuestion, context: QuestionContext) -> Answer:
    factory = factory_asked(asked.network)
    activation = activation_asked(asked.activation) if asked.activation else None
    if asked.tangent_networks == 1:
        raise ConfigurationError("one network has no spread", "give tangent_networks=200 or so")
    x = _input(asked.input_shape, context)
    layers = measure_networks(factory, x, asked.networks, seed=context.seed, progress=context.progress)
    theory, why = _chain_theory(factory, layers, activation, x)
    last = layers[-1]
    shrink = (last.metric[0] / layers[0].metric[0]) ** (1 / max(len(layers) - 1, 1))
    text = (
        f"Over {asked.networks} networks the mean square of signals changes by a factor {shrink:.3g} per layer, to "
        f"{last.metric[0]:.3g} in the last"
    )
    if math.isfinite(last.normalised_vertex[0]):
        text += f"; there squared signals of different neurons correlate by {last.normalised_vertex[0]:.3g}"
    values: dict[str, Any] = {"layers": [_observed(one) for one in layers], "change_per_layer": number(shrink)}
    sentences = [f"{text}."]
    if asked.tangent_networks:
        kernels = tangent_kernels_of(
            factory, x, asked.tangent_networks, seed=context.seed, progress=context.progress
        )  # fmt: skip
        found = observed_kernel(kernels, last.fan_in)
        predicted = _predicted_kernel(theory[-1], last.fan_in) if theory else {}
        values["tangent_kernel"] = {
            name: {"measured": [number(one) for one in value], "theory": predicted.get(name)}
            for name, value in asdict(found).items()
        }
        sentences.append(_kernel_sentence(found, predicted))
    rows = [_row(one, theory[place] if theory else None) for place, one in enumerate(layers)]
    return Answer(" ".join([*sentences, why]), values, rows)


def _input(shape: Sequence[int], context: QuestionContext) -> Tensor:
    """(1, *shape) normal numbers of mean square 1."""
    if math.prod(shape) > _LARGEST_INPUT:
        raise ConfigurationError(
            f"a sample of shape {list(shape)} has {math.prod(shape)} numbers",
            f"give the shape of one sample, of up to {_LARGEST_INPUT}",
        )
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(context.seed))
    return (x / x.square().mean().sqrt()).to(device_named(context.device))


def _row(layer: ObservedLayer, theory: Layer | None) -> dict[str, Any]:
    """A layer for reading, with what theory says of it."""
    row: dict[str, Any] = {
        "layer": layer.name,
        "fan_in": layer.fan_in,
        "width": layer.width,
        "C_W": number(layer.weight_variance, 4),
        "C_b": number(layer.bias_variance, 4),
        "mean z²": with_error(*layer.metric),
        "four-point": with_error(*layer.normalised_vertex),
        "kurtosis": with_error(*layer.kurtosis),
    }
    if theory is not None:
        row["theory: mean z²"] = number(theory.K + theory.G1 / layer.fan_in, 4)
        row["theory: four-point"] = number(theory.normalised_vertex(layer.fan_in), 4)
    return row


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


def _predicted_kernel(layer: Layer, fan_in: int) -> dict[str, float | None]:
    """What theory says of each field of `TangentKernel`, to first order."""
    spread = math.sqrt(max(layer.A + 2 * layer.B, 0.0) / fan_in) / layer.theta
    return {"mean": number(layer.theta), "A": number(layer.A), "B": number(layer.B), "spread": number(spread)}


def _kernel_sentence(found: TangentKernel, predicted: dict[str, float | None]) -> str:
    def shown(name: str, prefix: str = "theory: ") -> str:
        due = predicted.get(name)
        return with_error(*getattr(found, name)) + ("" if due is None else f" ({prefix}{due:.3g})")

    text = (
        f"The tangent kernel of an output is {shown('mean')} and varies from network to network by "
        f"{shown('spread', 'theory for normal weights: ')} of itself"
    )
    return f"{text}; A is {shown('A')}, B {shown('B')}." if math.isfinite(found.A[0]) else f"{text}."


def _chain_theory(
    factory: Factory, layers: Sequence[ObservedLayer], activation: Activation | None, x: Tensor
) -> tuple[list[Layer], str]:
    """The recursions with the network's own variances, where it is a chain of linear layers; else why not."""
    if activation is None:
        return [], "Name the activation to see what theory predicts."
    modules = dict(network_from(factory).named_modules())
    linear = [modules[one.name] for one in layers if isinstance(modules[one.name], nn.Linear)]
    chained = all(one.width == other.fan_in for one, other in pairwise(layers))
    if not chained or len(linear) < len(layers) or x.dim() > 2:
        return [], "Theory is set beside chains of linear layers alone."
    biased = [one.bias is not None for one in linear]
    try:
        theory = recursions(
            activation,
            len(layers),
            bias_variance=[one.bias_variance for one in layers],
            weight_variance=[one.weight_variance for one in layers],
            first_kernel=layers[0].bias_variance + layers[0].weight_variance * float(x.square().mean()),
            rates=lambda layer: (float(biased[layer - 1]), 1.0),
            widths=[one.width for one in layers],
        )
    except InputError as error:
        return [], f"Theory has no answer: {error.problem}."
    return theory, "Predicted columns are the recursions with the network's own variances, to first order in 1/n."


NETWORK = Question(
    "What do signals and the tangent kernel do in my own network, measured over an ensemble?",
    _NetworkQuestion,
    _network,
)
