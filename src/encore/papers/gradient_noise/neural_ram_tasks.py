"""Tasks of the Neural Random-Access Machine: a memory goes in, some of its cells have to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from encore.base.errors import ConfigurationError
from encore.base.seeds import derive_seed
from encore.papers.gradient_noise.neural_ensembles import Batch, Problem
from encore.papers.gradient_noise.neural_ram import NeuralRAM

TaskName = Literal["access", "list_k"]
HEADER = 3
"""Cells before the nodes of a list: pointer to the head, k, and the cell for the answer."""


def access_samples(generator: torch.Generator, count: int, size: int, length: int) -> Batch:
    """Access: memory k, A[0] … A[n-1], 0; the first cell has to become A[k].

    Args:
        generator: of the random numbers.
        count: B.
        size: M; values are 1 … M-1.
        length: n, at most M - 2.

    Returns:
        `memory` and `target` (B, M) int64, and `asked` (B, M) float32, 1 where the answer is judged.
    """
    memory = torch.zeros(count, size, dtype=torch.int64)
    memory[:, 1 : length + 1] = torch.randint(1, size, (count, length), generator=generator)
    k = torch.randint(length, (count,), generator=generator)
    memory[:, 0] = k
    target = memory.clone()
    target[:, 0] = memory.gather(1, k[:, None] + 1).squeeze(1)
    asked = torch.zeros(count, size)
    asked[:, 0] = 1
    return {"memory": memory, "target": target, "asked": asked}


def list_samples(generator: torch.Generator, count: int, size: int, length: int, hops: int) -> Batch:
    """ListK: memory head, k, 0, then nodes (pointer to the next, value) in random places; cell 2 has to become the
    value that k hops from the head lead to.

    Args:
        generator: of the random numbers.
        count: B.
        size: M.
        length: nodes, at most (M - 3) // 2; the last one's pointer is 0.
        hops: largest k, below `length`.

    Returns:
        As `access_samples`.
    """
    places = (size - HEADER) // 2
    memory = torch.zeros(count, size, dtype=torch.int64)
    order = torch.rand(count, places, generator=generator).argsort(1)[:, :length]
    nodes = HEADER + 2 * order
    values = torch.randint(1, size, (count, length), generator=generator)
    memory.scatter_(1, nodes[:, :-1], nodes[:, 1:])
    memory.scatter_(1, nodes + 1, values)
    k = torch.randint(hops + 1, (count,), generator=generator)
    memory[:, 0], memory[:, 1] = nodes[:, 0], k
    target = memory.clone()
    target[:, 2] = values.gather(1, k[:, None]).squeeze(1)
    asked = torch.zeros(count, size)
    asked[:, 2] = 1
    return {"memory": memory, "target": target, "asked": asked}


class RAMProblem(Problem):
    """A task of the machine, with its curriculum.

    Args:
        task: `access` or `list_k`.
        size: M.
        length: most elements of the array or list in training and validation.
        hops: largest k of a list.
        held_out: samples of each held-out part.
        curriculum: whether short instances come first; else all lengths at once.
        model: further arguments of `NeuralRAM`.

    Raises:
        ConfigurationError: the instances do not fit into the memory.
    """

    parts = ("val", "test")

    def __init__(
        self,
        task: TaskName,
        *,
        size: int,
        length: int,
        hops: int,
        held_out: int,
        curriculum: bool,
        **model: Any,
    ) -> None:
        most = size - 2 if task == "access" else (size - HEADER) // 2
        if not 1 <= length <= most:
            raise ConfigurationError(
                f"{task} of {length} elements does not fit into {size} cells", f"take 1 … {most} elements"
            )
        if task == "list_k" and not 0 <= hops < length:
            raise ConfigurationError(f"a list of {length} has no element {hops} hops away", "set hops below length")
        self._task, self._size, self._length, self._hops = task, size, length, hops
        self._count, self._curriculum, self._model = held_out, curriculum, model

    def model(self, seeds: Sequence[int]) -> NeuralRAM:
        """The untrained machines."""
        return NeuralRAM(seeds, size=self._size, **self._model)

    def samples(self, generator: torch.Generator, count: int, stage: int) -> Batch:
        """Instances up to the difficulty of `stage`, each batch of one length; one in ten of any."""
        length = self._length
        shortest = 1 if self._task == "access" else min(2, length)
        if self._curriculum and float(torch.rand(1, generator=generator)) > 0.1:
            length = min(length, shortest + stage)
        length = int(torch.randint(shortest, length + 1, (1,), generator=generator))
        return self._instances(generator, count, length)

    def held_out(self, part: str) -> Batch:
        """Instances of full length."""
        generator = torch.Generator().manual_seed(derive_seed("neural ram", self._task, part))
        return self._instances(generator, self._count, self._length)

    def _instances(self, generator: torch.Generator, count: int, length: int) -> Batch:
        if self._task == "access":
            return access_samples(generator, count, self._size, length)
        return list_samples(generator, count, self._size, length, min(self._hops, length - 1))
