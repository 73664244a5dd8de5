"""The settings of SparK's trainings at each scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from encore.base.configuration import Configuration
from encore.base.runtime import Scale
from encore.papers.spark.fit import SparKFit
from encore.tasks.classification import ClassificationFit
from encore.tasks.segmentation import SegmentationFit


class SparKConfiguration(Configuration):
    """Keys of `encore run spark`, for each of its trainings.

    Attributes:
        pretraining: of all arms, without labels.
        finetuning: with `finetuning.train_samples` labelled pictures.
        dense_pretraining: on the pictures of street scenes, without masks.
        dense_finetuning: with `dense_labels` of their masks.
        unlabelled: pictures to pre-train on; null for all.
        validation: labelled pictures that pick the epoch; null for all.
        test: pictures that are measured; null for all.
        dense_labels: street scenes with masks.
    """

    pretraining: SparKFit = Field(default_factory=SparKFit)
    finetuning: ClassificationFit = Field(default_factory=ClassificationFit)
    dense_pretraining: SparKFit = Field(default_factory=SparKFit)
    dense_finetuning: SegmentationFit = Field(default_factory=SegmentationFit)
    unlabelled: int | None = Field(default=4000, ge=20)
    validation: int | None = Field(default=200, ge=2)
    test: int | None = Field(default=5000, ge=2)
    dense_labels: int = Field(default=40, ge=2)


_RESNET = {
    "layer_type": "basic",
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [16, 32, 64, 128],
    "embedding_size": 16,
}

_TRAINING: dict[str, Any] = {"batch_size": 64, "optimizer": "adamw", "recompute_batch_norm": False}

_SMALL: dict[str, Any] = {
    "pretraining": {
        "backbone": "resnet",
        "backbone_arguments": {**_RESNET, "small_stem": True},
        "decoder_width": 64,
        "image_size": [32, 32],
        "horizontal_flip": 0.0,
        "training": {
            **_TRAINING,
            "epochs": 10,
            "learning_rate": 2e-3,
            "weight_decay": 0.05,
            "schedule": "one_cycle",
        },
    },
    "finetuning": {
        "train_samples": 100,
        "model": "resnet",
        "model_arguments": {**_RESNET, "small_stem": True},
        "image_size": [32, 32],
        "crop_ratio": 1.0,
        "label_smoothing": 0.1,
        "augmentation": {"crop": "padded", "crop_padding": 2, "horizontal_flip": 0.0},
        "training": {**_TRAINING, "batch_size": 20, "epochs": 30, "learning_rate": 1e-3, "schedule": "one_cycle"},
    },
    "dense_pretraining": {
        "backbone": "resnet",
        "backbone_arguments": _RESNET,
        "decoder_width": 128,
        "image_size": [96, 128],
        "training": {**_TRAINING, "batch_size": 32, "epochs": 40, "learning_rate": 2e-3, "weight_decay": 0.05},
    },
    "dense_finetuning": {
        "model": "upernet",
        "model_arguments": {"backbone": "resnet", "backbone_arguments": _RESNET, "channels": 64},
        "image_size": [96, 128],
        "training": {**_TRAINING, "batch_size": 8, "epochs": 20, "learning_rate": 2e-3, "schedule": "one_cycle"},
    },
}


def _changed(settings: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Settings with a training of other length."""
    return {**settings, "training": {**settings["training"], **changes}}


_LAMB: dict[str, Any] = {
    "optimizer": "lamb",
    "schedule": "cosine",
    "recompute_batch_norm": False,
    "num_workers": 8,
}

DEFAULTS: dict[Scale, dict[str, Any]] = {
    "smoke": {
        **_SMALL,
        "pretraining": _changed(_SMALL["pretraining"], epochs=1),
        "finetuning": {**_changed(_SMALL["finetuning"], epochs=1), "train_samples": 40},
        "dense_pretraining": _changed(_SMALL["dense_pretraining"], epochs=1),
        "dense_finetuning": _changed(_SMALL["dense_finetuning"], epochs=1),
        "unlabelled": 64,
        "validation": 20,
        "test": 50,
        "dense_labels": 8,
    },
    "laptop": _SMALL,
    # Sections 2.7 and 2.8 of the official configuration, ResNet-50.
    "paper": {
        **_SMALL,
        "pretraining": {
            "backbone": "resnet50",
            "backbone_arguments": {"drop_path": 0.05},
            "decoder_width": 768,
            "image_size": [224, 224],
            "training": {
                **_LAMB,
                "epochs": 1600,
                "batch_size": 4096,
                "learning_rate": 3.2e-3,
                "beta2": 0.95,
                "weight_decay": 0.04,
                "final_weight_decay": 0.2,
                "warmup_epochs": 40,
                "initial_learning_rate_factor": 0.005,
                "final_learning_rate_factor": 0.001,
                "gradient_clip": 5.0,
            },
        },
        "finetuning": {
            "model": "resnet50",
            "model_arguments": {"drop_path": 0.05},
            "image_size": [224, 224],
            "crop_ratio": 0.95,
            "loss": "binary_cross_entropy",
            "mixup": 0.1,
            "cutmix": 1.0,
            "label_smoothing": 0.1,
            "augmentation": {
                "crop": "resized",
                "crop_scale": [0.08, 1.0],
                "horizontal_flip": 0.5,
                "trivial_augment": True,
                "random_erasing": 0.25,
                "random_erasing_fill": "noise",
            },
            "training": {
                **_LAMB,
                "epochs": 300,
                "batch_size": 2048,
                "learning_rate": 1.6e-2,
                "weight_decay": 0.02,
                "warmup_epochs": 5,
                "lamb_always_adapt": True,
                "lamb_bias_correction": False,
                "layer_decay": 0.7,
                "ema_decay": 0.9999,
            },
        },
        "unlabelled": None,
        "validation": None,
        "test": None,
    },
}
