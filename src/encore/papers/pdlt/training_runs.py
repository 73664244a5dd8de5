"""Ensembles trained in pieces that a killed run need not repeat."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from encore.data.contracts import DataSplits
from encore.nn.checkpoints import write_safetensors
from encore.papers.pdlt.training_networks import Ensemble, NetworkPlan, batches, small_numbers_are_zero
from encore.results.performance import Performance

_SECONDS_BETWEEN_CHECKPOINTS = 120.0


@dataclass(frozen=True)
class Digits:
    """Pictures as vectors, and their classes.

    Attributes:
        train, val, test: (N, n_0) float32, of mean 0 and mean square 1 over the training part, and (N,) int64.
    """

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    num_classes: int

    @property
    def num_inputs(self) -> int:
        """n_0."""
        return self.train[0].shape[1]


def as_vectors(splits: DataSplits, most: int, device: torch.device) -> Digits:
    """Grey vectors of all three parts; at most `most` of the training part, and a tenth of that for validation."""
    parts = {
        "train": _vectors(splits.train, most),
        "val": _vectors(splits.val, max(most // 10, 100)),
        "test": _vectors(splits.test, len(splits.test)),
    }
    pixels = parts["train"][0]
    mean, deviation = pixels.mean(), pixels.std()
    ready = {name: (((x - mean) / deviation).to(device), labels.to(device)) for name, (x, labels) in parts.items()}
    return Digits(ready["train"], ready["val"], ready["test"], len(splits.classes))


def _vectors(part: Any, most: int) -> tuple[Tensor, Tensor]:
    samples = [part[index] for index in range(min(most, len(part)))]
    images = torch.stack([sample["image"] for sample in samples]).float().mean(1)
    return images.flatten(1), torch.tensor([sample["label"] for sample in samples])


@dataclass(frozen=True)
class TrainedNetwork:
    """What one network of an ensemble came to.

    Attributes:
        name, seed, learning_rate: which.
        val, test: accuracies in per cent.
        loss: mean training loss of the last quarter of its steps; infinite where it diverged.
    """

    name: str
    seed: int
    learning_rate: float
    val: float
    test: float
    loss: float


def trained(
    performance: Performance,
    step_name: str,
    plans: Sequence[NetworkPlan],
    widths: Sequence[int],
    activation: Callable[[Tensor], Tensor],
    digits: Digits,
    *,
    steps: int,
    batch_size: int,
    at_once: int,
) -> list[TrainedNetwork]:
    """Train networks in ensembles of at most `at_once`; each that is done leaves a file in the run's folder."""
    assert performance.folder is not None
    rows: list[dict[str, Any]] = []
    for place, start in enumerate(range(0, len(plans), at_once)):
        name = f"training/{step_name}_{place}"
        done = performance.folder.finished(name)
        if done is None:
            performance.folder.subfolder("training")
            chunk = plans[start : start + at_once]
            done = _trained_ensemble(
                performance, name, chunk, widths, activation, digits, steps=steps, batch_size=batch_size
            )
            performance.folder.finish(name, done)
            (performance.path / f"{name}.safetensors").unlink(missing_ok=True)
        rows += done
    return [TrainedNetwork(**{**row, "loss": math.inf if row["loss"] is None else row["loss"]}) for row in rows]


def _trained_ensemble(
    performance: Performance,
    name: str,
    plans: Sequence[NetworkPlan],
    widths: Sequence[int],
    activation: Callable[[Tensor], Tensor],
    digits: Digits,
    *,
    steps: int,
    batch_size: int,
) -> list[dict[str, Any]]:
    x, labels = digits.train
    ensemble = Ensemble(widths, activation, plans, x.device)
    checkpoint = performance.path / f"{name}.safetensors"
    late = torch.zeros(len(plans), device=x.device)
    first = 0
    if checkpoint.is_file():
        first, late = _restored(ensemble, checkpoint)
    from_step = steps - max(steps // 4, 1)
    saved = time.monotonic()
    with small_numbers_are_zero():
        for step, indices in enumerate(batches([plan.seed for plan in plans], len(x), batch_size, steps)):
            if step < first:
                continue
            chosen = indices.to(x.device)
            losses = ensemble.step(x[chosen], labels[chosen])
            if step >= from_step:
                late += losses / (steps - from_step)
            performance.progress.update(name, step + 1, steps, {"networks": float(len(plans))})
            if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                _save(ensemble, checkpoint, step + 1, late)
                saved = time.monotonic()
        val, test = ensemble.accuracies(*digits.val), ensemble.accuracies(*digits.test)
    return [
        {
            "name": plan.name,
            "seed": plan.seed,
            "learning_rate": plan.learning_rate,
            "val": float(val[place]),
            "test": float(test[place]),
            "loss": float(late[place]) if math.isfinite(float(late[place])) else None,
        }
        for place, plan in enumerate(plans)
    ]


def _save(ensemble: Ensemble, path: Path, step: int, late: Tensor) -> None:
    tensors = {f"weights.{place}": one.detach().cpu() for place, one in enumerate(ensemble.weights)}
    tensors |= {f"biases.{place}": one.detach().cpu() for place, one in enumerate(ensemble.biases)}
    write_safetensors(path, {**tensors, "step": torch.tensor(step), "late": late.cpu()})


def _restored(ensemble: Ensemble, path: Path) -> tuple[int, Tensor]:
    tensors = load_file(path)
    with torch.no_grad():
        for place, (weight, bias) in enumerate(zip(ensemble.weights, ensemble.biases, strict=True)):
            weight.copy_(tensors[f"weights.{place}"])
            bias.copy_(tensors[f"biases.{place}"])
    return int(tensors["step"]), tensors["late"].to(ensemble.weights[0].device)


def best_rate(networks: Sequence[TrainedNetwork], name: str) -> float:
    """The learning rate with which an arm has the best mean validation accuracy; the smaller of equals."""
    rates = sorted({one.learning_rate for one in networks if one.name == name})
    return max(rates, key=lambda rate: _mean([one.val for one in networks if _is(one, name, rate)]))


def rate_of_lowest_loss(networks: Sequence[TrainedNetwork], name: str) -> float:
    """The learning rate with which an arm has the lowest mean loss; the smallest rate if it always diverges."""
    rates = sorted({one.learning_rate for one in networks if one.name == name})
    return min(rates, key=lambda rate: _mean([one.loss for one in networks if _is(one, name, rate)]))


def chosen(networks: Sequence[TrainedNetwork], name: str, rate: float) -> list[TrainedNetwork]:
    """The networks of an arm with one learning rate, by seed."""
    return sorted((one for one in networks if _is(one, name, rate)), key=lambda one: one.seed)


def _is(one: TrainedNetwork, name: str, rate: float) -> bool:
    return one.name == name and one.learning_rate == rate


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def seconds_a_network_step(
    widths: Sequence[int], activation: Callable[[Tensor], Tensor], plan: NetworkPlan, batch_size: int, count: int
) -> float:
    """Seconds that one step of one network takes in an ensemble of `count`, timed here."""
    ensemble = Ensemble(widths, activation, [replace(plan, seed=seed) for seed in range(count)])
    x = torch.randn(count, batch_size, widths[0])
    labels = torch.zeros(count, batch_size, dtype=torch.long)
    ensemble.step(x, labels)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        ensemble.step(x, labels)
        seconds.append(time.perf_counter() - started)
    return min(seconds) / count
