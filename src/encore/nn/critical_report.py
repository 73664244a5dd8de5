"""What a critical initialisation did to a network, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class InitialisedLayer:
    """What one layer was given.

    Attributes:
        name, kind: in the model, and its class.
        fan_in: inputs of one output.
        activation: σ that feeds it; `input` or `linear` where there is none.
        weight_variance: C_W; weights are drawn from N(0, C_W/fan_in).
        bias_variance: C_b; biases are drawn from N(0, C_b).
    """

    name: str
    kind: str
    fan_in: int
    activation: str
    weight_variance: float
    bias_variance: float

    @property
    def deviation(self) -> float:
        """Standard deviation of the weights."""
        return math.sqrt(self.weight_variance / self.fan_in)


@dataclass(frozen=True)
class Initialisation:
    """The report of `critical_init_`; `str()` makes a table of it.

    Attributes:
        layers: in the order of the forward pass.
        notes: what the theory does not take into account, and what was decided.
    """

    layers: tuple[InitialisedLayer, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        head = ("layer", "kind", "fan-in", "fed by", "C_W", "C_b", "σ of weights")
        rows = [
            (
                one.name or "(model)",
                one.kind,
                str(one.fan_in),
                one.activation,
                f"{one.weight_variance:.6g}",
                f"{one.bias_variance:.6g}",
                f"{one.deviation:.4g}",
            )
            for one in self.layers
        ]
        widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (head, *rows)
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])
