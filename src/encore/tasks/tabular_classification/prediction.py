"""Applying a trained classifier to people's tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encore.base.errors import DataError
from encore.base.files import write_text
from encore.base.progress import ProgressReporter
from encore.data.tabular_columns import Columns
from encore.data.tabular_files import Table
from encore.data.tabular_sources import LAYOUT, read_unlabelled, table_files
from encore.nn.tables.row_model import RowModel
from encore.tasks.inputs import unique_stems
from encore.tasks.own_ways import GivesReasons
from encore.tasks.tabular_classification.evidence import CaseInWords, Evidence, telling
from encore.tasks.tabular_classification.pictures import SHOWN_COLUMNS, ShownRow, draw_rows

TOP = 5
"""How many of the likeliest classes a prediction names."""

PICTURED = 12
"""Rows of a table that are pictured."""

SHOWN_CASES = 5
"""Cases beside a row in its picture; the JSON has all."""

_BATCH = 256


@torch.no_grad()
def predict_tables(
    model: RowModel, columns: Columns, inputs: Sequence[Path], folder: Path, progress: ProgressReporter
) -> list[dict[str, Any]]:
    """Classify every row of tables.

    A model that gives reasons gets a picture for each of the first rows, `<stem>_<row>.png`: the row above the nearest
    cases. Of others `<stem>.png` shows the first rows. At the end comes `predictions.jsonl`. All tables are read before
    anything is written.

    Returns:
        The rows of `predictions.jsonl`: `input`, `row` from 1, `name` where the table names its rows, `class`,
        `probability` 0…1, `top`, `picture` (None where there is none), and, of models that give them, `reasons`: the
        cases, the nearest first, with `row`, the case in the table's units, and `matching`, the columns in which the
        row is like it.

    Raises:
        DataError: an input is missing, damaged, or lacks what the model looks at.
    """
    files = _tables(inputs)
    tables = [read_unlabelled(file) for file in files]
    features = [torch.from_numpy(columns.features_of(table)) for table in tables]
    total, rows = sum(len(one) for one in features), list[dict[str, Any]]()
    evidence = Evidence(model, columns)
    for file, stem, table, values in zip(files, unique_stems(files, (".png",)), tables, features, strict=True):
        first = len(rows)
        for start in range(0, len(values), _BATCH):
            rows += _predicted(evidence, values[start : start + _BATCH], start, file, stem, table, folder)
            progress.update("predicting", len(rows), total)
        if not isinstance(model, GivesReasons):
            picture = f"{stem}.png"
            _picture_rows(model, columns, values[:PICTURED], rows[first:], table, folder / picture)
            for row in rows[first : first + PICTURED]:
                row["picture"] = picture
    write_text(folder / "predictions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return rows


def _predicted(
    evidence: Evidence,
    features: Tensor,
    start: int,
    file: Path,
    stem: str,
    table: Table,
    folder: Path,
) -> list[dict[str, Any]]:
    model, columns = evidence.model, evidence.columns
    assert model.classes is not None
    inputs = model.preprocess(features)
    probabilities = model(inputs).float().softmax(1).cpu()
    best = probabilities.topk(min(TOP, probabilities.shape[1]), dim=1)
    reasons = model.reasons(inputs) if isinstance(model, GivesReasons) else None
    rows = []
    for place in range(len(features)):
        number = start + place + 1
        top = [
            {"class": model.classes[index], "probability": round(value, 6)}
            for index, value in zip(best.indices[place].tolist(), best.values[place].tolist(), strict=True)
        ]
        row: dict[str, Any] = {"input": str(file), "row": number}
        if table.row_names:
            row["name"] = table.row_names[number - 1]
        row |= {**top[0], "top": top, "picture": None}
        if reasons is not None:
            cases = evidence.in_words(inputs[place], reasons[place])
            row["reasons"] = [case.as_json() for case in cases]
            if number <= PICTURED:
                row["picture"] = f"{stem}_{number}.png"
                title = f"row {number} of {file.name}: {top[0]['class']}, {100 * best.values[place, 0]:.1f} %"
                picture_case(columns, features[place], inputs[place], cases, title, folder / row["picture"])
        rows.append(row)
    return rows


def picture_case(
    columns: Columns, features: Tensor, inputs: Tensor, cases: Sequence[CaseInWords], title: str, path: Path
) -> None:
    """A row above the cases nearest to it; cells in which they are alike are framed.

    Args:
        columns: of the table.
        features, inputs: the row (D,), in the table's units and standardised.
        cases: the nearest first.
        title: above the picture.
        path: the PNG.
    """
    names = telling(columns, cases[0].deviations, SHOWN_COLUMNS)
    shown = [ShownRow("this row", columns.values_of(features), inputs.cpu())]
    shown += [
        ShownRow(
            f"prototype {case.reason.case} ({case.reason.supports}): "
            f"distance {case.reason.distance:.3g}, adds {case.reason.contribution:+.3g}",
            case.values,
            case.deviations,
            case.matching,
        )
        for case in cases[:SHOWN_CASES]
    ]
    draw_rows(shown, columns, names, title, path)


def _picture_rows(
    model: RowModel, columns: Columns, features: Tensor, rows: Sequence[dict[str, Any]], table: Table, path: Path
) -> None:
    inputs = model.preprocess(features).cpu()
    names = [column.name for column in columns.columns[:SHOWN_COLUMNS]]
    shown = [
        ShownRow(
            f"{row['row']}: {row['class']}, {100 * row['probability']:.1f} %", columns.values_of(values), deviations
        )
        for row, values, deviations in zip(rows, features, inputs, strict=False)
    ]
    draw_rows(shown, columns, names, f"{table.where}: the first {len(shown)} rows", path)


def _tables(inputs: Sequence[Path]) -> list[Path]:
    """The tables that `inputs` (files and folders) mean, in order.

    Raises:
        DataError: a path does not exist, or a folder holds no table.
    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = table_files(path)
            if not found:
                raise DataError(f"{path} holds no table", LAYOUT)
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"{path} does not exist", "name a table, or a folder of tables")
    return files
