"""Tables in one `.npz`, for those that are too wide for text.

It has `x` (N, D) numbers and `y` (N,) class indices or text; or, with parts of its own, `x_train`, `y_train`, `x_test`
and `y_test`. `feature_names` (D,) names the columns and `class_names`, `classes` or `class_values` (K,) the classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encore.base.errors import DataError
from encore.data.arrays import names_in, read_arrays
from encore.data.tabular_files import Table

TARGET = "y"
"""What the classes' column of such a table is called."""

_PARTS = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
_NAMES = ("class_names", "classes", "class_values")


def holds_rows(path: Path) -> bool:
    """Whether an `.npz` is a table as described above, as far as its names and shapes tell."""
    try:
        names = set(names_in(path))
    except DataError:
        return False
    key = "x" if "x" in names else "x_train" if "x_train" in names else None
    if key is None:
        return False
    try:
        return read_arrays(path, (key,))[key].ndim == 2
    except DataError:
        return False


def read_array_tables(path: Path, *, with_classes: bool = True) -> dict[str, Table]:
    """Read an `.npz`.

    Args:
        path: the file; nothing in it is unpickled.
        with_classes: whether classes are due.

    Returns:
        `{"all": …}`, or the parts `train` and `test`.

    Raises:
        DataError: damaged, pickled, without the arrays, or of other shapes, types and values.
    """
    in_parts = {"x_train", "x_test"} <= set(names_in(path))
    pairs = _PARTS if in_parts else {"all": ("x", "y")}
    rows, classes = [pair[0] for pair in pairs.values()], [pair[1] for pair in pairs.values()]
    arrays = read_arrays(path, [*rows, *(classes if with_classes else ())], (*classes, *_NAMES, "feature_names"))
    width = arrays[rows[0]].shape[1] if arrays[rows[0]].ndim == 2 else 0
    names = _feature_names(path, arrays.get("feature_names"), width)
    class_names = next((arrays[key] for key in _NAMES if key in arrays), None)
    tables = {}
    for part, (x, y) in pairs.items():
        values = arrays[x]
        if values.ndim != 2 or values.dtype.kind not in "biuf" or 0 in values.shape or values.shape[1] != width:
            due = f"(N, {width})" if width else "(N, D)"
            raise DataError(f"{path}: {x} is {values.dtype} of shape {values.shape}", f"due are numbers of shape {due}")
        columns: dict[str, Any] = dict(zip(names, values.T.astype(np.float64), strict=True))
        if y in arrays:
            if TARGET in columns:
                raise DataError(f"{path}: a feature is called '{TARGET}'", "give it another name")
            columns[TARGET] = _labels(path, y, arrays[y], len(values), class_names)
        tables[part] = Table(columns, str(path) if part == "all" else f"{path} ({x})")
    return tables


def _feature_names(path: Path, array: NDArray[Any] | None, width: int) -> list[str]:
    if array is None:
        return [f"x{index}" for index in range(width)]
    if array.shape != (width,) or array.dtype.kind not in "US":
        raise DataError(
            f"{path}: feature_names are {array.dtype} of shape {array.shape}", f"due is text of shape ({width},)"
        )
    names, taken = [], set[str]()
    for name in (str(entry) for entry in array.tolist()):  # several probes may measure one gene
        own, number = name, 1
        while own in taken:
            number += 1
            own = f"{name}_{number}"
        taken.add(own)
        names.append(own)
    return names


def _labels(
    path: Path, name: str, array: NDArray[Any], num_rows: int, class_names: NDArray[Any] | None
) -> list[str | None]:
    if array.shape != (num_rows,) or array.dtype.kind not in "biuUS":
        raise DataError(
            f"{path}: {name} is {array.dtype} of shape {array.shape}",
            f"due are integers or text of shape ({num_rows},)",
        )
    if array.dtype.kind in "US" or class_names is None:
        return [str(entry) for entry in array.tolist()]
    if class_names.ndim != 1 or array.min() < 0 or array.max() >= len(class_names):
        wrong = int(array.min() if array.min() < 0 else array.max())
        raise DataError(
            f"{path}: {name} holds {wrong}, but names are given for {class_names.size} classes",
            "number the classes from 0, in the order of their names",
        )
    return [str(class_names[int(entry)]) for entry in array]
