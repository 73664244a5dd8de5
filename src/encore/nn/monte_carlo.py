"""Models that answer with samples: mean and variance of class probabilities over stochastic passes.

Source: Gal and Ghahramani (1506.02142); Kendall, Badrinarayanan and Cipolla, Bayesian SegNet (1511.02680).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd


class Posterior(NamedTuple):
    """What T samples say together.

    Attributes:
        mean: (B, K, …) float32, mean class probabilities; they sum to 1 over K.
        variance: (B, K, …) float32, their variance over the samples (divided by T), 0…0.25.
    """

    mean: Tensor
    variance: Tensor

    @property
    def uncertainty(self) -> Tensor:
        """The variance averaged over the classes, (B, …)."""
        return self.variance.mean(1)


@runtime_checkable
class StochasticModel(Protocol):
    """A model whose inference is meant to be sampled."""

    num_samples: int
    """How many samples an answer is made of, unless the caller says otherwise."""

    def sample_logits(self, x: Tensor, num_samples: int) -> Iterator[Tensor]:
        """Yield `num_samples` sets of logits (B, K, …) for one input, each with fresh random numbers."""
        ...


@contextmanager
def dropout_on(model: nn.Module) -> Iterator[None]:
    """Let the dropout of a model in evaluation mode act inside the block; the rest stays in evaluation."""
    layers = [module for module in model.modules() if isinstance(module, _DropoutNd)]
    flags = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.train()
        yield
    finally:
        for layer, flag in zip(layers, flags, strict=True):
            layer.train(flag)


def posterior_of(samples: Iterable[Tensor]) -> Posterior:
    """Mean and variance of the softmax of logits (B, K, …), one sample at a time (Welford's update).

    Raises:
        ValueError: there are no samples.
    """
    mean = deviations = None
    count = 0
    for logits in samples:
        probabilities = logits.float().softmax(1)
        count += 1
        if mean is None or deviations is None:
            mean, deviations = probabilities, torch.zeros_like(probabilities)
            continue
        difference = probabilities - mean
        mean = mean + difference / count
        deviations += difference * (probabilities - mean)
    if mean is None or deviations is None:
        raise ValueError("there are no samples")
    return Posterior(mean, deviations / count)


@torch.no_grad()
def posterior(model: StochasticModel, x: Tensor, num_samples: int | None = None, seed: int = 0) -> Posterior:
    """Ask `model` several times.

    Args:
        model: its layers in evaluation mode.
        x: what its `forward` takes.
        num_samples: T; the model's own number by default.
        seed: of the random numbers, so that an answer can be had again. The caller's generators are left as
            they were.
    """
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        return posterior_of(model.sample_logits(x, num_samples or model.num_samples))
