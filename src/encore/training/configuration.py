"""How to train: optimiser, schedule and length."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from encore.base.configuration import Configuration


class TrainingConfiguration(Configuration):
    """Optimiser, schedule and length of one training.

    Attributes:
        epochs: passes over the training part.
        batch_size: samples a step, over all devices.
        optimizer: `sgd` (with momentum), `adam` or `adamw`.
        learning_rate: its peak.
        momentum: of SGD, and beta1 of the others.
        weight_decay: on weights; biases and normalisation parameters are left out.
        bias_learning_rate_factor: biases learn this many times faster (2 in many Caffe recipes).
        schedule: `constant`, `one_cycle` or `cosine`, stepped per batch.
        gradient_clip: largest gradient norm, or null.
        patience: stop after this many epochs without a better validation metric; null trains to the end.
        recompute_batch_norm: after training, average the batch statistics over the training part
            (SegNet's official procedure) instead of keeping the running mean.
        num_workers: loader processes; 0 loads in the training process.
        channels_last: memory format of convolutions; faster on CPUs and tensor cores.
        checkpoint_minutes: also save in the middle of an epoch, this often.
    """

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=8, ge=1)
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    bias_learning_rate_factor: float = Field(default=1.0, gt=0)
    schedule: Literal["constant", "one_cycle", "cosine"] = "one_cycle"
    gradient_clip: float | None = Field(default=None, gt=0)
    patience: int | None = Field(default=None, ge=1)
    recompute_batch_norm: bool = True
    num_workers: int = Field(default=0, ge=0)
    channels_last: bool = True
    checkpoint_minutes: float = Field(default=5.0, gt=0)
