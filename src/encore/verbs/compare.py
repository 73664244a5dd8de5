"""`compare`: the measurements of several runs side by side, with intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encore.base.errors import ConfigurationError, RunFolderError
from encore.results.record import RESULT, read_record
from encore.results.verdict import confidence_interval
from encore.verbs.fit import METRICS

Row = dict[str, Any]


def compare(runs: Sequence[str | Path]) -> dict[str, Any]:
    """Put the measurements of finished runs side by side.

    Args:
        runs: folders that `run` or `fit` left, or `result.json` files; two at least.

    Returns:
        `runs`: the folders with what they are; `measurements`: one row per quantity that occurs, with
        `name`, `unit` and `values`, one per run: None, or `mean`, `n` and the 95 % interval `low`, `high`
        (None for a single seed).

    Raises:
        RunFolderError: a folder holds no measurements.
        ConfigurationError: fewer than two runs.
    """
    if len(runs) < 2:
        raise ConfigurationError("compare needs two runs at least", "name the folders of two finished runs")
    tables = [_measurements(Path(run)) for run in runs]
    names = list(dict.fromkeys(name for _, table in tables for name in table))
    rows = []
    for name in names:
        found = [table.get(name) for _, table in tables]
        unit = next(cell["unit"] for cell in found if cell is not None)
        values = [None if cell is None else {key: cell[key] for key in ("mean", "low", "high", "n")} for cell in found]
        rows.append({"name": name, "unit": unit, "values": values})
    return {"runs": [heading for heading, _ in tables], "measurements": rows}


def _measurements(path: Path) -> tuple[Row, dict[str, Row]]:
    """What a run is, and its quantities by name."""
    if path.is_file() or (path / RESULT).is_file():
        record = read_record(path)
        heading = {"run": str(path), "what": f"run {record.paper}, {record.scale}", "verdicts": {}}
        heading["verdicts"] = {claim.id: claim.holds for claim in record.claims}
        table: dict[str, Row] = {}
        for claim in record.claims:
            if claim.measured is not None:
                table[claim.id] = _cell(claim.measured.values, claim.unit)
            for baseline in claim.baselines:
                table[f"{claim.id}: {baseline.name}"] = _cell(baseline.values, claim.unit)
        return heading, table
    if (path / METRICS).is_file():
        metrics = json.loads((path / METRICS).read_text(encoding="utf-8"))["metrics"]
        table = {name: _cell([value], "") for name, value in metrics.items() if value is not None}
        return {"run": str(path), "what": "fit", "verdicts": {}}, table
    raise RunFolderError(f"{path} holds no measurements", "give the folder of a finished encore run or encore fit")


def _cell(values: Sequence[float], unit: str) -> Row:
    interval = confidence_interval(values)
    bounded = math.isfinite(interval.low)
    return {
        "mean": interval.mean,
        "low": interval.low if bounded else None,
        "high": interval.high if bounded else None,
        "n": len(values),
        "unit": unit,
    }
