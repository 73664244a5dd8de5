"""Networks and an activation of a user, imported by their path."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def perceptron() -> nn.Module:
    """20 → 30 → 10 with PyTorch's own beginning."""
    return nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 10))


def one_output() -> nn.Module:
    """20 → 30 → 1."""
    return nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 1))


def in_float64() -> nn.Module:
    """The first network with weights in float64."""
    return perceptron().double()


def always_the_same() -> nn.Module:
    """The first network with a seed inside."""
    torch.manual_seed(0)
    return perceptron()


def failing() -> nn.Module:
    """What raises an error of its own."""
    raise ValueError("no such size")


class Branching(nn.Module):
    """A branch that depends on data, which torch cannot vectorise."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(20, 30), nn.Linear(30, 10)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.first(x)
        answer: Tensor = self.last(torch.tanh(z) if bool(z.sum() > 0) else z)
        return answer


def sine_and_cube(z: Tensor) -> Tensor:
    """An activation of the class K* = 0."""
    return torch.sin(z) + 0.1 * z**3


NUMBER = 3
