"""The Neural GPU with and without gradient noise: how often it learns arithmetic of binary numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from encore.base.runtime import Scale
from encore.papers.gradient_noise.neural_ensembles import Member
from encore.papers.gradient_noise.neural_gpu_tasks import GPUProblem, TaskName
from encore.papers.gradient_noise.neural_success import NO_NOISE, NOISE, SuccessPart, SuccessSettings, Training
from encore.results.performance import Performance
from encore.results.record import table_record

LIMITS = (1, 2, 3, 5)
"""Errors in % that the paper counts runs below."""


class NeuralGPUSettings(SuccessSettings):
    """The section `neural_gpu`.

    Attributes:
        task: `copy`, `addition` or `multiplication`.
        digits: of the longest numbers that are trained on.
        long_digits: of the longer numbers that are tested.
        maps, width, layers, sets, cutoff, pull, pull_growth: see `NeuralGPU`.
        held_out: samples of each held-out part.
        judged: the part that decides: numbers as long as in training, or longer ones, for which all steps are taken.
    """

    dropout: float = Field(default=0.08, ge=0, lt=1)
    solved_below: float = Field(default=0.01, ge=0, lt=1)
    task: TaskName = "multiplication"
    digits: int = Field(default=20, ge=1)
    long_digits: int = Field(default=200, ge=1)
    maps: int = Field(default=24, ge=1)
    width: int = Field(default=4, ge=1)
    layers: int = Field(default=2, ge=1)
    sets: int = Field(default=6, ge=1)
    cutoff: float = Field(default=1.2, ge=1)
    pull: float = Field(default=5e-4, ge=0)
    pull_growth: float = Field(default=1.2, ge=1)
    held_out: int = Field(default=128, ge=1)
    judged: Literal["test", "test_long"] = "test_long"

    @property
    def judged_part(self) -> str:
        """The held-out part whose errors decide."""
        return self.judged

    @property
    def instances(self) -> float:
        """How many different samples the judged part is drawn from; longer ones are never trained on."""
        if self.judged == "test_long" and self.long_digits > self.digits:
            return math.inf
        return (2 if self.task == "copy" else 4) ** self.digits

    def problem(self) -> GPUProblem:
        """The task and its network."""
        return GPUProblem(
            self.task,
            digits=self.digits,
            long_digits=self.long_digits,
            held_out=self.held_out,
            patient=self.judged == "test_long",
            maps=self.maps,
            width=self.width,
            layers=self.layers,
            sets=self.sets,
            cutoff=self.cutoff,
            pull=self.pull,
            pull_growth=self.pull_growth,
        )


class NeuralGPUPart(SuccessPart):
    """Networks with noise beside the same networks without; all drop a little."""

    name = "neural_gpu"
    claims = ("neural_gpu",)
    machine = "Neural GPU"

    def members(self, settings: SuccessSettings, seed: int) -> dict[str, Member]:
        """With noise and without, from one start."""
        return {
            NOISE: Member(seed, noise=settings.eta, dropout=settings.dropout),
            NO_NOISE: Member(seed, dropout=settings.dropout),
        }

    def setting(self, settings: SuccessSettings) -> str:
        """The setting in words."""
        assert isinstance(settings, NeuralGPUSettings)
        return (
            f"Binary {settings.task}, trained up to {settings.digits} digits and judged on "
            f"{settings.digits if settings.judged == 'test' else settings.long_digits}; {settings.maps} maps, "
            f"{settings.width} rows, {settings.sets} parameter sets; both arms drop {settings.dropout:g}; "
            f"{super().setting(settings)}"
        )

    def tabulate(self, performance: Performance, trainings: Sequence[Training]) -> None:
        """Shares of runs below each error, on numbers as long as in training and on longer ones."""
        table = next(table for table in performance.card.tables if table.id == "neural_gpu_errors")
        rows = {
            arm: {
                f"{part}_below_{limit}": [_share(trainings, arm, seed, part, limit / 100) for seed in performance.seeds]
                for part in ("test", "test_long")
                for limit in LIMITS
            }
            for arm in (NOISE, NO_NOISE)
        }
        known = {column.metric for column in table.columns}
        kept = {arm: {metric: values for metric, values in row.items() if metric in known} for arm, row in rows.items()}
        performance.tables.append(table_record(table, kept, note=self.setting(self._settings(performance))))


def _share(trainings: Sequence[Training], arm: str, seed: int, part: str, limit: float) -> float:
    own = [one.errors[part] < limit for one in trainings if (one.arm, one.seed) == (arm, seed)]
    return 100 * sum(own) / len(own)


PART = NeuralGPUPart()

DEFAULTS: dict[Scale, dict[str, Any]] = {
    "smoke": {
        "task": "addition", "digits": 2, "long_digits": 4, "maps": 8, "width": 2, "runs": 2, "held_out": 32,
        "training": {"steps": 30, "batch_size": 8, "learning_rate": 0.01, "evaluate_every": 15},
    },
    "laptop": {
        "task": "multiplication", "digits": 3, "long_digits": 4, "maps": 8, "width": 2, "sets": 3, "runs": 2,
        "dropout": 0.01, "judged": "test",
        "training": {
            "steps": 8000, "batch_size": 16, "learning_rate": 0.002, "clip": 100.0, "epsilon": 1e-4,
            "evaluate_every": 100, "advance_below": 0.2,
        },
    },
    "paper": {
        "runs": 1, "together": 8,
        "grid": {
            "training.learning_rate": [0.001, 0.003, 0.01],
            "training.clip": [0.05, 0.3, 1.0],
            "training.epsilon": [1e-5, 1e-4, 1e-3],
            "dropout": [0.06, 0.08, 0.1],
            "pull": [2.5e-4, 5e-4, 1e-3],
            "cutoff": [1.0, 1.2, 1.5],
        },
        "training": {"steps": 100000, "batch_size": 32, "evaluate_every": 1000, "advance_every": 200},
    },
}  # fmt: skip
"""Values of the section at each scale. Of the paper's grid only its size is known: 729 points here, 7,290 runs with ten
seeds."""
