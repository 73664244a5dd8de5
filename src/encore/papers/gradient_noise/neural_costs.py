"""What a step of an ensemble costs, found out by taking one: for plans."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from encore.papers.gradient_noise.neural_ensembles import Draws, Member, Problem, Schedule, for_all

LAST_STAGE = 10**6
"""A stage that is beyond every curriculum."""


def cost_of_step(problem: Problem, schedule: Schedule, device: torch.device, members: int) -> tuple[float, int]:
    """What a step of an ensemble costs at the last stage of the curriculum.

    Returns:
        Seconds, timed here on a few members at most where a step is slow, and the bytes held from the forward to the
        backward pass.
    """
    _timed_step(problem, schedule, device, 1)  # warms the libraries up
    seconds, held = _timed_step(problem, schedule, device, 1)
    if seconds * members > _LONGEST_TRIAL:
        return seconds * members, held * members
    return _timed_step(problem, schedule, device, members)


_LONGEST_TRIAL = 5.0
"""Seconds that a step may be expected to take for all members to be timed together."""


def _timed_step(problem: Problem, schedule: Schedule, device: torch.device, members: int) -> tuple[float, int]:
    model = problem.model(range(members)).to(device)
    samples = problem.samples(torch.Generator().manual_seed(0), schedule.batch_size, LAST_STAGE)
    batch = for_all(samples, members, device)
    stages = torch.zeros(members, dtype=torch.int64, device=device)
    held: dict[int, int] = {}

    def hold(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    started = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        loss, _ = model.loss(batch, stages, 0, Draws([Member(0)] * members, 0, device))
    loss.sum().backward()
    return time.perf_counter() - started, sum(held.values())
