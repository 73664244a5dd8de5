"""Memory networks that learn at once: every seed, with and without noise, with and without a linear start."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from encore.base.configuration import Configuration
from encore.base.errors import DivergenceError
from encore.base.files import replacing
from encore.base.seeds import derive_seed
from encore.papers.gradient_noise.memory_network import INITIAL_STD, respond
from encore.papers.gradient_noise.memory_network_problem import (
    PARTS,
    EncodedQuestions,
    Problem,
    memories_with_gaps,
    memories_without_gaps,
)
from encore.training.gradient_noise import noise_variance, standard_normal_

SECONDS_BETWEEN_CHECKPOINTS = 30.0

_QUESTIONS_AT_ONCE = 128
"""In an evaluation."""


class MemoryNetworkSettings(Configuration):
    """The recipe of Sukhbaatar et al. (section 4.2), with the noise and the epochs of the paper on gradient noise.

    The linear stage ends after 20 epochs, as in the authors' code (facebook/MemNN, config_babi.m). Their paper ends it
    when the validation loss no longer falls, but that loss stays level for a dozen epochs before the tasks of several
    facts are understood. Their code draws batches with replacement and cuts the gradient of each table by itself; here
    an epoch sees each question once, and the gradient is cut as a whole, as their paper has it.

    Attributes:
        tasks: numbers of the bAbI tasks.
        joint: whether one network learns all tasks together; Sukhbaatar et al. take 60 epochs for that (their code 30
            linear ones before) and halve the rate every 15.
        epochs: passes over the training questions, those of the linear stage included.
        embed_dim: d; by default 20 for one task and 50 for several.
        num_hops: K.
        memory_size: the most statements that are remembered.
        batch_size: questions in a step; their losses are added, not averaged.
        learning_rate: of plain gradient descent; halved every `halve_every` epochs.
        linear_learning_rate: that of a training with a linear start, of both its stages as in the authors' code; halved
            in the second.
        linear_epochs: length of the linear stage, part of `epochs`.
        max_gradient_norm: gradients of a network that are longer are cut to this length.
        eta, gamma: of the noise.
        empty_memories: share of empty memories that training adds (random noise).
        questions: how many of each part of a task are used; all by default.
    """

    tasks: tuple[Annotated[int, Field(ge=1, le=20)], ...] = Field(default=tuple(range(1, 21)), min_length=1)
    joint: bool = False
    epochs: int = Field(default=200, ge=1)
    embed_dim: int | None = Field(default=None, ge=1)
    num_hops: int = Field(default=3, ge=1)
    memory_size: int = Field(default=50, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=0.01, gt=0)
    linear_learning_rate: float = Field(default=0.005, gt=0)
    linear_epochs: int = Field(default=20, ge=0)
    halve_every: int = Field(default=25, ge=1)
    max_gradient_norm: float = Field(default=40.0, gt=0)
    eta: float = Field(default=1.0, gt=0)
    gamma: float = Field(default=0.55, ge=0)
    empty_memories: float = Field(default=0.1, ge=0, le=1)
    questions: int | None = Field(default=None, ge=20)


@dataclass(frozen=True)
class NetworkArm:
    """One way to train.

    Attributes:
        name: what tables call it.
        noise: whether gradients get noise.
        stages: 1: softmax from the start; 2: linear hops first.
    """

    name: str
    noise: bool
    stages: Literal[1, 2]


@dataclass
class Networks:
    """S · R networks in training: S seeds, each trained in R ways from the same weights, on the same batches.

    Attributes:
        words: (K + 1, S, R, V, d).
        times: (K + 1, S, R, n, d).
        linear: (S, R) bool, who has no softmax yet.
        epoch: epochs done.
        seconds: of training, all parts of a resumed one together.
        curves: by arm and seed, rows of `epoch`, `train_loss` and `validation_error`.
    """

    words: Tensor
    times: Tensor
    linear: Tensor
    epoch: int = 0
    seconds: float = 0.0
    curves: list[list[list[dict[str, float]]]] = field(default_factory=list)


def initial_networks(
    problem: Problem, settings: MemoryNetworkSettings, seeds: Sequence[int], arms: Sequence[NetworkArm]
) -> Networks:
    """All weights from N(0, 0.1²), the same for all arms of a seed."""
    embed_dim = settings.embed_dim or (50 if len(problem.tasks) > 1 else 20)
    shapes = [(settings.num_hops + 1, rows, embed_dim) for rows in (len(problem.words), problem.num_memories)]
    tables: list[list[Tensor]] = [[], []]
    for seed in seeds:
        generator = torch.Generator().manual_seed(derive_seed(seed, "memory network", problem.name, "weights"))
        for some, shape in zip(tables, shapes, strict=True):
            some.append(torch.randn(shape, generator=generator) * INITIAL_STD)
    device = problem.bags.device
    words, times = (
        torch.stack(some, 1)[:, :, None].repeat(1, 1, len(arms), 1, 1).to(device).requires_grad_() for some in tables
    )
    linear = torch.tensor(
        [[arm.stages == 2 and settings.linear_epochs > 0 for arm in arms]] * len(seeds), device=device
    )
    return Networks(words, times, linear, curves=[[[] for _ in seeds] for _ in arms])


@torch.no_grad()
def wrong_answers(networks: Networks, problem: Problem, part: EncodedQuestions) -> Tensor:
    """Ask all networks all N questions of `part`, without empty memories between statements: (S, R, N) bool."""
    # All networks get the same questions: one group of S · R.
    words, times = (tables.flatten(1, 2).unsqueeze(1) for tables in (networks.words, networks.times))
    linear = networks.linear.reshape(1, -1)
    memories = memories_without_gaps(part.stories, problem.num_memories)
    wrong = []
    for start in range(0, len(part), _QUESTIONS_AT_ONCE):
        chosen = slice(start, start + _QUESTIONS_AT_ONCE)
        answers = respond(
            words, times, problem.bags[memories[None, chosen]], problem.bags[part.questions[None, chosen]], linear
        )
        wrong.append(answers.logits[0].argmax(-1) != part.answers[chosen])
    return torch.cat(wrong, 1).view(*networks.linear.shape, -1)


def train_networks(
    problem: Problem,
    settings: MemoryNetworkSettings,
    seeds: Sequence[int],
    arms: Sequence[NetworkArm],
    *,
    checkpoint: Path | None = None,
    after_epoch: Callable[[Networks], None] | None = None,
) -> Networks:
    """Train all networks of a problem.

    Whatever is random is a function of (seed, problem, epoch or step), so that arms are paired, a network does not
    depend on those beside it, and a training that was killed continues to the same weights.

    Args:
        problem, settings: what and how.
        seeds, arms: S and R.
        checkpoint: where to keep what is done, and from where to continue.
        after_epoch: called after every epoch.

    Raises:
        DivergenceError: a loss is not finite.
    """
    networks = initial_networks(problem, settings, seeds, arms)
    if checkpoint is not None:
        _load(networks, checkpoint)
    started = saved = time.monotonic()
    before = networks.seconds
    while networks.epoch < settings.epochs:
        losses = _train_epoch(networks, problem, settings, seeds, arms)
        if not bool(torch.isfinite(losses).all()):
            raise DivergenceError(
                f"the loss of a memory network is no number any more ({problem.name}, epoch {networks.epoch + 1})",
                "lower the learning rate: --set memory_network.learning_rate=0.005",
            )
        errors = 100 * wrong_answers(networks, problem, problem.parts["validation"]).double().mean(-1)
        networks.epoch += 1
        networks.seconds = before + time.monotonic() - started
        if networks.epoch >= settings.linear_epochs:
            networks.linear = torch.zeros_like(networks.linear)
        _note(networks, losses, errors)
        if after_epoch is not None:
            after_epoch(networks)
        if checkpoint is not None and time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            _save(networks, checkpoint)
            saved = time.monotonic()
    return networks


def _train_epoch(
    networks: Networks,
    problem: Problem,
    settings: MemoryNetworkSettings,
    seeds: Sequence[int],
    arms: Sequence[NetworkArm],
) -> Tensor:
    """One pass over the training questions, those left out that fill no batch; mean loss of a question, (S, R)."""
    part, epoch = problem.parts["train"], networks.epoch
    size = min(settings.batch_size, len(part))
    steps = len(part) // size
    orders, memories = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(derive_seed(seed, "memory network", problem.name, "epoch", epoch))
        order = torch.randperm(len(part), generator=generator)[: steps * size].to(part.stories.device)
        orders.append(order)
        memories.append(
            memories_with_gaps(
                part.stories[order],
                part.lengths[order],
                problem.num_memories,
                settings.empty_memories,
                generator,
            )
        )
    order, remembered = torch.stack(orders), torch.stack(memories)
    rates = _learning_rates(networks, settings, arms)
    total = torch.zeros_like(rates)
    for step in range(steps):
        batch = slice(step * size, (step + 1) * size)
        chosen = order[:, batch]
        answers = respond(
            networks.words,
            networks.times,
            problem.bags[remembered[:, batch]],
            problem.bags[part.questions[chosen]],
            networks.linear,
        )
        total += _descend(
            networks,
            answers.logits,
            part.answers[chosen],
            rates=rates,
            max_gradient_norm=settings.max_gradient_norm,
            noise=_noise(networks, problem, settings, seeds, arms, epoch * steps + step),
        )
    return total / (steps * size)


def _descend(
    networks: Networks,
    logits: Tensor,
    answers: Tensor,
    *,
    rates: Tensor,
    max_gradient_norm: float,
    noise: Sequence[Tensor],
) -> Tensor:
    """One step of gradient descent on the sum of a batch's losses, (S, R): clip, add noise, descend."""
    expected = answers.unsqueeze(1).expand(logits.shape[:-1])
    loss = functional.cross_entropy(logits.flatten(0, 2), expected.flatten(), reduction="none")
    loss = loss.view(expected.shape).sum(-1)
    tables = (networks.words, networks.times)
    gradients = torch.autograd.grad(loss.sum(), tables)
    with torch.no_grad():
        squares = [gradient.square().sum((0, 3, 4)) for gradient in gradients]
        norm = (squares[0] + squares[1]).sqrt()
        scale = -rates * (max_gradient_norm / norm.clamp_min(max_gradient_norm))
        for table, gradient, draw in zip(tables, gradients, noise, strict=True):
            table.addcmul_(gradient, scale[..., None, None])
            table.addcmul_(draw, -rates[..., None, None])
    return loss.detach()


