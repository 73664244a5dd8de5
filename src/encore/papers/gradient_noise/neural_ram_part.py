"""The Neural Random-Access Machine with and without gradient noise: how often it learns to follow a list."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from encore.base.runtime import Scale
from encore.papers.gradient_noise.neural_ensembles import Member
from encore.papers.gradient_noise.neural_ram_tasks import HEADER, RAMProblem, TaskName
from encore.papers.gradient_noise.neural_success import NO_NOISE, NOISE, SuccessPart, SuccessSettings


class NeuralRAMSettings(SuccessSettings):
    """The section `neural_ram`.

    Attributes:
        task: `access` (element k of an array) or `list_k` (element k of a linked list).
        size: M, cells and integers.
        length: most elements.
        hops: largest k of a list.
        registers, timesteps, hidden, controller, entropy, entropy_decay: see `NeuralRAM`.
        curriculum: whether short instances come first.
        held_out: samples of validation and of test.
    """

    eta: float = Field(default=0.3, gt=0)
    task: TaskName = "list_k"
    size: int = Field(default=12, ge=4)
    length: int = Field(default=4, ge=1)
    hops: int = Field(default=2, ge=0)
    registers: int = Field(default=4, ge=1)
    timesteps: int = Field(default=4, ge=1)
    hidden: int = Field(default=32, ge=1)
    controller: Literal["lstm", "feed_forward"] = "lstm"
    entropy: float = Field(default=0.1, ge=0)
    entropy_decay: float = Field(default=0.998, gt=0, le=1)
    curriculum: bool = True
    held_out: int = Field(default=256, ge=1)

    @property
    def instances(self) -> float:
        """How many different memories of full length there are."""
        values = (self.size - 1) ** self.length
        if self.task == "access":
            return self.length * values
        return math.perm((self.size - HEADER) // 2, self.length) * values * (self.hops + 1)

    def problem(self) -> RAMProblem:
        """The task and its machine."""
        return RAMProblem(
            self.task,
            size=self.size,
            length=self.length,
            hops=self.hops,
            held_out=self.held_out,
            curriculum=self.curriculum,
            registers=self.registers,
            timesteps=self.timesteps,
            hidden=self.hidden,
            controller=self.controller,
            entropy=self.entropy,
            entropy_decay=self.entropy_decay,
        )


class NeuralRAMPart(SuccessPart):
    """Machines with noise beside the same machines without."""

    name = "neural_ram"
    claims = ("neural_ram",)
    machine = "Neural RAM"

    def members(self, settings: SuccessSettings, seed: int) -> dict[str, Member]:
        """With noise and without, from one start."""
        return {NOISE: Member(seed, noise=settings.eta), NO_NOISE: Member(seed)}

    def setting(self, settings: SuccessSettings) -> str:
        """The setting in words."""
        assert isinstance(settings, NeuralRAMSettings)
        where = "an array" if settings.task == "access" else f"a linked list, up to {settings.hops} hops away"
        controller = "an LSTM" if settings.controller == "lstm" else "a feed-forward controller instead of an LSTM"
        return (
            f"Element k of {settings.length} in {where}; {settings.size} cells, {settings.registers} registers, "
            f"{settings.timesteps} steps of {controller}{', short instances first' * settings.curriculum}; "
            f"{super().setting(settings)}"
        )


PART = NeuralRAMPart()

DEFAULTS: dict[Scale, dict[str, Any]] = {
    "smoke": {
        "task": "access", "size": 6, "length": 2, "timesteps": 2, "registers": 2, "hidden": 16, "runs": 2,
        "held_out": 64,
        "training": {"steps": 40, "batch_size": 16, "learning_rate": 0.01, "evaluate_every": 20},
    },
    "laptop": {
        "task": "access", "size": 6, "length": 4, "timesteps": 2, "registers": 3, "hidden": 16,
        "controller": "feed_forward", "runs": 3,
        "training": {"steps": 12000, "batch_size": 32, "learning_rate": 0.01, "clip": 100.0, "evaluate_every": 200},
    },
    "paper": {
        "task": "list_k", "size": 20, "length": 8, "hops": 6, "timesteps": 11, "registers": 6, "hidden": 128,
        "runs": 5, "together": 100, "held_out": 1000,
        "grid": {"training.learning_rate": [0.001, 0.003, 0.01]},
        "training": {"steps": 50000, "batch_size": 50, "clip": 10.0, "evaluate_every": 500, "advance_every": 200},
    },
}  # fmt: skip
"""Values of the section at each scale. The paper names η and the number of runs, 100 at each of its three best
settings, but no sizes."""
