"""The record of a run: `result.json` and its schema."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from encore.base.cards import Card, Claim, Direction, PaperFigure, PaperTable
from encore.base.errors import RunFolderError
from encore.base.files import write_text
from encore.results.verdict import Interval, comparative_verdict, paired_difference

RESULT = "result.json"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Spread(_Record):
    """A measured quantity over seeds.

    Attributes:
        mean: over the seeds.
        std: sample standard deviation; null for a single value.
        n: number of seeds.
        values: each seed's value, in the order of the record's `seeds`.
    """

    mean: float
    std: float | None
    n: int
    values: list[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one finite value."""
        std = statistics.stdev(values) if len(values) > 1 else None
        return cls(mean=statistics.fmean(values), std=std, n=len(values), values=list(values))


class BaselineMeasurement(Spread):
    """What a baseline reached in the same run.

    Attributes:
        name: the baseline.
        difference: 95 % interval [low, high] of method minus baseline, paired over seeds; null below two.
    """

    name: str
    difference: tuple[float, float] | None = None


class ClaimRecord(_Record):
    """One claim, what the paper says of it and what was measured; fields as in `Claim`."""

    id: str
    text: str
    kind: Literal["comparative", "absolute", "exact"]
    metric: str
    unit: str
    direction: Direction
    margin: float = 0.0
    paper: PaperFigure | None
    baselines: list[BaselineMeasurement]
    measured: Spread | None
    holds: bool | None
    note: str


class TableRow(_Record):
    """One measured row of a paper's table.

    Attributes:
        name: the row, as the card's table calls it.
        values: what was measured, by metric.
        verdicts: for judged metrics, whether the row lies on the paper's side of the reference row: true, false,
            or null where that is open. Rows that the paper has no figure for have none.
    """

    name: str
    values: dict[str, Spread]
    verdicts: dict[str, bool | None] = {}


class TableRecord(_Record):
    """A paper's table, measured again: the rows that could be had.

    Attributes:
        table: the paper's, from the card.
        rows: in the card's order.
        note: the setting, and what is missing.
    """

    table: PaperTable
    rows: list[TableRow]
    note: str = ""


class DataRecord(_Record):
    """One data set as it was used; `skipped` files could not be read and were left out."""

    name: str
    sizes: dict[str, int]
    classes: int
    origin: str
    source: str
    embedded: bool
    skipped: int = 0


class Picture(_Record):
    """A picture in the run's folder, with its caption."""

    path: str
    caption: str


class ArmRecord(_Record):
    """What one trained arm cost and reached for one seed."""

    arm: str
    seed: int
    seconds: float
    metrics: dict[str, float | None]
    curves: list[dict[str, float]] = []


