"""A paper's tables with the rows measured here beside the printed ones, as cells for Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from encore.results.record import Spread, TableRecord
from encore.results.table import escaped, figure, verdict

MARKS: dict[str | None, str] = {"holds": " ✓", "does not hold": " ✗", "open": " ?", None: ""}

LEGEND = (
    "Each cell: measured here, then the paper’s figure in parentheses. ✓ on the paper’s side of the reference row, "
    "✗ not, ? open (the interval over seeds crosses zero, there are fewer than three seeds, or other data stand in)."
)


@dataclass(frozen=True)
class Cell:
    """One figure, twice.

    Attributes:
        here: what was measured, `–` if it was not.
        paper: what is printed; None if nothing is.
        judgement: whether the row lies on the paper's side of the reference row: `holds`, `does not hold` or
            `open`; None where that is not asked.
    """

    here: str
    paper: str | None
    judgement: str | None

    @property
    def text(self) -> str:
        """Both in one line, with the mark."""
        paper = f" ({self.paper})" if self.paper is not None else ""
        return f"{self.here}{paper}{MARKS[self.judgement]}"


@dataclass(frozen=True)
class ComparedRow:
    """One row, its cells in the columns' order, and the verdict over all that are judged."""

    name: str
    is_reference: bool
    cells: tuple[Cell, ...]
    judgement: str | None


def headings(record: TableRecord) -> list[str]:
    """The columns' labels with their units."""
    return [f"{column.label}, {column.unit}" if column.unit else column.label for column in record.table.columns]


def compared_rows(record: TableRecord) -> list[ComparedRow]:
    """All rows of the paper's table, those that were not measured too."""
    measured = {row.name: row for row in record.rows}
    rows = []
    for name, printed in record.table.rows.items():
        row = measured.get(name)
        cells = []
        for column in record.table.columns:
            value = row.values.get(column.metric) if row is not None else None
            paper = f"{printed[column.metric]:,.10g}" if column.metric in printed else None
            judged = row is not None and column.metric in row.verdicts
            judgement = verdict(row.verdicts[column.metric]) if row is not None and judged else None
            cells.append(Cell(_here(value), paper, judgement))
        rows.append(ComparedRow(name, name == record.table.reference, tuple(cells), _over_all(cells)))
    return rows


def comparison_markdown(record: TableRecord) -> str:
    """The comparison as a Markdown table."""
    lines = [
        "| " + " | ".join(["row", *headings(record), "verdict"]) + " |",
        "|---" + "|---:" * len(record.table.columns) + "|---|",
    ]
    for row in compared_rows(record):
        name = f"**{row.name}**" if row.is_reference else row.name
        judgement = "reference" if row.is_reference else row.judgement or "–"
        lines.append("| " + " | ".join(escaped(text) for text in (name, *_texts(row), judgement)) + " |")
    return "\n".join(lines) + "\n"


def _texts(row: ComparedRow) -> list[str]:
    return [cell.text for cell in row.cells]


def _here(value: Spread | None) -> str:
    if value is None:
        return "–"
    if value.std is None:
        return figure(value.mean, "")
    return f"{figure(value.mean, '')} ± {figure(value.std, '')}"


def _over_all(cells: Sequence[Cell]) -> str | None:
    judged = {cell.judgement for cell in cells} - {None}
    for one in ("does not hold", "open", "holds"):
        if one in judged:
            return one
    return None
