"""A small table, as many tests of tables write it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np


def write(path: Path, rows: list[list[object]], delimiter: str = ",") -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def flowers(count: int = 30) -> list[list[object]]:
    """A header and rows of two classes: a number, a category, a constant, the class."""
    random = np.random.default_rng(0)
    rows: list[list[object]] = [["length", "colour", "always", "species"]]
    for index in range(count):
        kind = index % 2
        rows.append([round(3 * kind + float(random.normal()), 4), ["red", "blue"][random.integers(2)], 7, "ab"[kind]])
    return rows
