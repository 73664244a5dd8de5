"""Stochastic depth (Huang and others; arXiv 1603.09382) as a function and a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def drop_path(x: Tensor, probability: float, training: bool) -> Tensor:
    """Leave a whole sample's branch out with `probability` and scale the others up; (B, …), any further lengths."""
    if not training or probability == 0:
        return x
    kept = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= probability
    return x * (kept / (1 - probability)).to(x.dtype)


class DropPath(nn.Module):
    """Leaves a whole sample's branch out with `probability` in training, and scales the others up.

    It has no parameters, so that a network with it has the state dict of one without.

    Args:
        probability: 0 ≤ p < 1.

    Raises:
        ValueError: it is not.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"drop_path is {probability}; it lies from 0 to below 1")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """(B, …) → the same shape."""
        return drop_path(x, self.probability, self.training)

    def extra_repr(self) -> str:
        """Its probability."""
        return f"{self.probability:g}"
