"""What verbs return, printed for people or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic_core import to_jsonable_python as jsonable
from rich import box
from rich.table import Table

from encore.cli.options import print_json, stdout
from encore.nn.export import Exported
from encore.results.codecs import CodecReport
from encore.results.performance import Plan
from encore.results.questions import Answer, Question
from encore.results.report import REPORT
from encore.results.table import figure, print_claims, verdict
from encore.verbs.ask import Parameter, parameters_of
from encore.verbs.run import RunOutcome


def print_outcome(outcome: RunOutcome, *, as_json: bool) -> None:
    """The claims table and where the report lies."""
    if as_json:
        print_json(outcome.record.model_dump(mode="json"))
        return
    console = stdout()
    print_claims(outcome.record, console)
    seconds = outcome.record.seconds
    console.print(f"\n{seconds:.0f} s; report: {outcome.folder / REPORT}", soft_wrap=True, highlight=False)


def print_plan(plan: Plan, *, as_json: bool) -> None:
    """What a run would do."""
    if as_json:
        print_json(asdict(plan))
        return
    console = stdout()
    for heading, lines in (("data", plan.data), ("arms", plan.arms), ("note", plan.notes)):
        for line in lines:
            console.print(f"{heading:<7} {line}", highlight=False)
    console.print(f"seeds   {', '.join(str(seed) for seed in plan.seeds)}", highlight=False)
    console.print(f"time    about {_duration(plan.seconds)}", highlight=False)
    console.print(f"memory  about {plan.memory_bytes / 2**30:.1f} GiB", highlight=False)
    console.print(f"disk    about {plan.disk_bytes / 2**20:.0f} MiB", highlight=False)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def print_metrics(metrics: Mapping[str, float | None]) -> None:
    """One metric a line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, value in metrics.items():
        table.add_row(name, "–" if value is None else f"{value:.2f}")
    stdout().print(table)


def print_comparison(comparison: dict[str, Any], *, as_json: bool) -> None:
    """Runs as columns, quantities as rows, each with its 95 % interval."""
    if as_json:
        print_json(comparison)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("measurement", no_wrap=True)
    for heading in comparison["runs"]:
        table.add_column(f"{heading['run']}\n{heading['what']}")
    for row in comparison["measurements"]:
        table.add_row(row["name"], *(_interval(value, row["unit"]) for value in row["values"]))
    claims = list(dict.fromkeys(claim for heading in comparison["runs"] for claim in heading["verdicts"]))
    for claim in claims:
        cells = [verdict(one["verdicts"][claim]) if claim in one["verdicts"] else "–" for one in comparison["runs"]]
        table.add_row(f"{claim}: verdict", *cells)
    stdout().print(table)


def print_exported(exported: Exported, *, as_json: bool) -> None:
    """The file, what goes in and comes out, and how far it is from the model."""
    if as_json:
        print_json({**asdict(exported), "file": str(exported.file)})
        return
    console = stdout()
    for what, ports in (("input", exported.inputs), ("output", exported.outputs)):
        for port in ports:
            shape = ", ".join(str(length) for length in port.shape)
            console.print(f"{what:<7} {port.name}: {port.dtype} ({shape})", highlight=False)
    if exported.note:
        console.print(f"note    {exported.note}", highlight=False)
    size = exported.file.stat().st_size / 1e6
    console.print(f"differs from the model by {exported.max_difference:.1e} of the largest output", highlight=False)
    console.print(f"{exported.format}, {size:.1f} MB: {exported.file}", soft_wrap=True, highlight=False)


def print_codec(report: CodecReport, *, as_json: bool) -> None:
    """How many bits a value took, how fast, and what was written."""
    if as_json:
        print_json(report.content())
        return
    size = f"{report.num_bytes:,} bytes".replace(",", " ")
    stdout().print(
        f"{report.num_samples} samples, {size}, {report.bits_per_dimension:.3f} bits per dimension, "
        f"{report.megabytes_per_second:.2f} MB/s: {report.file}",
        soft_wrap=True,
        highlight=False,
    )


def print_answer(answer: Answer, *, as_json: bool) -> None:
    """The sentences, then the table."""
    if as_json:
        print_json(answer.as_json())
        return
    console = stdout()
    console.print(answer.text, highlight=False, markup=False)
    if answer.rows:
        columns = list(dict.fromkeys(name for row in answer.rows for name in row))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in columns:
            words = any(isinstance(row.get(name), str) for row in answer.rows)
            table.add_column(name, justify="left" if words else "right")
        for row in answer.rows:
            table.add_row(*(_cell(row.get(name)) for name in columns))
        console.print(table)
    for path in answer.pictures:
        console.print(f"picture: {path}", soft_wrap=True, highlight=False)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def print_questions(paper: str, questions: Mapping[str, Question], *, as_json: bool) -> None:
    """What a paper can be asked, with the keys of each question."""
    if as_json:
        rows = [
            {
                "name": name,
                "text": question.text,
                "parameters": [{**asdict(one), "default": jsonable(one.default)} for one in parameters_of(question)],
            }
            for name, question in questions.items()
        ]
        print_json({"paper": paper, "questions": rows})
        return
    console = stdout()
    for name, question in questions.items():
        console.print(f"encore ask {paper} {name}", highlight=False, style="bold")
        console.print(f"    {question.text}", highlight=False)
        for parameter in parameters_of(question):
            console.print(f"      {_parameter(parameter)}", highlight=False)


def _parameter(parameter: Parameter) -> str:
    start = parameter.name if parameter.required else f"{parameter.name}={jsonable(parameter.default)}"
    return f"{start}  {parameter.text}".rstrip()


def _interval(value: Mapping[str, Any] | None, unit: str) -> str:
    if value is None:
        return "–"
    text = figure(value["mean"], unit)
    if value["low"] is None:
        return text
    return f"{text} [{figure(value['low'], '')}, {figure(value['high'], '')}]"
