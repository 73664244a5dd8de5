"""`report.html`: one self-contained page without JavaScript."""

from __future__ import annotations

import base64
import mimetypes
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from encore.base.files import write_text
from encore.results import comparison, table
from encore.results.plots import learning_curves, seed_values
from encore.results.record import ResultRecord

REPORT = "report.html"


def write_report(record: ResultRecord, folder: Path) -> Path:
    """Write the report of `record` into `folder`, with its pictures inside the page.

    Returns:
        The path of `report.html`.
    """
    path = folder / REPORT
    write_text(path, render_report(record, folder))
    return path


def render_report(record: ResultRecord, folder: Path) -> str:
    """The report as HTML text; pictures are read from `folder`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(
        paper_says=table.paper_says,
        spread=table.spread,
        figure=table.figure,
        verdict=table.verdict,
        headings=comparison.headings,
        compared_rows=comparison.compared_rows,
        legend=comparison.LEGEND,
    )
    template = resources.files("encore.results").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    curves, values = learning_curves(record.arms), seed_values(record.claims)
    return environment.from_string(template).render(
        record=record,
        curves=Markup(curves) if curves else None,
        values=Markup(values) if values else None,
        pictures=[(_inline(folder / picture.path), picture.caption) for picture in record.pictures],
        metric_names=_shown_metrics(record),
    )


def _inline(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _shown_metrics(record: ResultRecord) -> list[str]:
    """Metrics of the arms that fit a table: those that are not per class."""
    return [name for name in dict.fromkeys(name for arm in record.arms for name in arm.metrics) if "/" not in name]
