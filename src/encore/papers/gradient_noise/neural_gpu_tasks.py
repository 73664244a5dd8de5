"""Tasks of the Neural GPU: binary numbers, the lowest digit first, as rows of symbols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from encore.base.errors import ConfigurationError
from encore.base.seeds import derive_seed
from encore.papers.gradient_noise.neural_ensembles import Batch, Problem
from encore.papers.gradient_noise.neural_gpu import NeuralGPU

TaskName = Literal["copy", "addition", "multiplication"]
SYMBOLS = 4
"""Padding, the digits 0 and 1 (symbols 1 and 2), and the sign between two numbers (3)."""
SIGN = 3


def sequence_length(task: TaskName, digits: int) -> int:
    """n of a task of two numbers of `digits` digits, or of one to copy."""
    return digits if task == "copy" else 2 * digits + 1


def task_samples(task: TaskName, generator: torch.Generator, count: int, digits: int) -> Batch:
    """Random instances of one length.

    Args:
        task: `copy`, `addition` or `multiplication`.
        generator: of the random numbers.
        count: B.
        digits: of each number; the results have digits + 1 and 2 · digits, the rest is padding.

    Returns:
        `symbols` and `target` (B, n) int64 and `lengths` (B,) int64.
    """
    n = sequence_length(task, digits)
    first = torch.randint(2, (count, digits), generator=generator)
    lengths = torch.full((count,), n)
    if task == "copy":
        return {"symbols": first + 1, "target": first + 1, "lengths": lengths}
    second = torch.randint(2, (count, digits), generator=generator)
    result = _sum(first, second) if task == "addition" else _product(first, second)
    symbols = torch.cat([first + 1, torch.full((count, 1), SIGN), second + 1], 1)
    target = torch.zeros(count, n, dtype=torch.int64)
    target[:, : result.shape[1]] = result + 1
    return {"symbols": symbols, "target": target, "lengths": lengths}


def _carried(columns: Tensor) -> Tensor:
    """Binary digits (B, d) of the numbers whose columns, of weights 1, 2, 4 …, add up to these counts."""
    digits = columns.clone()
    for place in range(columns.shape[1] - 1):
        digits[:, place + 1] += digits[:, place] // 2
        digits[:, place] %= 2
    return digits


def _sum(first: Tensor, second: Tensor) -> Tensor:
    """(B, d), (B, d) → (B, d + 1)."""
    return _carried(torch.nn.functional.pad(first + second, (0, 1)))


def _product(first: Tensor, second: Tensor) -> Tensor:
    """(B, d), (B, d) → (B, 2 d), of any length: column by column, never as one integer."""
    count, digits = first.shape
    columns = torch.zeros(count, 2 * digits, dtype=torch.int64)
    for place in range(digits):
        columns[:, place : place + digits] += first[:, place : place + 1] * second
    return _carried(columns)


class GPUProblem(Problem):
    """A task of the Neural GPU, from one digit up to `digits`, tested on longer numbers as well.

    Args:
        task: `copy`, `addition` or `multiplication`.
        digits: of the longest numbers in training, validation and the part `test`.
        long_digits: of the part `test_long`.
        held_out: samples of each held-out part.
        patient: see `Problem`; for the judgement by longer numbers, since the sets are joined long after the trained
            length has been learnt.
        model: further arguments of `NeuralGPU`.

    Raises:
        ConfigurationError: numbers without digits.
    """

    parts = ("val", "test", "test_long")

    def __init__(
        self, task: TaskName, *, digits: int, long_digits: int, held_out: int, patient: bool = False, **model: Any
    ) -> None:
        if digits < 1 or long_digits < digits:
            raise ConfigurationError(
                f"numbers of {digits} digits cannot be followed by numbers of {long_digits}",
                "train on one digit at least and test on as many or more",
            )
        self._task, self._digits, self._long, self._count, self._model = task, digits, long_digits, held_out, model
        self.patient = patient

    def model(self, seeds: Sequence[int]) -> NeuralGPU:
        """The untrained networks."""
        return NeuralGPU(seeds, symbols=SYMBOLS, lengths=self._digits, **self._model)

    def samples(self, generator: torch.Generator, count: int, stage: int) -> Batch:
        """Numbers as long as the stage allows in four batches of five, shorter ones in the others."""
        most = min(stage + 1, self._digits)
        shorter = float(torch.rand(1, generator=generator)) < 0.2
        digits = int(torch.randint(1, most + 1, (1,), generator=generator)) if shorter else most
        return task_samples(self._task, generator, count, digits)

    def held_out(self, part: str) -> Batch:
        """Numbers of full length; of `long_digits` for `test_long`."""
        generator = torch.Generator().manual_seed(derive_seed("neural gpu", self._task, part))
        return task_samples(self._task, generator, self._count, self._long if part == "test_long" else self._digits)

    def together(self, batches: Sequence[Batch]) -> Batch:
        """The members' batches, padded to the longest."""
        n = max(batch["symbols"].shape[1] for batch in batches)
        padded = [
            {
                name: value if name == "lengths" else torch.nn.functional.pad(value, (0, n - value.shape[1]))
                for name, value in batch.items()
            }
            for batch in batches
        ]
        return super().together(padded)
