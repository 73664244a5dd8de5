"""Ensembles of multilayer perceptrons of one shape, trained side by side: one `baddbmm` for each layer.

Each network has its own initialisation, its own learning rates and its own seed; none knows of the others, since the
loss is the sum of theirs. A network that diverges becomes NaN alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from encore.base.seeds import derive_seed


@dataclass(frozen=True)
class LayerStart:
    """How one layer begins: W ~ N(0, C_W/n_in), b ~ N(0, C_b); or both uniform, as PyTorch has it.

    Attributes:
        weight_variance: C_W.
        bias_variance: C_b.
        uniform: whether to draw from uniform distributions of these variances.
    """

    weight_variance: float
    bias_variance: float = 0.0
    uniform: bool = False


@dataclass(frozen=True)
class LayerRate:
    """The book's λ_b and λ_W of one layer (8.6): its steps are η λ_b on biases and η λ_W/n_in on weights."""

    bias: float
    weight: float


@dataclass(frozen=True)
class NetworkPlan:
    """One network of an ensemble.

    Attributes:
        name: its arm.
        seed: of its weights and of its batches.
        learning_rate: η.
        starts: one for each layer.
        rates: one for each layer, or None for plain gradient descent, where each step is η.
    """

    name: str
    seed: int
    learning_rate: float
    starts: tuple[LayerStart, ...]
    rates: tuple[LayerRate, ...] | None = None


class Ensemble:
    """E networks z⁽¹⁾ = b + W x, z⁽ˡ⁺¹⁾ = b + W σ(z⁽ˡ⁾) (4.65) of the same widths.

    Args:
        widths: n_0 … n_L.
        activation: σ, elementwise.
        plans: of the E networks; those of one seed draw the same numbers, and scale them.
        device: where they live.

    Attributes:
        weights: L tensors (E, n_in, n_out) float32.
        biases: L tensors (E, 1, n_out) float32.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: Callable[[Tensor], Tensor],
        plans: Sequence[NetworkPlan],
        device: torch.device | str = "cpu",
    ) -> None:
        self.widths, self.activation, self.plans = tuple(widths), activation, tuple(plans)
        self.weights, self.biases = [], []
        self._steps: list[tuple[Tensor, Tensor]] = []
        for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
            weights, biases = zip(
                *(_drawn(plan.seed, layer, fan_in, fan_out, plan.starts[layer]) for plan in plans), strict=True
            )
            self.weights.append(torch.stack(weights).to(device).requires_grad_())
            self.biases.append(torch.stack(biases).to(device).requires_grad_())
            steps = [
                (plan.learning_rate, plan.learning_rate)
                if plan.rates is None
                else (
                    plan.learning_rate * plan.rates[layer].weight / fan_in,
                    plan.learning_rate * plan.rates[layer].bias,
                )
                for plan in plans
            ]
            sizes = torch.tensor(steps, dtype=torch.float32, device=device)[:, :, None, None]
            self._steps.append((sizes[:, 0], sizes[:, 1]))

    def forward(self, x: Tensor) -> Tensor:
        """(E, B, n_0), or (B, n_0) for all, → outputs (E, B, n_L)."""
        z = x if x.dim() == 3 else x.expand(len(self.plans), -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = torch.baddbmm(bias, self.activation(z) if layer else z, weight)
        return z

    def losses(self, x: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of each network: (E, B, n_0), (E, B) → (E,)."""
        logits = self.forward(x)
        return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)

    def step(self, x: Tensor, labels: Tensor) -> Tensor:
        """One step of gradient descent of every network on its batch (E, B, n_0), (E, B); losses before it, (E,)."""
        losses = self.losses(x, labels)
        parameters = [*self.weights, *self.biases]
        gradients = torch.autograd.grad(losses.sum(), parameters)
        with torch.no_grad():
            sizes = [size for size, _ in self._steps] + [size for _, size in self._steps]
            torch._foreach_sub_(parameters, torch._foreach_mul(gradients, sizes))
        return losses.detach()

    @torch.no_grad()
    def accuracies(self, x: Tensor, labels: Tensor, batch_size: int = 250) -> Tensor:
        """Per cent right of each network on (N, n_0), (N,) → (E,); a network that diverged is right nowhere."""
        right = torch.zeros(len(self.plans), device=x.device)
        for start in range(0, len(x), batch_size):
            logits = self.forward(x[start : start + batch_size])
            finite = torch.isfinite(logits).all(-1)
            right += ((logits.argmax(-1) == labels[start : start + batch_size]) & finite).sum(1)
        return 100 * right / len(x)


def _drawn(seed: int, layer: int, fan_in: int, fan_out: int, start: LayerStart) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights", layer))
    if start.uniform:
        numbers = (torch.rand((fan_in + 1, fan_out), generator=generator) * 2 - 1) * 3**0.5
    else:
        numbers = torch.randn((fan_in + 1, fan_out), generator=generator)
    return numbers[1:] * (start.weight_variance / fan_in) ** 0.5, numbers[:1] * start.bias_variance**0.5


def batches(seeds: Sequence[int], num_samples: int, batch_size: int, steps: int) -> Iterator[Tensor]:
    """Indices (E, B) of each network's batch, `steps` times; networks of one seed see the same batches."""
    distinct = sorted(set(seeds))
    where = torch.tensor([distinct.index(seed) for seed in seeds])
    generators = [torch.Generator().manual_seed(derive_seed(seed, "batches")) for seed in distinct]
    for _ in range(steps):
        drawn = torch.stack(
            [torch.randint(num_samples, (batch_size,), generator=generator) for generator in generators]
        )
        yield drawn[where]


@contextmanager
def small_numbers_are_zero() -> Iterator[None]:
    """Let the processor take numbers below 1e-38 as 0 inside the block: dying networks would slow all others down.

    Afterwards it does not, as is PyTorch's default.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
