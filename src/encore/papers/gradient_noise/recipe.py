"""Performs the paper's five experiments, each by a part of its own."""

from __future__ import annotations

from pydantic import Field

from encore.data.classification_augmentation import ClassificationAugmentation
from encore.papers.gradient_noise.deep_mlp_part import MNIST
from encore.papers.gradient_noise.deep_mlp_part import PART as DEEP_MLP
from encore.papers.gradient_noise.memory_network_part import PART as MEMORY_NETWORK
from encore.papers.gradient_noise.neural_gpu_part import PART as NEURAL_GPU
from encore.papers.gradient_noise.neural_programmer_part import PART as NEURAL_PROGRAMMER
from encore.papers.gradient_noise.neural_ram_part import PART as NEURAL_RAM
from encore.papers.gradient_noise.scales import DEFAULTS, GradientNoiseConfiguration
from encore.results.parts import PartsRecipe
from encore.tasks.classification import ClassificationFit
from encore.training.configuration import TrainingConfiguration


class DeepMLPFit(ClassificationFit):
    """Keys of `encore fit gradient_noise`: the deep plain network, trained as in the paper, or any other model.

    Attributes:
        training: plain gradient descent, clipped at 10, with noise 0.01.
    """

    model: str = "deep_mlp"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augmentation: ClassificationAugmentation = ClassificationAugmentation(crop="none", horizontal_flip=0.0)
    training: TrainingConfiguration = TrainingConfiguration(
        epochs=40,
        batch_size=32,
        optimizer="sgd",
        learning_rate=0.1,
        momentum=0.0,
        weight_decay=0.0,
        schedule="constant",
        gradient_clip=10.0,
        gradient_noise=0.01,
        recompute_batch_norm=False,
        channels_last=False,
    )


FitConfiguration = DeepMLPFit
"""What `encore fit gradient_noise` takes."""


class GradientNoiseRecipe(PartsRecipe):
    """Deep plain networks, memory networks, Neural Programmers, Neural RAMs and Neural GPUs, with and without noise."""

    data_name = MNIST
    default_seeds = {"smoke": 1, "laptop": 5, "paper": 20}  # noqa: RUF012
    parts = (DEEP_MLP, MEMORY_NETWORK, NEURAL_PROGRAMMER, NEURAL_RAM, NEURAL_GPU)
    kind = GradientNoiseConfiguration
    defaults = DEFAULTS


RECIPE = GradientNoiseRecipe()
