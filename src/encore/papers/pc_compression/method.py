"""Learning a hidden Chow-Liu tree: structure from pairs of variables, probabilities by expectation maximisation.

The E step counts how often each choice was made, in expectation (`HCLT.flows`); the M step makes every distribution
proportional to its counts, α added to each distribution as a whole:

    θ_k = (F_k + α / fan-in) / (Σ F + α)

In mini-batch steps the parameters move towards that by 1 - ι, θ ← ι·θ + (1 - ι)·θ_new, with an inertia ι that rises
over the epochs; at last one or a few steps take the whole training set, which is worth hundredths of a bit. α is added
to the counts of the batch, so that mini-batches smooth far more than the whole set (official code).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encore.base.seeds import derive_seed
from encore.papers.pc_compression.model import HCLT, Flows
from encore.papers.pc_compression.structure import LEVELS, Shape, chow_liu_tree, mutual_information


@dataclass(frozen=True)
class Schedule:
    """How long, and with how much inertia.

    Attributes:
        epochs: epochs of mini-batches in the first phase and in the second.
        inertia: ι at the start of the first phase, at its end, and at the end of the second; linear between.
        full_batch: steps with the whole training set at the end.
        batch_size: samples of a mini-batch; what is left over at the end of an epoch is not used in it.
        pseudocount: α.
    """

    epochs: tuple[int, int] = (100, 250)
    inertia: tuple[float, float, float] = (0.1, 0.9, 0.95)
    full_batch: int = 1
    batch_size: int = 512
    pseudocount: float = 0.1

    @property
    def total(self) -> int:
        """Epochs of all phases."""
        return sum(self.epochs) + self.full_batch

    def inertia_of(self, epoch: int) -> float | None:
        """ι of an epoch of mini-batches; None for a step with the whole set."""
        first, second = self.epochs
        start, middle, end = self.inertia
        if epoch < first:
            return start + (middle - start) * epoch / max(first - 1, 1)
        if epoch < first + second:
            return middle + (end - middle) * (epoch - first + 1) / second
        return None


def learn_structure(x: Tensor, num_values: int, shape: Shape = "directed") -> list[int]:
    """The parents of a Chow-Liu tree of samples (N, D), values sorted into at most 16 levels."""
    levels = min(num_values, LEVELS)
    sorted_in = x.cpu().numpy().astype(np.int64) * levels // num_values
    return [int(one) for one in chow_liu_tree(mutual_information(sorted_in, levels), shape).parents]


def maximise(model: HCLT, flows: Flows, pseudocount: float, inertia: float = 0.0) -> None:
    """The M step, in place."""
    for own, counts, axis in (
        (model.prior, flows.prior, 0),
        (model.transitions, flows.transitions, 2),
        (model.emissions, flows.emissions, 1),
    ):
        smoothed = counts + pseudocount / counts.shape[axis]
        smoothed /= smoothed.sum(axis, keepdim=True)
        own.lerp_(smoothed.to(own.dtype), 1 - inertia)


def flows_of_all(model: HCLT, x: Tensor, batch_size: int) -> Iterator[Flows]:
    """The expected counts of (N, D), after each part of it those of all so far, in double precision."""
    total: Flows | None = None
    for part in x.split(batch_size):
        one = model.flows(part)
        if total is None:
            total = Flows(one.log_likelihood, one.prior.double(), one.transitions.double(), one.emissions.double())
        else:
            total += one
        yield total


def batches_of(x: Tensor, batch_size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """Mini-batches in an order that seed and epoch decide; one smaller batch where there is no whole one."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    order = torch.randperm(len(x), generator=generator)
    size = min(batch_size, len(x))
    for start in range(0, len(x) - size + 1, size):
        yield x[order[start : start + size].to(x.device)]