def _noise(
    networks: Networks,
    problem: Problem,
    settings: MemoryNetworkSettings,
    seeds: Sequence[int],
    arms: Sequence[NetworkArm],
    step: int,
) -> list[Tensor]:
    """The noise of a step for both tables, zero for arms without; arms of a seed have the same."""
    shapes = [networks.words[:, 0, 0].shape, networks.times[:, 0, 0].shape]
    sizes = [math.prod(shape) for shape in shapes]
    drawn = torch.zeros(len(seeds), sum(sizes), device=networks.words.device)
    if any(arm.noise for arm in arms):
        for row, seed in zip(drawn, seeds, strict=True):
            standard_normal_(row, derive_seed(seed, "memory network", problem.name, "noise"), step)
        drawn *= math.sqrt(noise_variance(step, settings.eta, settings.gamma))
    noisy = torch.tensor([float(arm.noise) for arm in arms], device=drawn.device).view(-1, 1, 1)
    return [
        one.view(len(seeds), *shape).transpose(0, 1).unsqueeze(2) * noisy
        for one, shape in zip(drawn.split(sizes, -1), shapes, strict=True)
    ]


def _learning_rates(networks: Networks, settings: MemoryNetworkSettings, arms: Sequence[NetworkArm]) -> Tensor:
    """(S, R), of the coming epoch."""
    begun = torch.tensor([settings.linear_epochs * (arm.stages == 2) for arm in arms], device=networks.linear.device)
    halvings = (networks.epoch - begun).clamp_min(0) // settings.halve_every
    first = torch.where(begun > 0, settings.linear_learning_rate, settings.learning_rate)
    return (first * 0.5**halvings).expand_as(networks.linear)


