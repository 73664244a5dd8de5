"""Tables written as people have them: train.csv, val.csv and test.csv in one folder."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np

from encore.base.errors import RunFolderError
from encore.base.files import unwritable
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
    folder = folder.resolve()
    splits = source.open(None, image_size=None, seed=seed)
    view: TableView = splits.view
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    parts: dict[str, TableRows] = {"train": splits.train, "val": splits.val, "test": splits.test}
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunFolderError(f"{folder} is not empty", "name another folder with --out")
        partial.mkdir(parents=True)
        for name, part in parts.items():
            with (partial / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                table = csv.writer(file)
                table.writerow(["", *(column.name for column in view.columns.columns), view.columns.target])
                for index in range(len(part)):
                    values = view.columns.values_of(part.features[index])
                    cells = [value if isinstance(value, str) else str(np.float32(value)) for value in values.values()]
                    table.writerow([part.names[index], *cells, splits.classes[part.labels[index]]])
        if folder.is_dir():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return splits.sizes()
