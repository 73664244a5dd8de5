"""What `encore fit prototypes` begins with: the paper's training, on any pictures."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from encore.data.classification_augmentation import ClassificationAugmentation
from encore.tasks.classification import ClassificationFit
from encore.training.configuration import TrainingConfiguration

TRAINING: dict[str, Any] = {
    "batch_size": 250,
    "optimizer": "adam",
    "learning_rate": 0.002,
    "weight_decay": 0.0,
    "schedule": "constant",
    "recompute_batch_norm": False,
}
"""The official code's optimiser."""

PICTURES: dict[str, Any] = {"crop": "none", "horizontal_flip": 0.0, "elastic_strength": 0.0}
"""Digits are neither cropped nor mirrored."""

ELASTIC: dict[str, Any] = {**PICTURES, "elastic_strength": 20.0, "elastic_smoothness": 4.0}
"""The official code deforms every picture of a training batch; the deformed one is also what is restored."""


class PrototypesFit(ClassificationFit):
    """Keys of `encore fit prototypes`: those of `classification`, with the paper's values.

    The model's own are set by `model_arguments`, as in `model_arguments.num_prototypes=20`, `.per_class=true`,
    `.encoder=resnet18`, `.r1_weight=0`.
    """

    model: str = "prototypes"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augmentation: ClassificationAugmentation = Field(default_factory=lambda: ClassificationAugmentation(**ELASTIC))
    training: TrainingConfiguration = TrainingConfiguration(epochs=100, **TRAINING)
