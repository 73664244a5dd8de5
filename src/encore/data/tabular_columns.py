"""What the columns of a table mean to a model: which are numbers, which are texts with which levels.

This is learnt from one table and kept with the model, so that rows which come later are read in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from encore.base.errors import ConfigurationError, DataError
from encore.data.tabular_files import MISSING_IN_WORDS, Cells, Table, as_numbers, is_number, numbers_first, text_of

MAX_LEVELS = 1000
"""A column of more different texts is no category."""

MOSTLY = 0.9
"""From this share of numbers on, a text in a column counts as a mistake and not as a level."""

FINEST = 2.0**20
"""Numbers this many times larger than all their differences lose too much in float32, which has 24 bits."""

FEWEST_NUMBERED = 20
"""From this many rows on, consecutive whole numbers count as numbers of rows."""

Missing = Literal["refuse", "median"]
"""What happens to cells that are missing: an error, or the training part's median (of texts the commonest level)."""


class Column(BaseModel):
    """One column of a table.

    Attributes:
        name: in the first line of the table.
        kind: `numeric`, one feature in the table's units; or `categorical`, one feature of 0 or 1 for each level.
        levels: the texts of a categorical column, in the order of its features.
        fill: what stands in where the cell is missing; None refuses it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Literal["numeric", "categorical"]
    levels: tuple[str, ...] = ()
    fill: float | str | None = None

    @property
    def width(self) -> int:
        """How many features it takes."""
        return 1 if self.kind == "numeric" else len(self.levels)

    @property
    def features(self) -> list[str]:
        """Names of its features."""
        return [self.name] if self.kind == "numeric" else [f"{self.name}={level}" for level in self.levels]


class Columns(BaseModel):
    """All columns of a table that a model looks at, in the order of its features.

    Attributes:
        target: the column that holds the classes.
        columns: those that become features.
        constant: those left out because the training part has one value in them, or none.
    """

    model_config = ConfigDict(frozen=True)

    target: str
    columns: tuple[Column, ...]
    constant: tuple[str, ...] = ()

    @property
    def num_features(self) -> int:
        """D."""
        return sum(column.width for column in self.columns)

    @property
    def feature_names(self) -> list[str]:
        """D names; a level of a categorical column is called `colour=red`."""
        return [name for column in self.columns for name in column.features]

    def slices(self) -> Iterator[tuple[Column, slice]]:
        """Each column with the place of its features."""
        start = 0
        for column in self.columns:
            yield column, slice(start, start + column.width)
            start += column.width

    def features_of(self, table: Table, *, gaps: bool = False) -> NDArray[np.float32]:
        """The rows of a table as features.

        Args:
            table: has at least these columns; others are not looked at.
            gaps: leave missing cells that have no `fill` as NaN instead of refusing them.

        Returns:
            (N, D) float32, in the table's units.

        Raises:
            DataError: a column is missing; a cell is missing, no number, not finite, or a level that is not known.
        """
        lacking = [column.name for column in self.columns if column.name not in table.columns]
        if lacking:
            shown = ", ".join(f"'{name}'" for name in lacking[:5]) + (" …" if len(lacking) > 5 else "")
            raise DataError(
                f"{table.where} lacks {len(lacking)} of the model's {len(self.columns)} columns ({shown})",
                "name the columns as in the table that the model was fitted to",
            )
        features = np.empty((len(table), self.num_features), dtype=np.float32)
        for column, place in self.slices():
            cells = table.columns[column.name]
            if column.kind == "numeric":
                features[:, place.start] = _numbers(column, cells, table, gaps)
            else:
                features[:, place] = _one_hot(column, cells, table, gaps)
        return features

    def values_of(self, features: Tensor | NDArray[Any]) -> dict[str, float | str]:
        """A row of features (D,) in the table's words: a number, or the level whose feature is largest."""
        row = np.asarray(features, dtype=np.float64)
        numbers = row.tolist()
        return {
            column.name: numbers[place.start] if column.kind == "numeric" else column.levels[int(row[place].argmax())]
            for column, place in self.slices()
        }

    def filled(self, features: NDArray[np.float32]) -> Columns:
        """These columns, each with a `fill` from training rows (N, D) that have gaps."""
        columns = []
        for column, place in self.slices():
            known = features[~np.isnan(features[:, place.start]), place]
            fill: float | str
            if column.kind == "numeric":
                fill = float(np.median(known)) if len(known) else 0.0
            else:
                fill = column.levels[int(known.sum(0).argmax())]
            columns.append(column.model_copy(update={"fill": fill}))
        return self.model_copy(update={"columns": tuple(columns)})

    def without_gaps(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D) with every gap closed by the column's `fill`."""
        closed = features.copy()
        for column, place in self.slices():
            gaps = np.isnan(closed[:, place.start])
            if gaps.any() and column.fill is not None:
                closed[gaps, place] = (
                    column.fill if column.kind == "numeric" else [level == column.fill for level in column.levels]
                )
        return closed

    def without_constant(self, features: NDArray[np.float32]) -> tuple[Columns, NDArray[np.int64]]:
        """These columns but those with one value in training rows (N, D), and which features are kept.

        Raises:
            DataError: none is left.
        """
        varies = features.min(0) < features.max(0)
        kept = [(column, place) for column, place in self.slices() if varies[place].any()]
        left = {column.name for column, _ in kept}
        constant = tuple(column.name for column in self.columns if column.name not in left)
        if not kept:
            raise DataError("no column of the table varies in its training part", "give rows that differ")
        places = np.concatenate([np.arange(place.start, place.stop) for _, place in kept])
        columns = self.model_copy(update={"columns": tuple(column for column, _ in kept), "constant": constant})
        return columns, places

    def numbering(self, features: NDArray[np.float32]) -> list[str]:
        """Columns that hold consecutive whole numbers, each once, in all rows (N, D): they likely number the rows."""
        count, found = len(features), []
        if count < FEWEST_NUMBERED:
            return []
        for column, place in self.slices():
            values = features[:, place.start]
            if column.kind == "numeric" and np.ptp(values) == count - 1:
                steps = np.sort(values.astype(np.float64)) - float(values.min())
                if np.array_equal(steps, np.arange(count)):
                    found.append(column.name)
        return found

    def statistics(self, features: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation (D,) of training rows (N, D); 0 and 1 for features of levels."""
        mean, std = np.zeros(self.num_features), np.ones(self.num_features)
        numeric = [place.start for column, place in self.slices() if column.kind == "numeric"]
        values = features[:, numeric].astype(np.float64)
        mean[numeric], std[numeric] = values.mean(0), values.std(0)
        return mean, std


@dataclass(frozen=True)
class TableView:
    """How a model is to see rows: what the columns mean, and what is usual in them.

    Attributes:
        columns: in the order of the features.
        mean, std: (D,) float64, of the training part.
    """

    columns: Columns
    mean: NDArray[np.float64]
    std: NDArray[np.float64]


def learn_columns(
    tables: Sequence[Table], target: str, *, ignore: Collection[str] = (), categorical: Collection[str] = ()
) -> Columns:
    """Tell numbers from categories, and collect the levels, over all parts of a table.

    Args:
        tables: its parts; the first says which columns there are.
        target: the column of the classes.
        ignore: columns that are left out.
        categorical: columns that are categories although they hold numbers.

    Raises:
        ConfigurationError: `ignore` or `categorical` name a column that is not there.
        DataError: a part lacks a column; a text stands among numbers; a column of texts is no category; no column is
            left.
    """
    first = tables[0]
    for key, names in (("ignore", ignore), ("categorical", categorical)):
        for name in names:
            if name not in first.columns:
                shown = ", ".join(list(first.columns)[:12])
                raise ConfigurationError(
                    f"{key}: {first.where} has no column '{name}'", f"it has {shown}; several are written [a,b]"
                )
    names = [name for name in first.columns if name != target and name not in ignore]
    if not names:
        raise DataError(
            f"{first.where} has no column beside the classes '{target}'",
            "give at least one; commas, semicolons or tabs stand between columns",
        )
    for table in tables[1:]:
        lacking = [name for name in (target, *names) if name not in table.columns]
        if lacking:
            raise DataError(
                f"{table.where} has no column '{lacking[0]}', which {first.where} has",
                "give all parts the same columns",
            )
    return Columns(target=target, columns=tuple(_learnt(name, tables, name in categorical) for name in names))


def _learnt(name: str, tables: Sequence[Table], forced: bool) -> Column:
    parts = [table.columns[name] for table in tables]
    numeric = [cells for cells in parts if isinstance(cells, np.ndarray)]
    if not forced and len(numeric) == len(parts):
        _check_precision(name, np.concatenate(numeric), tables[0].where)
        return Column(name=name, kind="numeric")
    texts = [text_of(cells) for cells in parts]
    known = [cell for cells in texts for cell in cells if cell is not None]
    if not known:  # no level is known: a column without values, which is refused or left out
        return Column(name=name, kind="numeric")
    numbers = sum(map(is_number, known))
    if not forced and MOSTLY * len(known) <= numbers < len(known):
        table, row, cell = next(
            (table, row, cell)
            for table, cells in zip(tables, texts, strict=True)
            for row, cell in enumerate(cells)
            if cell is not None and not is_number(cell)
        )
        raise DataError(
            f"{table.place(row)}: column '{name}' holds '{cell}' among numbers",
            f"correct it, or call the column a category: categorical={name}",
        )
    levels = sorted(set(known), key=numbers_first)
    if len(levels) > MAX_LEVELS or (len(known) >= 20 and len(levels) > len(known) / 2):
        raise DataError(
            f"{tables[0].where}: column '{name}' holds {len(levels)} different texts in {len(known)} rows, "
            f"such as '{known[0][:40]}'",
            f"leave it out (ignore={name}), or write numbers as 1234.5",
        )
    return Column(name=name, kind="categorical", levels=tuple(levels))


def _check_precision(name: str, values: NDArray[np.float64], where: str) -> None:
    """Refuse numbers that float32 would make (nearly) equal, such as seconds since 1970 within an hour."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return
    spread, largest = float(np.ptp(finite)), float(np.abs(finite).max())
    if 0 < spread < largest / FINEST:
        raise DataError(
            f"{where}: the numbers of column '{name}' are up to {largest:.6g} and differ by {spread:.3g} at most, "
            "which float32 does not tell apart",
            f"subtract one number from all of them, or leave the column out: ignore={name}",
        )


def _missing(column: Column, table: Table, row: int) -> DataError:
    return DataError(
        f"{table.place(row)}: column '{column.name}' is missing ({MISSING_IN_WORDS})",
        "fill it in, or fit with missing=median, which takes the training part's median",
    )


def _numbers(column: Column, cells: Cells, table: Table, gaps: bool) -> NDArray[np.float32]:
    """(N,) float32."""
    numbers = as_numbers(cells) if isinstance(cells, list) else cells
    if isinstance(numbers, list):
        row = next(row for row, cell in enumerate(numbers) if cell is not None and not is_number(cell))
        raise DataError(
            f"{table.place(row)}: column '{column.name}' holds '{numbers[row]}' where a number is due", "correct it"
        )
    with np.errstate(over="ignore"):
        values = numbers.astype(np.float32)
    infinite = np.isinf(values)
    if infinite.any():
        row = int(infinite.argmax())
        raise DataError(
            f"{table.place(row)}: column '{column.name}' holds {numbers[row]}, which is not finite in float32",
            "correct it, or scale the column",
        )
    empty = np.isnan(values)
    if empty.any() and column.fill is not None:
        values[empty] = column.fill
    elif empty.any() and not gaps:
        raise _missing(column, table, int(empty.argmax()))
    return values


def _one_hot(column: Column, cells: Cells, table: Table, gaps: bool) -> NDArray[np.float32]:
    """(N, levels) float32, a row of NaN for a gap."""
    places: Mapping[str | None, int] = {level: place for place, level in enumerate(column.levels)}
    features = np.zeros((len(table), column.width), dtype=np.float32)
    for row, cell in enumerate(text_of(cells)):
        level = column.fill if cell is None else cell
        if level is None:
            if not gaps:
                raise _missing(column, table, row)
            features[row] = math.nan
            continue
        if level not in places:
            shown = ", ".join(column.levels[:8]) + (" …" if len(column.levels) > 8 else "")
            raise DataError(
                f"{table.place(row)}: column '{column.name}' holds '{level}', which the model has not met",
                f"it knows {shown}",
            )
        features[row, places[str(level)]] = 1
    return features
