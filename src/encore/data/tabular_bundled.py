"""Tables that scikit-learn ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from encore.data.tables import TableSet
from encore.data.tabular_files import Cells, Table


class BundledTable(TableSet):
    """A table of scikit-learn's; every fourth row is held out for testing.

    Attributes:
        loader: the function of `sklearn.datasets` that loads it.
    """

    embedded = True
    loader: str

    @property
    def target(self) -> str:
        """`class`."""
        return "class"

    def tables(self, path: Path | None) -> dict[str, Table]:
        """Every fourth row is the test part, which no seed changes."""
        import sklearn.datasets

        bunch = getattr(sklearn.datasets, self.loader)()
        columns: dict[str, Cells] = {
            str(name): np.asarray(values, dtype=np.float64)
            for name, values in zip(bunch.feature_names, bunch.data.T, strict=True)
        }
        columns["class"] = [str(bunch.target_names[index]) for index in bunch.target]
        whole = Table(columns, self.name, row_names=[f"{self.name}_{row + 1:03d}" for row in range(len(bunch.data))])
        return {
            "train": whole.rows([row for row in range(len(whole)) if row % 4]),
            "test": whole.rows(range(0, len(whole), 4)),
        }
