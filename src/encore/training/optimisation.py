"""Optimisers and schedules from a training configuration."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

import lightning
import torch
from torch import nn

from encore.nn.layer_depths import parameter_depths
from encore.training.configuration import TrainingConfiguration
from encore.training.gradient_noise import GradientNoise
from encore.training.lamb import Lamb


def parameter_groups(model: nn.Module, configuration: TrainingConfiguration) -> list[dict[str, Any]]:
    """Weights with decay; biases and normalisation parameters (one-dimensional) without, at their own rate.

    What `model` or a module in it names in a method `no_weight_decay` (names of its parameters) is without decay as
    well. With `layer_decay` each layer has such groups of its own, the input's first.

    Raises:
        InputError: `layer_decay` is set and the model does not tell its layers.
    """
    rate, decay = configuration.learning_rate, configuration.layer_decay
    parameters = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    if decay is None:
        return _kinds(model, parameters, rate, configuration)
    depths = parameter_depths(model)
    last = max(depths.values())
    groups = []
    for depth in sorted(set(depths.values())):
        layer = [(name, one) for name, one in parameters if depths[name] == depth]
        groups += _kinds(model, layer, rate * decay ** (last - depth), configuration)
    return groups


def _kinds(
    model: nn.Module, parameters: Iterable[tuple[str, nn.Parameter]], rate: float, configuration: TrainingConfiguration
) -> list[dict[str, Any]]:
    exempt = _without_decay(model)
    weights: list[nn.Parameter] = []
    scales: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for name, parameter in parameters:
        if parameter.ndim > 1 and name not in exempt:
            weights.append(parameter)
        else:
            (biases if name.endswith("bias") else scales).append(parameter)
    groups = [
        {"params": weights, "lr": rate, "weight_decay": configuration.weight_decay, "decays": True},
        {"params": scales, "lr": rate, "weight_decay": 0.0, "decays": False},
        {"params": biases, "lr": rate * configuration.bias_learning_rate_factor, "weight_decay": 0.0, "decays": False},
    ]
    return [group for group in groups if group["params"]]


def _without_decay(model: nn.Module) -> set[str]:
    """Names of the parameters that the modules of `model` want no decay on."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if hasattr(module, "no_weight_decay")
        for name in module.no_weight_decay()
    }


def make_optimizer(model: nn.Module, configuration: TrainingConfiguration) -> torch.optim.Optimizer:
    """The optimiser that the configuration names, over `parameter_groups`; with gradient noise if that is wanted.

    The noise follows PyTorch's seed, which `encore.training.trainer.train` sets alike in all processes.
    """
    optimizer = _plain_optimizer(model, configuration)
    if configuration.gradient_noise is None:
        return optimizer
    return GradientNoise(
        optimizer,
        configuration.gradient_noise,
        configuration.gradient_noise_decay,
        start_step=configuration.gradient_noise_start,
        seed=torch.initial_seed(),
    )


def _plain_optimizer(model: nn.Module, configuration: TrainingConfiguration) -> torch.optim.Optimizer:
    groups = parameter_groups(model, configuration)
    rate, betas = configuration.learning_rate, (configuration.momentum, configuration.beta2)
    if configuration.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=configuration.momentum)
    if configuration.optimizer == "lamb":
        return Lamb(
            groups,
            lr=rate,
            betas=betas,
            always_adapt=configuration.lamb_always_adapt,
            bias_correction=configuration.lamb_bias_correction,
        )
    kind = torch.optim.Adam if configuration.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=rate, betas=betas)


def make_schedule(
    optimizer: torch.optim.Optimizer, configuration: TrainingConfiguration, total_steps: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The schedule over `total_steps` optimiser steps, or None where the rate is constant."""
    if configuration.warmup_epochs or configuration.final_learning_rate_factor:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, configuration, total_steps))
    if configuration.schedule == "constant":
        return None
    if configuration.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps)
    rates = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rates, total_steps=max(total_steps, 2), pct_start=0.3, cycle_momentum=False
    )


def configured_optimizers(module: lightning.LightningModule, configuration: TrainingConfiguration) -> Any:
    """What a task's module answers to `configure_optimizers`: its `model`'s optimiser, a schedule stepped per batch."""
    optimizer = make_optimizer(cast("nn.Module", module.model), configuration)
    schedule = make_schedule(optimizer, configuration, int(module.trainer.estimated_stepping_batches))
    if schedule is None:
        return optimizer
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def rate_factor(step: int, configuration: TrainingConfiguration, total_steps: int) -> float:
    """The learning rate of `step` as a factor of its peak: a linear rise, then half a cosine or a constant.

    Args:
        step: counted from 0.
        configuration: `epochs`, `warmup_epochs`, the initial and the final factor, `cosine` or `constant`.
        total_steps: of the whole training.
    """
    warmup = round(total_steps * configuration.warmup_epochs / configuration.epochs)
    if step < warmup:
        first = configuration.initial_learning_rate_factor
        return first + (1 - first) * step / warmup
    if configuration.schedule == "constant":
        return 1.0
    final = configuration.final_learning_rate_factor
    share = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
    return final + (1 - final) * (1 + math.cos(math.pi * share)) / 2