class ResultRecord(_Record):
    """Everything that `result.json` holds."""

    paper: str
    title: str
    scale: Literal["smoke", "laptop", "paper"]
    created: str
    data: list[DataRecord]
    seeds: list[int]
    configuration: dict[str, Any]
    versions: dict[str, str]
    machine: str
    seconds: float
    peak_memory_bytes: int
    claims: list[ClaimRecord]
    tables: list[TableRecord] = []
    arms: list[ArmRecord]
    pictures: list[Picture]
    encore: str

    def write(self, folder: Path) -> Path:
        """Write `result.json` into `folder`, whole or not at all."""
        path = folder / RESULT
        write_text(path, self.to_json())
        return path

    def to_json(self) -> str:
        """The record as indented JSON; NaN cannot occur in it."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def json_schema() -> dict[str, Any]:
    """The JSON schema of `result.json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ResultRecord.model_json_schema()}


def read_record(path: Path) -> ResultRecord:
    """Read a `result.json`, or that of a run's folder.

    Raises:
        RunFolderError: there is none or it does not follow the schema.
    """
    path = path / RESULT if path.is_dir() else path
    try:
        return ResultRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{path} does not exist", "give the folder of a finished encore run") from None
    except (ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise RunFolderError(f"{path} is no record of encore run ({first})", "run the paper again") from error


def comparative_record(
    claim: Claim,
    measured: Sequence[float],
    baselines: Mapping[str, Sequence[float]],
    *,
    undecided: str = "",
    note: str = "",
) -> ClaimRecord:
    """Judge a comparative claim by the one rule.

    Args:
        claim: from the card.
        measured, baselines: values per seed, paired.
        undecided: a reason why there can be no verdict (stand-in data); empty otherwise.
        note: more to say.
    """
    holds, why = comparative_verdict(claim.direction, measured, baselines, claim.margin)
    if undecided:
        holds, why = None, f"{undecided}. {why}"
    note = ". ".join(part for part in (why, note) if part)
    return _claim_record(claim, _paired(measured, baselines), Spread.of(measured), holds, note)


def absolute_record(
    claim: Claim,
    measured: Sequence[float],
    baselines: Mapping[str, Sequence[float]],
    *,
    undecided: str = "",
    note: str = "",
) -> ClaimRecord:
    """Judge a claim to reach the paper's figure: the rule of comparative claims, with that figure as the baseline.

    Args:
        claim: from the card, with the paper's figure.
        measured: values per seed.
        baselines: what else was measured, which the verdict does not depend on.
        undecided: a reason why there can be no verdict (the setting is not the paper's own); empty otherwise.
        note: more to say.
    """
    assert claim.paper is not None
    figure = [claim.paper.value] * len(measured)
    holds, why = comparative_verdict(claim.direction, measured, {"the paper's figure": figure}, claim.margin)
    if undecided:
        holds, why = None, undecided
    note = ". ".join(part for part in (why, note) if part)
    return _claim_record(claim, _paired(measured, baselines), Spread.of(measured), holds, note)


def _paired(measured: Sequence[float], baselines: Mapping[str, Sequence[float]]) -> list[BaselineMeasurement]:
    rows = []
    for name, values in baselines.items():
        interval: Interval = paired_difference(measured, values)
        bounded = math.isfinite(interval.low)
        rows.append(
            BaselineMeasurement(
                name=name,
                difference=(interval.low, interval.high) if bounded else None,
                **Spread.of(values).model_dump(),
            )
        )
    return rows


def table_record(
    table: PaperTable,
    measured: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    undecided: bool = False,
    note: str = "",
) -> TableRecord:
    """Set measured rows beside a paper's table and judge their order against the reference row.

    A row's verdict on a metric asks one thing: does it lie on the same side of the reference row as in the
    paper? Exact columns answer yes or no; the others by the rule of comparative claims.

    Args:
        table: from the card.
        measured: values per seed by row and metric; what is missing was not measured.
        undecided: whether there can be no verdict on trained columns (stand-in data).
        note: the setting.
    """
    reference = measured.get(table.reference, {})
    rows = []
    for name in table.rows:
        values = measured.get(name, {})
        if not values:
            continue
        verdicts: dict[str, bool | None] = {}
        for column in table.columns:
            metric = column.metric
            paper, beside = table.rows[name].get(metric), table.rows[table.reference].get(metric)
            judged = column.judged and name != table.reference and metric in values and metric in reference
            if not judged or paper is None or beside is None or paper == beside:
                continue
            direction: Direction = "higher" if paper > beside else "lower"
            if column.exact:
                difference = values[metric][0] - reference[metric][0]
                verdicts[metric] = difference > 0 if direction == "higher" else difference < 0
            elif not undecided:
                verdicts[metric] = comparative_verdict(direction, values[metric], {"": reference[metric]})[0]
            else:
                verdicts[metric] = None
        spreads = {
            column.metric: Spread.of(values[column.metric]) for column in table.columns if column.metric in values
        }
        rows.append(TableRow(name=name, values=spreads, verdicts=verdicts))
    return TableRecord(table=table, rows=rows, note=note)


def unmeasured_record(claim: Claim, note: str) -> ClaimRecord:
    """Record a claim that this scale cannot measure, with the reason."""
    return _claim_record(claim, [], None, None, note)


def exact_record(
    claim: Claim,
    measured: float,
    *,
    holds: bool,
    baselines: Mapping[str, float] | None = None,
    note: str = "",
) -> ClaimRecord:
    """Record a claim that chance does not touch: a count or an equality."""
    rows = [
        BaselineMeasurement(name=name, **Spread.of([value]).model_dump()) for name, value in (baselines or {}).items()
    ]
    return _claim_record(claim, rows, Spread.of([measured]), holds, note)


def _claim_record(
    claim: Claim, baselines: list[BaselineMeasurement], measured: Spread | None, holds: bool | None, note: str
) -> ClaimRecord:
    return ClaimRecord(
        id=claim.id,
        text=claim.text,
        kind=claim.kind,
        metric=claim.metric,
        unit=claim.unit,
        direction=claim.direction,
        margin=claim.margin,
        paper=claim.paper,
        baselines=baselines,
        measured=measured,
        holds=holds,
        note=note,
    )


def last_record(card: Card, *folders: Path) -> ResultRecord | None:
    """The newest record of a paper among `folders` (each searched for `result.json` one level deep)."""
    records = []
    for folder in folders:
        for path in sorted(folder.glob(f"*/{RESULT}")) if folder.is_dir() else []:
            try:
                record = read_record(path)
            except RunFolderError:
                continue
            if record.paper == card.slug:
                records.append(record)
    return max(records, key=lambda record: record.created, default=None)
