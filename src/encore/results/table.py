"""Claims as a table: on the terminal, in Markdown, and in words for the report."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from encore.base.cards import Claim, PaperFigure
from encore.results.record import ClaimRecord, ResultRecord, Spread

VERDICTS: dict[bool | None, str] = {True: "holds", False: "does not hold", None: "open"}


def figure(value: float, unit: str) -> str:
    """A number as people write it, with its unit: `34.3 %`, `1,048,576 bytes`."""
    if value == int(value) and abs(value) < 1e15 and unit not in {"%", "dB"}:
        text = f"{int(value):,}"
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    elif abs(value) >= 1:
        text = f"{value:.2f}".rstrip("0").rstrip(".")
    else:
        text = f"{value:.3g}"
    return f"{text} {unit}".strip()


def paper_says(paper: PaperFigure | None, unit: str) -> str:
    """The paper's figure with those it sets beside it."""
    if paper is None:
        return "no figure"
    beside = ", ".join(f"{name} {figure(value, '')}" for name, value in paper.baselines.items())
    text = figure(paper.value, unit) + (f" ({beside})" if beside else "")
    return text if paper.source == "paper" else f"{text} [{paper.source}]"


def spread(value: Spread | None, unit: str) -> str:
    """Mean ± standard deviation over n seeds."""
    if value is None:
        return "not measured"
    if value.std is None:
        return figure(value.mean, unit)
    return f"{figure(value.mean, '')} ± {figure(value.std, unit)} (n {value.n})"


def baselines_here(claim: ClaimRecord) -> str:
    """Every baseline's measurement, one a line."""
    return "\n".join(f"{one.name} {spread(one, claim.unit)}" for one in claim.baselines) or "–"


def verdict(holds: bool | None) -> str:
    """`holds`, `does not hold` or `open`."""
    return VERDICTS[holds]


def print_claims(record: ResultRecord, console: Console) -> None:
    """Print the table claim · paper says · baseline here · measured here · verdict."""
    table = Table(box=box.SIMPLE_HEAD, show_lines=True, pad_edge=False)
    table.add_column("claim", ratio=3, min_width=16)
    table.add_column("paper says", ratio=2)
    table.add_column("baseline here", ratio=2)
    table.add_column("measured here", ratio=2)
    table.add_column("verdict")
    styles = {True: "green", False: "red", None: "yellow"}
    for claim in record.claims:
        table.add_row(
            f"[bold]{claim.id}[/bold]\n{escape(claim.text)}",
            paper_says(claim.paper, claim.unit),
            baselines_here(claim),
            spread(claim.measured, claim.unit),
            f"[{styles[claim.holds]}]{verdict(claim.holds)}[/]",
        )
    console.print(table)
    for note, ids in notes(record.claims).items():
        console.print(f"[bold]{', '.join(ids)}[/bold]: {escape(note)}", highlight=False, soft_wrap=True)


def notes(claims: Sequence[ClaimRecord]) -> dict[str, list[str]]:
    """The claims' notes, each once, with the ids of the claims that have it."""
    found: dict[str, list[str]] = {}
    for claim in claims:
        if claim.note:
            found.setdefault(claim.note, []).append(claim.id)
    return found


def escaped(text: str) -> str:
    """`text` for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", "<br>")


def print_card_claims(claims: Sequence[Claim], record: ResultRecord | None, console: Console) -> None:
    """Print a card's claims with what was measured last."""
    measured = {claim.id: claim for claim in record.claims} if record is not None else {}
    table = Table(box=box.SIMPLE_HEAD, show_lines=True, pad_edge=False)
    for heading in ("claim", "paper says", "measured last", "verdict"):
        table.add_column(heading)
    for claim in claims:
        last = measured.get(claim.id)
        table.add_row(
            f"[bold]{claim.id}[/bold]\n{escape(claim.text)}",
            paper_says(claim.paper, claim.unit),
            spread(last.measured, claim.unit) if last else "–",
            verdict(last.holds) if last else "–",
        )
    console.print(table)