def _note(networks: Networks, losses: Tensor, errors: Tensor) -> None:
    for arm, rows in enumerate(networks.curves):
        for seed, curve in enumerate(rows):
            curve.append(
                {
                    "epoch": float(networks.epoch),
                    "train_loss": float(losses[seed, arm]),
                    "validation_error": float(errors[seed, arm]),
                }
            )


_SAVED = ("words", "times", "linear")


def _save(networks: Networks, path: Path) -> None:
    tensors = {name: getattr(networks, name).detach().contiguous() for name in _SAVED}
    where = {"epoch": str(networks.epoch), "seconds": str(networks.seconds), "curves": json.dumps(networks.curves)}
    content = save(tensors, where)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _load(networks: Networks, path: Path) -> None:
    """Take up what `path` holds, if it is there and of these networks."""
    if not path.is_file():
        return
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in _SAVED}
            metadata = file.metadata()
    except SafetensorError:
        return  # written by another version: begin anew
    if any(tensors[name].shape != getattr(networks, name).shape for name in _SAVED):
        return
    device = networks.words.device
    for name in _SAVED:
        setattr(networks, name, tensors[name].to(device).requires_grad_(name != "linear"))
    networks.epoch, networks.curves = int(metadata["epoch"]), json.loads(metadata["curves"])
    networks.seconds = float(metadata.get("seconds", 0))


def errors_by_part(networks: Networks, problem: Problem) -> dict[str, dict[int, Tensor]]:
    """For each part and task the errors in per cent, (S, R)."""
    errors: dict[str, dict[int, Tensor]] = {}
    for name in PARTS:
        part = problem.parts[name]
        wrong = wrong_answers(networks, problem, part).double()
        errors[name] = {task: 100 * wrong[..., part.tasks == task].mean(-1) for task in problem.tasks}
    return errors
