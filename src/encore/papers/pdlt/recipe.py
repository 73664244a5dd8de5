"""Performs the book's claims: critical points, recursions against ensembles, and what they are good for in training."""

from __future__ import annotations

from encore.base.configuration import Configuration
from encore.papers.pdlt.ensemble_part import ENSEMBLE_PART
from encore.papers.pdlt.scales import ENSEMBLES, EnsembleSettings
from encore.papers.pdlt.training_part import TRAINING_PART
from encore.papers.pdlt.training_settings import DEFAULTS, TrainingSettings
from encore.results.parts import PartsRecipe


class TheoryConfiguration(Configuration):
    """What `--set` reaches.

    Attributes:
        ensembles: ensembles of networks at initialisation.
        training: deep networks from critical and from usual beginnings.
    """

    ensembles: EnsembleSettings
    training: TrainingSettings


class TheoryRecipe(PartsRecipe):
    """Ensembles at initialisation, then trainings."""

    data_name = "mnist"
    default_seeds = {"smoke": 1, "laptop": 3, "paper": 3}  # noqa: RUF012
    parts = (ENSEMBLE_PART, TRAINING_PART)
    kind = TheoryConfiguration
    defaults = {  # noqa: RUF012
        scale: {"ensembles": ENSEMBLES[scale], "training": DEFAULTS[scale]} for scale in ENSEMBLES
    }


RECIPE = TheoryRecipe()
