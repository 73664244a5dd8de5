"""What can be set in the training experiments, and the scales' values."""

from __future__ import annotations

from pydantic import Field

from encore.base.configuration import Configuration, Settings
from encore.base.runtime import Scale


class TrainingSettings(Configuration):
    """Deep networks of one width, trained by plain gradient descent on pictures of digits.

    Attributes:
        depth: L, layers of a deep network, the last included.
        width: n of its hidden layers.
        batch_size: B.
        training_samples: how many of the training pictures are used.
        search_steps: steps with which every arm is tried at each of `search_rates`, on a seed of its own.
        search_rates: global learning rates, the same for all arms.
        refinement: factors around an arm's best rate that all seeds are trained with.
        steps: of these trainings; the rate of an arm is then chosen by validation accuracy over all seeds.
        transfer_widths, transfer_depths: networks between which learning rates shall transfer.
        transfer_rates: global learning rates, the same for both ways of setting rates.
        transfer_steps: steps with each.
        networks_at_once: most networks in one batched ensemble; bounds the memory.
    """

    depth: int = Field(60, ge=2)
    width: int = Field(100, ge=2)
    batch_size: int = Field(64, ge=2)
    training_samples: int = Field(20_000, ge=100)
    search_steps: int = Field(100, ge=1)
    search_rates: tuple[float, ...] = tuple(10.0**power for power in range(-8, 1))
    refinement: tuple[float, ...] = (0.3, 1.0, 3.0)
    steps: int = Field(600, ge=1)
    transfer_widths: tuple[int, ...] = (64, 256)
    transfer_depths: tuple[int, ...] = (5, 20)
    transfer_rates: tuple[float, ...] = tuple(2.0**power for power in range(-8, 7))
    transfer_steps: int = Field(100, ge=4)
    networks_at_once: int = Field(54, ge=1)


DEFAULTS: dict[Scale, Settings] = {
    "smoke": {
        "depth": 20,
        "width": 24,
        "batch_size": 16,
        "training_samples": 1000,
        "search_steps": 10,
        "search_rates": [1e-6, 1e-4, 1e-2, 1e-1],
        "refinement": [1.0],
        "steps": 40,
        "transfer_widths": [16, 32],
        "transfer_depths": [3, 6],
        "transfer_rates": [0.01, 0.1, 1.0, 10.0],
        "transfer_steps": 20,
    },
    "laptop": {},
    "paper": {
        "width": 256,
        "batch_size": 128,
        "training_samples": 55_000,
        "search_steps": 500,
        "steps": 4000,
        "transfer_widths": [64, 256, 1024],
        "transfer_depths": [5, 20, 60],
        "transfer_steps": 1000,
    },
}
"""Values of `TrainingSettings` at each scale."""
