"""Reasons for an answer, in the words of the table: which case, what it looks like, where the row is like it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from encore.data.tabular_columns import Columns
from encore.nn.tables.row_model import RowModel
from encore.tasks.own_ways import Reason

ALIKE = 0.5
"""Numbers that differ by at most this many standard deviations of the training part count as alike."""

NAMED_COLUMNS = 20
"""Of wider tables, a reason names these many columns: those in which the case is least usual."""


@dataclass(frozen=True)
class CaseInWords:
    """One case beside a row.

    Attributes:
        reason: the model's.
        values: the case in the table's units, by column.
        deviations: (D,) the case, in standard deviations from the mean.
        named: the columns in which the case is least usual, or all.
        matching: columns in which the row is like the case: numbers within half a standard deviation, equal levels.
    """

    reason: Reason
    values: dict[str, float | str]
    deviations: Tensor
    named: tuple[str, ...]
    matching: frozenset[str]

    def as_json(self) -> dict[str, Any]:
        """The reason with `row`, what the case looks like, and `matching`; of wide tables the named columns alone."""
        return {
            **self.reason.as_json(),
            "row": {name: rounded(self.values[name]) for name in self.named},
            "matching": [name for name in self.named if name in self.matching],
        }


class Evidence:
    """Puts a model's reasons into the words of its table; what a case looks like is worked out once.

    Args:
        model: one that `GivesReasons`.
        columns: of its table.
    """

    def __init__(self, model: RowModel, columns: Columns) -> None:
        self.model, self.columns = model, columns
        self._cases: dict[int, tuple[dict[str, float | str], tuple[str, ...]]] = {}
        self._numeric = [(column.name, place.start) for column, place in columns.slices() if column.kind == "numeric"]
        self._places = np.array([place for _, place in self._numeric], dtype=np.int64)
        self._levels = [(column.name, place) for column, place in columns.slices() if column.kind == "categorical"]

    def in_words(self, inputs: Tensor, reasons: list[Reason]) -> list[CaseInWords]:
        """The reasons for the answer to one row.

        Args:
            inputs: (D,), standardised.
            reasons: as `GivesReasons.reasons` returns them for that row.
        """
        row, cases = inputs.cpu(), []
        for reason in reasons:
            shown = reason.shown.detach().cpu()
            if reason.case not in self._cases:
                named = tuple(telling(self.columns, shown, NAMED_COLUMNS))
                self._cases[reason.case] = self.in_units(shown), named
            values, named = self._cases[reason.case]
            cases.append(CaseInWords(reason, values, shown, named, self.alike(row, shown)))
        return cases

    def in_units(self, inputs: Tensor) -> dict[str, float | str]:
        """A standardised row (D,) in the table's units, by column."""
        return self.columns.values_of(self.model.in_units(inputs.detach().to(self.model.device)).cpu())

    def alike(self, first: Tensor, second: Tensor) -> frozenset[str]:
        """The columns in which two standardised rows (D,) are alike."""
        apart = np.abs(first.numpy() - second.numpy())[self._places]
        numeric = [self._numeric[index][0] for index in np.flatnonzero(apart <= ALIKE)]
        levels = [name for name, place in self._levels if int(first[place].argmax()) == int(second[place].argmax())]
        return frozenset((*numeric, *levels))


def telling(columns: Columns, deviations: Tensor, count: int) -> list[str]:
    """The columns, `count` at most, in which a row (D,) is least usual; in the table's order."""
    if len(columns.columns) <= count:
        return [column.name for column in columns.columns]
    sizes = deviations.abs().tolist()
    unusual = {column.name: max(sizes[place]) for column, place in columns.slices()}
    kept = set(sorted(unusual, key=lambda name: -unusual[name])[:count])
    return [column.name for column in columns.columns if column.name in kept]


def rounded(value: float | str) -> float | str:
    """A number with six figures, or the text as it is."""
    return value if isinstance(value, str) else float(f"{value:.6g}")
