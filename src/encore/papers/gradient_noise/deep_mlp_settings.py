"""The settings of the deep plain networks, and which networks they make."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from encore.base.configuration import Configuration
from encore.base.runtime import Scale
from encore.papers.gradient_noise.deep_mlp import Ensemble, Setting, Shape
from encore.papers.gradient_noise.model import Initialisation

ROWS: dict[str, tuple[Initialisation, float | None]] = {
    "simple": ("simple", None),
    "simple_clip_100": ("simple", 100.0),
    "simple_clip_10": ("simple", 10.0),
    "random_walk_clip_10": ("random_walk", 10.0),
    "he_clip_10": ("he", 10.0),
    "zero_clip_10": ("zero", 10.0),
}
"""Table 1's settings: initialisation and largest norm of the gradient."""

DROPOUT, SHALLOW = "simple_dropout", "five_layers"


class DeepMLPSettings(Configuration):
    """Keys of the section `mlp`.

    Attributes:
        steps: of gradient descent.
        batch_size: pictures of a step; the paper does not say.
        learning_rates: each setting is trained with each; accuracies are means over them, as in the paper.
        noise: η.
        noise_decay: γ.
        depth, control_depth: hidden layers of the networks, and of the control that should gain nothing.
        width: units of each.
        dropout: share of dropped units of the dropout control; the paper does not say.
        train_samples: pictures to learn from; null for all.
        validation_samples: pictures on which each network's best step is chosen.
        steps_between: validations.
    """

    steps: int = Field(default=40_000, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(0.1, 0.01), min_length=1)
    noise: float = Field(default=0.01, gt=0)
    noise_decay: float = Field(default=0.55, ge=0)
    depth: int = Field(default=20, ge=1)
    control_depth: int = Field(default=5, ge=1)
    width: int = Field(default=50, ge=1)
    dropout: float = Field(default=0.5, gt=0, lt=1)
    train_samples: int | None = Field(default=None, ge=10)
    validation_samples: int = Field(default=2000, ge=10)
    steps_between: int = Field(default=500, ge=1)


DEFAULTS: dict[Scale, dict[str, Any]] = {
    "smoke": {"steps": 200, "steps_between": 50, "validation_samples": 100, "learning_rates": [0.1], "batch_size": 16},
    # At the rate 0.01 noise moves a weight ten times less: a poor start is not left in any time that a laptop has.
    "laptop": {"steps": 40_000, "steps_between": 1000, "validation_samples": 1000, "learning_rates": [0.1]},
    # The paper gives neither batch nor length; 40 runs of a setting are 20 seeds with two learning rates.
    "paper": {"steps": 300_000, "steps_between": 2000, "validation_samples": 5000, "batch_size": 64},
}
"""Of the section, at each scale."""


@dataclass(frozen=True)
class Group:
    """Networks of one shape, trained together.

    Attributes:
        name: of the group.
        shape: of every network.
        arms: name of the row and whether there is noise, one for each setting.
        settings: those with noise first.
    """

    name: str
    shape: Shape
    arms: tuple[tuple[str, bool], ...]
    settings: tuple[Setting, ...]

    def ensemble(self, settings: DeepMLPSettings, seeds: Sequence[int], device: torch.device) -> Ensemble:
        """Its networks at their beginning."""
        return Ensemble(
            self.shape,
            self.settings,
            seeds,
            gamma=settings.noise_decay,
            batch_size=settings.batch_size,
            device=device,
        )


def groups_of(rows: Sequence[str], settings: DeepMLPSettings, num_inputs: int, num_classes: int) -> list[Group]:
    """The ensembles that train these rows."""

    def group(name: str, names: Sequence[str], noises: Sequence[bool], depth: int, dropout: float = 0.0) -> Group:
        arms, members = [], []
        for noisy, row, rate in itertools.product(noises, names, settings.learning_rates):
            initialisation, clip = ROWS.get(row, ("simple", None))
            arms.append((row, noisy))
            members.append(Setting(initialisation, rate, settings.noise if noisy else None, clip))
        return Group(name, Shape(num_inputs, num_classes, depth, settings.width, dropout), tuple(arms), tuple(members))

    deep = [row for row in ROWS if row in rows]
    made = [group("deep", deep, (True, False), settings.depth)] if deep else []
    if DROPOUT in rows:
        made.append(group("dropout", [DROPOUT], (False,), settings.depth, settings.dropout))
    if SHALLOW in rows:
        made.append(group("shallow", [SHALLOW], (True, False), settings.control_depth))
    return made
