"""What the ensembles of the recipe are made of, and how much of it at each scale."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from encore.base.configuration import Configuration
from encore.base.runtime import Scale

HALF_STABLE = ("gelu",)

_NARROWEST = 9
"""Width from which the second layer of a ReLU network takes part in an expansion: 5/n is at most 0.6."""

_WIDEST, _DEEPEST = 2**14, 1000


class EnsembleSettings(Configuration):
    """Ensembles of real networks.

    Attributes:
        widths: n of the ensembles; at least four, for an expansion in 1/n to second order.
        depth: L of the scale-invariant activations and of tanh and sin.
        half_stable_depth: L of GELU, whose fluctuations grow seven times as fast as those of tanh.
        networks: the fewest networks of an ensemble.
        weights: of each ensemble in all; narrow ensembles have more networks for it.
        kernel_widths, kernel_depth, kernel_networks: of ensembles whose tangent kernels are iterated.
        kernel_entries: weights times width of each of these ensembles in all.
        law_width, law_networks: of the ensembles at and off criticality.
        residual_widths, residual_depth: of networks with skip connections.
    """

    widths: list[int] = Field([30, 60, 96, 144, 240], min_length=4)
    depth: int = Field(60, ge=4)
    half_stable_depth: int = Field(20, ge=3)
    networks: int = Field(500, ge=50)
    weights: float = Field(6e8, gt=0)
    kernel_widths: list[int] = Field([32, 48, 64, 96, 128], min_length=4)
    kernel_depth: int = Field(8, ge=3)
    kernel_networks: int = Field(500, ge=50)
    kernel_entries: float = Field(4e9, gt=0)
    law_width: int = Field(120, ge=8)
    law_networks: int = Field(200, ge=50)
    residual_widths: list[int] = Field([32, 64, 96, 128], min_length=4)
    residual_depth: int = Field(9, ge=4)

    @field_validator("widths", "kernel_widths", "residual_widths")
    @classmethod
    def _growing(cls, widths: list[int]) -> list[int]:
        if widths[0] < 2 or sorted(set(widths)) != widths:
            raise ValueError("give widths from 2 on, each larger than the one before")
        if widths[-1] > _WIDEST:
            raise ValueError(f"give widths up to {_WIDEST}, whose weights fit into memory")
        return widths

    @field_validator("widths", "kernel_widths")
    @classmethod
    def _wide_enough(cls, widths: list[int]) -> list[int]:
        if widths[-3] < _NARROWEST:
            raise ValueError(f"give at least three widths of {_NARROWEST} and more, for an expansion in 1/n")
        return widths

    @field_validator("depth", "half_stable_depth", "kernel_depth", "residual_depth")
    @classmethod
    def _shallow_enough(cls, depth: int) -> int:
        if depth > _DEEPEST:
            raise ValueError(f"give at most {_DEEPEST} layers")
        return depth

    def depth_of(self, name: str) -> int:
        """L of an activation's ensembles."""
        return self.half_stable_depth if name in HALF_STABLE else self.depth


_SMOKE = {
    "widths": [16, 24, 32, 48],
    "depth": 12,
    "half_stable_depth": 4,
    "weights": 1.2e7,
    "networks": 300,
    "kernel_widths": [12, 16, 24, 32],
    "kernel_depth": 4,
    "kernel_entries": 4e7,
    "kernel_networks": 200,
    "law_width": 32,
    "law_networks": 100,
    "residual_widths": [16, 24, 32, 48],
    "residual_depth": 5,
}

ENSEMBLES: dict[Scale, dict[str, Any]] = {
    "smoke": _SMOKE,
    "laptop": {},
    "paper": {
        "widths": [30, 60, 120, 250, 500, 1000],
        "networks": 1000,
        "weights": 6e9,
        "kernel_widths": [32, 64, 96, 128, 192, 256],
        "kernel_depth": 30,
        "kernel_networks": 1000,
        "kernel_entries": 4e11,
        "law_width": 500,
        "law_networks": 1000,
        "residual_widths": [64, 128, 256, 512],
        "residual_depth": 30,
    },
}
"""Settings that differ from the class's own."""
