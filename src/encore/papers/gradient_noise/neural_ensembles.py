"""Many small machines trained side by side: one batched network, one noise and one data stream for each member.

The experiments on learnt programs ask how often training succeeds, so each trains the same machine from many
starts, with and without noise. Parameters of all members are stacked, (E, …), and every layer is one batched matrix
product; members share nothing, and each meets the same numbers whoever else is in the ensemble.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from encore.base.configuration import Configuration
from encore.base.seeds import derive_seed
from encore.training.checkpoints import WholeCheckpoints
from encore.training.gradient_noise import noise_variance, standard_normal_

Batch = dict[str, Tensor]
"""Tensors by name: (B, …) of one member, (E, B, …) of the ensemble."""


@dataclass(frozen=True)
class Member:
    """One training of an ensemble.

    Attributes:
        seed: of its initial weights, data and dropout; arms that are compared share it.
        noise: η, the variance of the first step's gradient noise; 0 adds none.
        dropout: rate of the machine's dropout.
    """

    seed: int
    noise: float = 0.0
    dropout: float = 0.0


class Schedule(Configuration):
    """How the members of one ensemble are trained.

    Attributes:
        steps: optimiser steps.
        batch_size: fresh samples of each step.
        learning_rate, epsilon: Adam's.
        clip: largest norm of a member's gradient, before noise is added.
        decay: γ of the noise's variance.
        evaluate_every: steps between two looks at the held-out samples.
        advance_every: steps over which the loss is averaged before a harder stage begins.
        advance_below: mean loss at which it begins.
    """

    steps: int = Field(ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    epsilon: float = Field(default=1e-8, gt=0)
    clip: float = Field(default=1.0, gt=0)
    decay: float = Field(default=0.55, ge=0)
    evaluate_every: int = Field(default=100, ge=1)
    advance_every: int = Field(default=50, ge=1)
    advance_below: float = Field(default=0.1, ge=0)


class Draws:
    """Dropout masks of one step, drawn for each member from its own stream.

    Args:
        members: of the ensemble.
        step: optimiser step.
        device: where the masks are needed.
    """

    def __init__(self, members: Sequence[Member], step: int, device: torch.device) -> None:
        self._members, self._step, self._device = members, step, device
        self._seeds = {member.seed for member in members if member.dropout > 0}
        self._masks = 0

    def keep(self, *shape: int, scale: Tensor | float = 1.0) -> Tensor | None:
        """The step's next masks (E, *shape) of 0 and 1 / (1 - rate), or None where no member drops anything.

        Args:
            shape: of one member's mask. What varies with the other members, as a padded length does, comes first: a
                longer mask begins like a shorter one.
            scale: multiplies the rates, which end at 0.9; a tensor has a value for every member, (E, …).
        """
        if not self._seeds:
            return None
        self._masks += 1
        drawn = {seed: self._drawn(seed, shape) for seed in self._seeds}
        values = torch.stack([drawn.get(member.seed, torch.ones(shape)) for member in self._members])
        rates = torch.tensor([member.dropout for member in self._members]).view(-1, *[1] * len(shape))
        rates = (rates * (scale.cpu() if isinstance(scale, Tensor) else scale)).clamp_max(0.9)
        return ((values >= rates).float() / (1 - rates)).to(self._device)

    def _drawn(self, seed: int, shape: Sequence[int]) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(seed, "dropout", self._step, self._masks))
        return torch.rand(shape, generator=generator)


class EnsembleModel(nn.Module, ABC):
    """A machine whose parameters have a leading dimension for the members.

    Args:
        seeds: of the members' initial weights; a member starts alike in every ensemble.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        super().__init__()
        self.seeds = tuple(seeds)

    def uniform(self, name: str, *shape: int, bound: float) -> nn.Parameter:
        """A parameter (E, *shape) drawn from U(-bound, bound), for each member by its seed and `name`."""
        values = []
        for seed in self.seeds:
            generator = torch.Generator().manual_seed(derive_seed(seed, "initial weights", name))
            values.append((2 * torch.rand(shape, generator=generator) - 1) * bound)
        return nn.Parameter(torch.stack(values))

    def constant(self, value: float, *shape: int) -> nn.Parameter:
        """A parameter (E, *shape) that is `value` everywhere."""
        return nn.Parameter(torch.full((len(self.seeds), *shape), value))

    @abstractmethod
    def loss(self, batch: Batch, stages: Tensor, step: int, draws: Draws) -> tuple[Tensor, Tensor]:
        """Losses (E,) of a batch, and the part (E,) of them that is about its answers, which the curriculum looks at.

        `stages` (E,) int64 are the members' places in the curriculum.
        """

    @abstractmethod
    def errors(self, batch: Batch) -> Tensor:
        """Shares (E,) of wrong answers to a held-out batch, 0…1."""

    def tidy(self, stages: Tensor) -> None:
        """Change parameters in place after an optimiser step, where the machine asks for it."""


