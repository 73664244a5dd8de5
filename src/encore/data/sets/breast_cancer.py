"""Breast cancer, as scikit-learn ships it (UCI)."""

from __future__ import annotations

from encore.data.tabular_bundled import BundledTable


class BreastCancer(BundledTable):
    """Thirty measures of cell nuclei, benign or malignant; every fourth row is held out for testing."""

    name = "breast_cancer"
    title = "Breast cancer: thirty measures of cell nuclei (Wolberg, Wisconsin), 2 classes, 569 rows"
    licence = "CC BY 4.0"
    loader = "load_breast_cancer"


SET = BreastCancer()
