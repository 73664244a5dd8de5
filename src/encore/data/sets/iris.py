"""Iris, as scikit-learn ships it (UCI)."""

from __future__ import annotations

from encore.data.tabular_bundled import BundledTable


class Iris(BundledTable):
    """Four measures of flowers of three species; every fourth row is held out for testing."""

    name = "iris"
    title = "Iris: four measures of iris flowers (Fisher), 3 species, 150 rows"
    licence = "CC BY 4.0"
    loader = "load_iris"


SET = Iris()
