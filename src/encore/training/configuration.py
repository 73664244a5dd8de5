"""How to train: optimiser, schedule and length."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from encore.base.configuration import Configuration


class TrainingConfiguration(Configuration):
    """Optimiser, schedule and length of one training.

    Attributes:
        epochs: passes over the training part.
        batch_size: samples a step, over all devices.
        optimizer: `sgd` (with momentum), `adam`, `adamw` or `lamb`.
        learning_rate: its peak.
        momentum: of SGD, and beta1 of the others.
        beta2: of Adam, AdamW and LAMB.
        lamb_always_adapt: LAMB's trust ratio also scales the steps of parameters without weight decay.
        lamb_bias_correction: LAMB corrects its averages for their beginning at zero.
        weight_decay: on weights; biases, normalisation parameters and what the model names in `no_weight_decay` are
            left out.
        final_weight_decay: the decay goes from `weight_decay` to this along half a cosine; null keeps it.
        bias_learning_rate_factor: biases learn this many times faster (2 in many Caffe recipes).
        layer_decay: the learning rate of each layer is that of the next one, towards the output, times this; null for
            one rate. The model has to tell its layers: see `encore.nn.layer_depths`.
        schedule: `constant`, `one_cycle` or `cosine`, stepped per batch.
        warmup_epochs: over this many epochs, or parts of one, the learning rate first rises linearly to its peak;
            `one_cycle` has its own.
        initial_learning_rate_factor: where the warm-up begins, as a factor of the peak.
        final_learning_rate_factor: where `cosine` ends, as a factor of the peak.
        gradient_clip: largest gradient norm, or null.
        gradient_noise: variance of Gaussian noise on every gradient at the first step, after clipping (arXiv
            1511.06807: 0.01, 0.3 or 1); null for none. See `encore.training.gradient_noise`.
        gradient_noise_decay: γ, how fast that variance fades, as 1 / (1 + steps)^γ.
        gradient_noise_start: optimiser steps before the first noise.
        ema_decay: validate and keep an exponential moving average of the weights, which keeps this share of itself
            at every step (0.9999); null keeps the weights themselves. Batch statistics are averaged as well.
        patience: stop after this many epochs without a better validation metric; null trains to the end.
        recompute_batch_norm: after training, average the batch statistics over the training part
            (SegNet's official procedure) instead of keeping the running mean.
        num_workers: loader processes; 0 loads in the training process.
        channels_last: memory format of convolutions; faster on CPUs and tensor cores.
        checkpoint_minutes: also save in the middle of an epoch, this often.
    """

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=8, ge=1)
    optimizer: Literal["sgd", "adam", "adamw", "lamb"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    lamb_always_adapt: bool = False
    lamb_bias_correction: bool = True
    weight_decay: float = Field(default=1e-4, ge=0)
    final_weight_decay: float | None = Field(default=None, ge=0)
    bias_learning_rate_factor: float = Field(default=1.0, gt=0)
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    schedule: Literal["constant", "one_cycle", "cosine"] = "one_cycle"
    warmup_epochs: float = Field(default=0.0, ge=0)
    initial_learning_rate_factor: float = Field(default=0.01, ge=0, le=1)
    final_learning_rate_factor: float = Field(default=0.0, ge=0, le=1)
    gradient_clip: float | None = Field(default=None, gt=0)
    gradient_noise: float | None = Field(default=None, gt=0)
    gradient_noise_decay: float = Field(default=0.55, ge=0)
    gradient_noise_start: int = Field(default=0, ge=0)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    patience: int | None = Field(default=None, ge=1)
    recompute_batch_norm: bool = True
    num_workers: int = Field(default=0, ge=0)
    channels_last: bool = True
    checkpoint_minutes: float = Field(default=5.0, gt=0)

    @field_validator("warmup_epochs")
    @classmethod
    def _warmup_fits(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("schedule") == "one_cycle":
            raise ValueError("the schedule one_cycle has its own warm-up; choose schedule=cosine or constant")
        if value and value >= info.data.get("epochs", value + 1):
            raise ValueError("a warm-up is shorter than the training; give fewer warmup_epochs than epochs")
        return value

    @field_validator("final_learning_rate_factor")
    @classmethod
    def _final_factor_fits(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("schedule", "cosine") != "cosine":
            raise ValueError("only the schedule cosine ends at a factor; choose schedule=cosine")
        return value
