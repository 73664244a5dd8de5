"""Wine, as scikit-learn ships it (UCI)."""

from __future__ import annotations

from encore.data.tabular_bundled import BundledTable


class Wine(BundledTable):
    """Thirteen measures of wines of three cultivars; every fourth row is held out for testing."""

    name = "wine"
    title = "Wine: thirteen measures of Italian wines (Forina), 3 cultivars, 178 rows"
    licence = "CC BY 4.0"
    loader = "load_wine"


SET = Wine()
