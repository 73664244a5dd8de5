"""The Neural Programmer with gradient noise, without, and with dropout: how often it answers every question."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from encore.base.runtime import Scale
from encore.papers.gradient_noise.neural_ensembles import Member
from encore.papers.gradient_noise.neural_programmer_questions import ProgrammerProblem
from encore.papers.gradient_noise.neural_success import DROPOUT, NO_NOISE, NOISE, SuccessPart, SuccessSettings


class NeuralProgrammerSettings(SuccessSettings):
    """The section `neural_programmer`.

    Attributes:
        rows: of the tables.
        columns: of numbers.
        text_words: words of the text column; 0 for tables without one.
        kinds: the first so many kinds of questions; all if null.
        width, timesteps, huber, lookup_weight: see `NeuralProgrammer`.
        held_out: questions of validation and of test.
    """

    dropout: float = Field(default=0.2, ge=0, lt=1)
    rows: int = Field(default=30, ge=1)
    columns: int = Field(default=1, ge=1)
    text_words: int = Field(default=0, ge=0)
    kinds: int | None = None
    width: int = Field(default=256, ge=1)
    timesteps: int = Field(default=4, ge=1)
    huber: float = Field(default=10.0, gt=0)
    lookup_weight: float = Field(default=50.0, gt=0)
    held_out: int = Field(default=500, ge=1)

    def problem(self) -> ProgrammerProblem:
        """The questions and the machine."""
        return ProgrammerProblem(
            rows=self.rows,
            columns=self.columns,
            text_words=self.text_words,
            kinds=self.kinds,
            held_out=self.held_out,
            width=self.width,
            timesteps=self.timesteps,
            huber=self.huber,
            lookup_weight=self.lookup_weight,
        )


class NeuralProgrammerPart(SuccessPart):
    """Machines with noise beside the same without, and with dropout instead."""

    name = "neural_programmer"
    claims = ("neural_programmer",)
    machine = "Neural Programmer"
    baselines = (NO_NOISE, DROPOUT)

    def members(self, settings: SuccessSettings, seed: int) -> dict[str, Member]:
        """With noise, without, and with dropout, from one start."""
        return {
            NOISE: Member(seed, noise=settings.eta),
            NO_NOISE: Member(seed),
            DROPOUT: Member(seed, dropout=settings.dropout),
        }

    def setting(self, settings: SuccessSettings) -> str:
        """The setting in words."""
        assert isinstance(settings, NeuralProgrammerSettings)
        kinds = "all kinds" if settings.kinds is None else f"{settings.kinds} kinds"
        return (
            f"{kinds} of questions to tables of {settings.rows} rows and {settings.columns} numeric column"
            f"{'s' * (settings.columns > 1)}; d = {settings.width}; the arm with dropout drops {settings.dropout:g}; "
            f"{super().setting(settings)}"
        )


PART = NeuralProgrammerPart()

DEFAULTS: dict[Scale, dict[str, Any]] = {
    "smoke": {
        "rows": 4, "kinds": 3, "width": 16, "runs": 2, "held_out": 64,
        "training": {"steps": 40, "batch_size": 16, "learning_rate": 0.01, "evaluate_every": 20},
    },
    "laptop": {
        "rows": 6, "kinds": 12, "width": 16, "runs": 2, "held_out": 256,
        "training": {"steps": 15000, "batch_size": 50, "learning_rate": 0.01, "clip": 100.0, "evaluate_every": 250},
    },
    "paper": {
        "runs": 1, "together": 60,
        "grid": {
            "training.learning_rate": [0.001, 0.003, 0.01],
            "training.clip": [1.0, 10.0, 100.0],
            "training.epsilon": [1e-8, 1e-6],
            "huber": [10.0, 50.0],
            "lookup_weight": [10.0, 50.0],
        },
        "training": {"steps": 100000, "batch_size": 50, "evaluate_every": 1000},
    },
}  # fmt: skip
"""Values of the section at each scale. The paper's grid has 72 points, which it does not name; with three seeds they
are its 216 runs."""
