"""Optimisers and schedules from a training configuration."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from encore.training.configuration import TrainingConfiguration


def parameter_groups(model: nn.Module, configuration: TrainingConfiguration) -> list[dict[str, Any]]:
    """Weights with decay; biases and normalisation parameters (one-dimensional) without, at their own rate."""
    weights: list[nn.Parameter] = []
    scales: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim > 1:
            weights.append(parameter)
        else:
            (biases if name.endswith("bias") else scales).append(parameter)
    rate = configuration.learning_rate
    groups = [
        {"params": weights, "lr": rate, "weight_decay": configuration.weight_decay},
        {"params": scales, "lr": rate, "weight_decay": 0.0},
        {"params": biases, "lr": rate * configuration.bias_learning_rate_factor, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, configuration: TrainingConfiguration) -> torch.optim.Optimizer:
    """The optimiser that the configuration names, over `parameter_groups`."""
    groups = parameter_groups(model, configuration)
    if configuration.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=configuration.learning_rate, momentum=configuration.momentum)
    kind = torch.optim.Adam if configuration.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=configuration.learning_rate, betas=(configuration.momentum, 0.999))


def make_schedule(
    optimizer: torch.optim.Optimizer, configuration: TrainingConfiguration, total_steps: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The schedule over `total_steps` optimiser steps, or None where the rate is constant."""
    if configuration.schedule == "constant":
        return None
    if configuration.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps)
    rates = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rates, total_steps=max(total_steps, 2), pct_start=0.3, cycle_momentum=False
    )