class Problem(ABC):
    """A machine with the samples that it learns from.

    Attributes:
        parts: names of the held-out parts; the first chooses the step that is kept.
        patient: whether training goes on once the first part has no errors, and the last of equally good steps is kept:
            for machines that are judged by something harder.
    """

    parts: tuple[str, ...] = ("val", "test")
    patient: bool = False

    @abstractmethod
    def model(self, seeds: Sequence[int]) -> EnsembleModel:
        """The untrained ensemble."""

    @abstractmethod
    def samples(self, generator: torch.Generator, count: int, stage: int) -> Batch:
        """Fresh samples of a stage of the curriculum, tensors (B, …)."""

    @abstractmethod
    def held_out(self, part: str) -> Batch:
        """The samples of a held-out part, the same for all members."""

    def together(self, batches: Sequence[Batch]) -> Batch:
        """The members' batches as one, tensors (E, B, …)."""
        return {name: torch.stack([batch[name] for batch in batches]) for name in batches[0]}


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W + b for each member: (E, B, I), (E, I, O), (E, O) → (E, B, O)."""
    return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight)


def clip_members_(gradients: Sequence[Tensor], clip: float) -> Tensor:
    """Scale each member's gradient to norm `clip` at most, in place; one that is not finite becomes zero.

    Args:
        gradients: (E, …) each.
        clip: largest norm over all of a member's parameters.

    Returns:
        The norms (E,) before clipping.
    """
    norms = torch.stack([torch.linalg.vector_norm(one.flatten(1), dim=1) for one in gradients]).norm(dim=0)
    finite = torch.isfinite(norms)
    scale = torch.where(finite, (clip / norms.clamp_min(1e-12)).clamp_max(1.0), 0.0)
    for one in gradients:
        if not bool(finite.all()):
            torch.nan_to_num_(one, nan=0.0, posinf=0.0, neginf=0.0)
        one.mul_(scale.view(-1, *[1] * (one.ndim - 1)))
    return norms


def add_member_noise_(gradients: Sequence[Tensor], members: Sequence[Member], step: int, decay: float) -> None:
    """Add to each member's gradient, in place, the noise that `GradientNoise(…, seed=member.seed)` would add to it.

    Args:
        gradients: (E, …) each.
        members: with their η.
        step: t, counted from 0.
        decay: γ.
    """
    sizes = [one[0].numel() for one in gradients]
    drawn = torch.empty(sum(sizes), device=gradients[0].device)
    for place, member in enumerate(members):
        if member.noise <= 0:
            continue
        standard_normal_(drawn, member.seed, step)
        std = math.sqrt(noise_variance(step, member.noise, decay))
        for one, values in zip(gradients, drawn.split(sizes), strict=True):
            one[place].add_(values.view_as(one[place]), alpha=std)


@dataclass
class Progress:
    """What a training has seen so far.

    Attributes:
        stages: (E,) int64, places in the curriculum.
        best: (E,) lowest error on the first held-out part.
        recent: (E,) sum of the costs since the curriculum was last looked at.
        step, seconds: taken so far.
        curves: as in `Outcome`.
    """

    stages: Tensor
    best: Tensor
    recent: Tensor
    step: int = 0
    seconds: float = 0.0
    curves: list[dict[str, list[float]]] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What an ensemble reached.

    Attributes:
        errors: by held-out part, a member's share of wrong answers at its best validation step.
        curves: for each evaluation the step and every member's error on the first held-out part.
        stages: the members' last places in the curriculum.
        steps: steps taken; fewer than scheduled where all members had solved the task.
        seconds: time of the whole ensemble.
    """

    errors: dict[str, list[float]]
    curves: list[dict[str, list[float]]]
    stages: list[int]
    steps: int
    seconds: float


