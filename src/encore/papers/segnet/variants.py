"""Bayesian SegNet (Kendall, Badrinarayanan, Cipolla; arXiv 1511.02680): dropout that stays on when the net is used.

Trained as SegNet with dropout of 0.5; an answer is the mean softmax of T stochastic passes, and the variance
over them tells where the net is not certain. A single pass in evaluation mode (`forward`) leaves dropout out,
which is the companion paper's weight averaging. Weights are those of SegNet: dropout has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from encore.base.registry import register_model
from encore.nn.monte_carlo import dropout_on
from encore.papers.segnet.model import SegmentationHourglass, SegNet, SegNetBasic, check_positive


class MonteCarloDropout(SegmentationHourglass):
    """Sampling for an hourglass with dropout: see `encore.nn.monte_carlo`."""

    num_samples: int

    def sample_logits(self, x: Tensor, num_samples: int) -> Iterator[Tensor]:
        """Yield logits (B, num_classes, H, W) of stochastic passes.

        What lies before the first dropout, in the full net more than half of the encoder's work, is done once.

        Args:
            x: (B, in_channels, H, W), as `forward` takes it.
            num_samples: T.
        """
        stages = range(len(self.encoder))
        first = next((index for index in stages if f"pool{index}" in self.dropout_places), len(stages))
        shared: list[Any] = []
        deterministic = self.run_stages(self.prepared(x), stages[:first], lambda full, pool, kept: shared.append(kept))
        for _ in range(num_samples):
            kept = list(shared)
            with dropout_on(self):
                features = self.run_stages(
                    deterministic,
                    stages[first:],
                    lambda full, pool, places, kept=kept: kept.append(places),  # type: ignore[misc]
                )
                logits = self.decode(features, kept)
            yield logits


@register_model("bayesian_segnet")
class BayesianSegNet(MonteCarloDropout, SegNet):
    """Bayesian SegNet: dropout behind the three deepest poolings and decoder stages, the central six.

    Args:
        num_classes: K; 11 for CamVid.
        in_channels: channels of the pictures.
        dropout: its probability.
        num_samples: T; the companion paper finds little change beyond 40.
    """

    def __init__(
        self, num_classes: int = 11, in_channels: int = 3, dropout: float = 0.5, num_samples: int = 40
    ) -> None:
        check_positive(num_samples=num_samples)
        super().__init__(num_classes, in_channels, dropout)
        self.num_samples = num_samples


@register_model("bayesian_segnet_basic")
class BayesianSegNetBasic(MonteCarloDropout, SegNetBasic):
    """Bayesian SegNet-Basic: dropout behind the two deepest poolings and decoder stages.

    Args:
        dropout: its probability.
        num_samples: T; the companion paper finds little change beyond 40.
        others: see `BasicEncoder`.
    """

    def __init__(
        self,
        num_classes: int = 11,
        in_channels: int = 3,
        width: int = 64,
        kernel_size: int = 7,
        depth: int = 4,
        local_response_norm: bool = True,
        dropout: float = 0.5,
        num_samples: int = 40,
    ) -> None:
        check_positive(num_samples=num_samples)
        super().__init__(num_classes, in_channels, width, kernel_size, depth, local_response_norm, dropout)
        self.num_samples = num_samples
