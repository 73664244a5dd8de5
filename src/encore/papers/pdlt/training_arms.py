"""How the arms of the training experiments begin: critical, beside what is usual, and off criticality by a quarter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from encore.nn.criticality import critical_point
from encore.papers.pdlt.training_networks import LayerStart

CRITICAL, MORE, LESS = "critical", "weight_variance_plus_25", "weight_variance_minus_25"
DEFAULT, XAVIER, KAIMING = "pytorch_default", "xavier", "kaiming"

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": F.relu, "gelu": F.gelu}

TWINS = {"tanh": XAVIER, "relu": KAIMING}
"""Usual initialisations that have the critical weight variance in all hidden layers."""


@dataclass(frozen=True)
class DeepArm:
    """One way to begin a deep network.

    Attributes:
        name: of the arm.
        starts: one for each layer.
    """

    name: str
    starts: tuple[LayerStart, ...]


def deep_arms(activation: str, widths: Sequence[int]) -> list[DeepArm]:
    """All arms of an activation; inputs are taken to have a mean square of one.

    Off criticality, C_W of all layers behind the first is changed, so that networks differ in what depth does to them.
    PyTorch's default is uniform with variances 1/(3 n_in) of weights and of biases; Xavier has 2/(n_in + n_out),
    Kaiming 2/n_in, both with biases 0 (`xavier_normal_`, `kaiming_normal_`).

    Args:
        activation: one of `FUNCTIONS`.
        widths: n_0 … n_L.
    """
    point = critical_point(activation)
    inside = LayerStart(point.weight_variance, point.bias_variance)
    first = inside
    if point.kernel and point.universality == "half-stable":
        first = replace(inside, weight_variance=point.kernel - point.bias_variance)
    pairs = list(pairwise(widths))

    def with_weights(factor: float) -> tuple[LayerStart, ...]:
        return (first, *[replace(inside, weight_variance=factor * inside.weight_variance)] * (len(pairs) - 1))

    return [
        DeepArm(CRITICAL, with_weights(1.0)),
        DeepArm(DEFAULT, tuple(LayerStart(1 / 3, 1 / (3 * fan_in), uniform=True) for fan_in, _ in pairs)),
        DeepArm(XAVIER, tuple(LayerStart(2 * fan_in / (fan_in + fan_out)) for fan_in, fan_out in pairs)),
        DeepArm(KAIMING, tuple(LayerStart(2.0) for _ in pairs)),
        DeepArm(MORE, with_weights(1.25)),
        DeepArm(LESS, with_weights(0.75)),
    ]