def train_ensemble(
    problem: Problem,
    members: Sequence[Member],
    schedule: Schedule,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    report: Callable[[int, float], None] = lambda step, error: None,
    seconds_between: float = 60.0,
) -> Outcome:
    """Train all members for the same steps, keep each one's best validation step, and test it once.

    Args:
        problem: the machine and its samples.
        members: the trainings.
        schedule: how.
        device: where to compute.
        checkpoint: file to continue from and to save to, every `seconds_between` seconds.
        report: told of the step and of the mean validation error.
    """
    model = problem.model([member.seed for member in members]).to(device)
    parameters = list(model.parameters())
    adam = torch.optim.Adam(parameters, lr=schedule.learning_rate, eps=schedule.epsilon)
    state = Progress(
        torch.zeros(len(members), dtype=torch.int64), torch.full((len(members),), math.inf), _zeros(members)
    )
    kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
    held_out = {part: for_all(problem.held_out(part), len(members), device) for part in problem.parts}
    files = WholeCheckpoints()
    if checkpoint is not None and checkpoint.is_file():
        kept = _restore(checkpoint, model, adam, state)
    started = saved = time.monotonic()
    before = state.seconds
    while state.step < schedule.steps and (problem.patient or not bool((state.best == 0).all())):
        _step(problem, model, adam, members, schedule, state)
        if state.step % schedule.evaluate_every == 0 or state.step == schedule.steps:
            with torch.no_grad():
                errors = model.errors(held_out[problem.parts[0]]).cpu()
            better = errors <= state.best if problem.patient else errors < state.best
            state.best = torch.where(better, errors, state.best)
            for name, value in model.state_dict().items():
                kept[name][better] = value[better]
            state.curves.append({"step": [float(state.step)], "error": [round(float(one), 5) for one in errors]})
            report(state.step, float(state.best.mean()))
        state.seconds = before + time.monotonic() - started
        if checkpoint is not None and time.monotonic() - saved > seconds_between:
            saved = time.monotonic()
            files.save_checkpoint(
                {"model": model.state_dict(), "adam": adam.state_dict(), "kept": kept, "state": vars(state)}, checkpoint
            )
    model.load_state_dict(kept)
    with torch.no_grad():
        found = {part: [float(one) for one in model.errors(batch)] for part, batch in held_out.items()}
    return Outcome(found, state.curves, state.stages.tolist(), state.step, round(state.seconds, 1))


def _step(
    problem: Problem,
    model: EnsembleModel,
    adam: torch.optim.Adam,
    members: Sequence[Member],
    schedule: Schedule,
    state: Progress,
) -> None:
    """One optimiser step of all members, and their way through the curriculum."""
    step = state.step
    device = next(model.parameters()).device
    made: dict[tuple[int, int], Batch] = {}
    for member, stage in zip(members, state.stages.tolist(), strict=True):
        if (member.seed, stage) not in made:
            generator = torch.Generator().manual_seed(derive_seed(member.seed, "samples", step))
            made[member.seed, stage] = problem.samples(generator, schedule.batch_size, stage)
    batches = [made[member.seed, stage] for member, stage in zip(members, state.stages.tolist(), strict=True)]
    batch = {name: value.to(device) for name, value in problem.together(batches).items()}
    losses, costs = model.loss(batch, state.stages.to(device), step, Draws(members, step, device))
    adam.zero_grad()
    losses.sum().backward()
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    clip_members_(gradients, schedule.clip)
    add_member_noise_(gradients, members, step, schedule.decay)
    adam.step()
    with torch.no_grad():
        model.tidy(state.stages.to(device))
    state.recent += costs.detach().cpu()
    state.step = step + 1
    if state.step % schedule.advance_every == 0:
        state.stages += state.recent / schedule.advance_every < schedule.advance_below
        state.recent = _zeros(members)


def _zeros(members: Sequence[Member]) -> Tensor:
    return torch.zeros(len(members))


def for_all(batch: Mapping[str, Tensor], members: int, device: torch.device) -> Batch:
    """One batch (B, …) for all members, (E, B, …), without copies."""
    return {name: value.to(device).expand(members, *value.shape) for name, value in batch.items()}


def _restore(path: Path, model: EnsembleModel, adam: torch.optim.Adam, state: Progress) -> dict[str, Tensor]:
    """Bring everything back to where it was saved; returns the best parameters so far."""
    saved: dict[str, Any] = torch.load(path, map_location=next(model.parameters()).device, weights_only=True)
    model.load_state_dict(saved["model"])
    adam.load_state_dict(saved["adam"])
    for name, value in saved["state"].items():
        setattr(state, name, value.cpu() if isinstance(value, Tensor) else value)
    kept: dict[str, Tensor] = saved["kept"]
    return kept
