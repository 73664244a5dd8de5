"""How long forward and backward passes take, several models in one go so that ratios are fair."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class PassTimes:
    """Milliseconds of single passes, in the order in which they were taken."""

    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)


@torch.no_grad()
def time_forward(models: Mapping[str, nn.Module], x: Tensor, repeats: int = 3) -> dict[str, list[float]]:
    """Time `model(x)` for every model in turn, `repeats` rounds after one that is not counted.

    The rounds go over all models, so that whatever else disturbs the machine disturbs all of them alike.

    Args:
        models: in evaluation mode, on the device of `x`.
        x: one input for all.
        repeats: rounds that count.

    Returns:
        Milliseconds of each pass by model.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    for round_ in range(repeats + 1):
        for name, model in models.items():
            elapsed = milliseconds(lambda model=model: model(x), x.device)  # type: ignore[misc]
            if round_ > 0:
                times[name].append(elapsed)
    return times


def time_training_steps(models: Mapping[str, nn.Module], x: Tensor, repeats: int = 3) -> dict[str, list[float]]:
    """Time forward and backward together for every model in turn, as `time_forward` does.

    Args:
        models: on the device of `x`; put into training mode, their gradients thrown away.
        x: one input for all; the loss is the mean of the output.
        repeats: rounds that count.

    Returns:
        Milliseconds of each step by model.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    for round_ in range(repeats + 1):
        for name, model in models.items():
            model.train()
            elapsed = milliseconds(lambda model=model: model(x).float().mean().backward(), x.device)  # type: ignore[misc]
            model.zero_grad(set_to_none=True)
            if round_ > 0:
                times[name].append(elapsed)
    return times


def time_training_step(model: nn.Module, x: Tensor, repeats: int = 2) -> PassTimes:
    """Time forward and backward of a model in training mode, after one step that is not counted.

    Args:
        model: on the device of `x`; its gradients are thrown away.
        x: the input; the loss is the mean of the output.
    """
    times = PassTimes()
    model.train()
    for round_ in range(repeats + 1):
        output: list[Tensor] = []
        forward = milliseconds(lambda output=output: output.append(model(x).float().mean()), x.device)  # type: ignore[misc]
        backward = milliseconds(output[0].backward, x.device)
        model.zero_grad(set_to_none=True)
        if round_ > 0:
            times.forward.append(forward)
            times.backward.append(backward)
    return times


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of `work`, finished on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - started)
