"""Networks and an activation of a user, imported by their path."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def perceptron() -> nn.Module:
    """20 → 30 → 10 with PyTorch's own beginning."""
    return nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 10))


def sine_and_cube(z: Tensor) -> Tensor:
    """An activation of the class K* = 0."""
    return torch.sin(z) + 0.1 * z**3


NUMBER = 3
