"""Tables written as people have them: train.csv, val.csv and test.csv in one folder."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from encore.base.files import new_folder
from encore.data.named import NamedSet
from encore.data.tables import TableRows
from encore.data.tabular_columns import TableView


def write_tables(source: NamedSet, folder: Path, *, seed: int = 0) -> dict[str, int]:
    """Write an embedded table, whole or not at all; the first column, which has no name, names the rows.

    Args:
        source: an embedded set of the task tabular-classification.
        folder: made; refused where something lies in it.
        seed: of cuts that the set does not make itself.

    Returns:
        The number of rows in each part.

    Raises:
        RunFolderError: the folder is not empty or cannot be written.
    """
    splits = source.open(None, image_size=None, seed=seed)
    view: TableView = splits.view
    parts: dict[str, TableRows] = {"train": splits.train, "val": splits.val, "test": splits.test}
    with new_folder(folder) as partial:
        for name, part in parts.items():
            with (partial / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                table = csv.writer(file)
                table.writerow(["", *(column.name for column in view.columns.columns), view.columns.target])
                for index in range(len(part)):
                    values = view.columns.values_of(part.features[index])
                    cells = [value if isinstance(value, str) else str(np.float32(value)) for value in values.values()]
                    table.writerow([part.names[index], *cells, splits.classes[part.labels[index]]])
    return splits.sizes()
