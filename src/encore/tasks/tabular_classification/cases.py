"""Models that compare rows with learnt cases: what each case is in the table's words, beside the row nearest to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from encore.base.files import write_text
from encore.data.tables import TableRows
from encore.data.tabular_columns import Columns
from encore.tasks.classification.cases import CASES, CASES_BATCH, Neighbours
from encore.tasks.tabular_classification.evidence import NAMED_COLUMNS, Evidence, rounded, telling
from encore.tasks.tabular_classification.pictures import SHOWN_COLUMNS, ShownRow, draw_rows

DRAWN_CASES = 24
"""Cases that are drawn; the JSON has all."""


def as_batches(rows: TableRows) -> Iterator[dict[str, Any]]:
    """Rows in order, as `encore.tasks.classification.cases` takes samples."""
    labels = torch.tensor(rows.labels)
    for start in range(0, len(rows), CASES_BATCH):
        yield {
            "image": rows.features[start : start + CASES_BATCH],
            "label": labels[start : start + CASES_BATCH],
        }


@torch.no_grad()
def write_cases(
    model: Any, columns: Columns, found: Neighbours, rows: TableRows, folder: Path, *, replaced: bool
) -> Path:
    """Leave `prototypes.json` and `prototypes.png`: each case, its class, and the training row nearest to it.

    Args:
        model: a `RowModel` that `LearnsCases`.
        columns: of the table.
        found: its neighbours.
        rows: those that `found` counts.
        folder: of the run.
        replaced: whether the cases are these rows now.

    Returns:
        The picture.
    """
    supported = model.class_of_prototypes().tolist()
    decoded, weights = model.decoded_prototypes().cpu(), model.head.weight.cpu().T
    entries, drawn, evidence = [], [], Evidence(model, columns)
    for case in sorted(range(len(supported)), key=lambda one: (supported[one], one)):
        index, own = int(found.indices[case]), model.classes[supported[case]]
        features, deviations = rows.features[index], decoded[case]
        inputs = model.preprocess(features)[0].cpu()
        values, nearest = evidence.in_units(deviations), columns.values_of(features)
        label, distance = model.classes[int(found.labels[case])], float(found.distances[case])
        named, matching = telling(columns, deviations, NAMED_COLUMNS), evidence.alike(inputs, deviations)
        entries.append(
            {
                "case": case,
                "supports": own,
                "weights": dict(zip(model.classes, weights[case].tolist(), strict=True)),
                "purity": float(found.purity[case]),
                "replaced_by_nearest": replaced,
                "row": {name: rounded(values[name]) for name in named},
                "nearest": {
                    "index": index,
                    "name": rows.names[index],
                    "class": label,
                    "distance": distance,
                    "row": {name: rounded(nearest[name]) for name in named},
                },
            }
        )
        heading = ShownRow(f"prototype {case}: for {own}", values, deviations)
        below = f"nearest: {rows.names[index]} ({label}), {distance:.3g}"
        colour = "tab:green" if label == own else "tab:red"
        drawn += [heading, ShownRow(below, nearest, inputs, matching, colour)]
    write_text(folder / f"{CASES}.json", json.dumps({"prototypes": entries}, ensure_ascii=False, indent=2) + "\n")
    names = telling(columns, decoded.abs().amax(0), SHOWN_COLUMNS)
    title = "prototypes, decoded, and the training row nearest to each; framed: alike"
    draw_rows(drawn[: 2 * DRAWN_CASES], columns, names, title, folder / f"{CASES}.png")
    return folder / f"{CASES}.png"
