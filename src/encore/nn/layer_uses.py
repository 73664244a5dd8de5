"""What is known of a network's layers: what feeds each, and which skip connections end with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from encore.nn.activations import Activation


@dataclass
class Sum:
    """A skip connection z' = ξ f(z) + γ z.

    Attributes:
        gain: γ.
        branch_gain: ξ.
        producers: the last layers of f.
        behind_activation: whether what is skipped is σ(z), not z.
    """

    gain: float
    branch_gain: float
    producers: tuple[str, ...]
    behind_activation: bool


@dataclass
class LayerUse:
    """One layer, and what comes into it.

    Attributes:
        name: in the model.
        layer: the module.
        activation: σ between the layers before and this one; None where there is none.
        is_first: whether it sees the network's input.
        depth: ℓ, counted from 1 at the input along the longest way.
        share: what its kernel is multiplied by, because it is one summand of several, or is rescaled.
        skip: the skip connection that ends with it.
        fed_by: names of the layers before it.
        input_gain: the constant that the network's input was multiplied by on its way to a first layer.
    """

    name: str
    layer: nn.Module
    activation: Activation | None = None
    is_first: bool = False
    depth: int = 1
    share: float = 1.0
    skip: Sum | None = None
    fed_by: tuple[str, ...] = ()
    input_gain: float = 1.0

    @property
    def fan_in(self) -> int:
        """Inputs of one of its outputs: n for Linear, channels of a group times the window for Conv."""
        weight: Any = self.layer.weight
        return math.prod(weight.shape[1:])


@dataclass
class LayerGraph:
    """All layers in the order of the forward pass.

    Attributes:
        layers: what is known.
        problems: what is not, in words; whoever uses the graph refuses if there are any.
        notes: what changes kernels and is not taken into account.
    """

    layers: list[LayerUse] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def skips(self) -> list[Sum]:
        """Each skip connection once, in order."""
        found: list[Sum] = []
        for use in self.layers:
            if use.skip is not None and not any(use.skip is one for one in found):
                found.append(use.skip)
        return found
