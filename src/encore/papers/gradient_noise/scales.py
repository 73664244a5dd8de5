"""The settings of the recipe's parts at each scale."""

from __future__ import annotations

from typing import Any

from encore.base.configuration import Configuration
from encore.base.runtime import Scale
from encore.papers.gradient_noise import (
    deep_mlp_settings,
    memory_network_part,
    neural_gpu_part,
    neural_programmer_part,
    neural_ram_part,
)
from encore.papers.gradient_noise.deep_mlp_settings import DeepMLPSettings
from encore.papers.gradient_noise.memory_network_training import MemoryNetworkSettings
from encore.papers.gradient_noise.neural_gpu_part import NeuralGPUSettings
from encore.papers.gradient_noise.neural_programmer_part import NeuralProgrammerSettings
from encore.papers.gradient_noise.neural_ram_part import NeuralRAMSettings

_PARTS = {
    "mlp": deep_mlp_settings,
    "memory_network": memory_network_part,
    "neural_programmer": neural_programmer_part,
    "neural_ram": neural_ram_part,
    "neural_gpu": neural_gpu_part,
}


class GradientNoiseConfiguration(Configuration):
    """Keys of `encore run gradient_noise`, a section for each experiment.

    Attributes:
        mlp: deep plain networks.
        memory_network: end-to-end memory networks.
        neural_programmer: questions to tables.
        neural_ram: arrays and linked lists.
        neural_gpu: binary multiplication.
    """

    mlp: DeepMLPSettings = DeepMLPSettings()
    memory_network: MemoryNetworkSettings = MemoryNetworkSettings()
    neural_programmer: NeuralProgrammerSettings = NeuralProgrammerSettings()
    neural_ram: NeuralRAMSettings = NeuralRAMSettings()
    neural_gpu: NeuralGPUSettings = NeuralGPUSettings()


SCALES: tuple[Scale, ...] = ("smoke", "laptop", "paper")

DEFAULTS: dict[Scale, dict[str, Any]] = {
    scale: {section: dict(part.DEFAULTS[scale]) for section, part in _PARTS.items()} for scale in SCALES
}
