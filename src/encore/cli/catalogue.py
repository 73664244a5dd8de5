"""`encore list` and `encore show`: what there is, from the cards alone, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from encore.base import registry
from encore.base.cards import Card
from encore.cli.options import Json, print_json, stdout


def list_command(
    task: Annotated[str | None, typer.Option("--task", help="Only papers of this task.")] = None,
    json: Json = False,
) -> None:
    """List every paper."""
    papers = registry.list_papers(task=task)
    if json:
        print_json({"papers": [_entry(card) for card in papers]})
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("paper", "year", "state", "task", "title"):
        table.add_column(heading, no_wrap=heading != "title")
    for card in papers:
        state = f"[green]{card.state}[/green]" if card.state == "performed" else card.state
        table.add_row(card.slug, str(card.year), state, card.tasks[0], card.title)
    stdout().print(table)


def _entry(card: Card) -> dict[str, object]:
    return {
        "slug": card.slug,
        "title": card.title,
        "year": card.year,
        "tasks": list(card.tasks),
        "state": card.state,
        "verbs": list(card.verbs),
    }


def show_command(paper: Annotated[str, typer.Argument(help="The paper's slug.")], json: Json = False) -> None:
    """Show a paper's card, its claims, and what was measured last."""
    card = registry.card(paper)
    from encore.results.locations import record_folders
    from encore.results.record import last_record

    record = last_record(card, *record_folders(Path.cwd()))
    if json:
        measured = record.model_dump(mode="json") if record is not None else None
        print_json({**card.model_dump(mode="json"), "state": card.state, "last_record": measured})
        return
    from encore.results.table import print_card_claims

    console = stdout()
    console.print(f"[bold]{card.title}[/bold]", highlight=False)
    authors = f"{card.num_authors} authors, " if card.num_authors else ""
    console.print(f"{authors}{card.date}, https://arxiv.org/abs/{card.arxiv}", highlight=False)
    console.print(f"\n{card.summary}\n", highlight=False)
    console.print(
        f"state: {card.state}   tasks: {', '.join(card.tasks)}   verbs: {', '.join(card.verbs) or 'none yet'}"
    )
    if card.models:
        console.print(f"models: {', '.join(card.models)}", highlight=False)
    for link in card.links:
        console.print(f"{link.label}: {link.url}", highlight=False, soft_wrap=True)
    public = "public" if card.weights.public else "none published"
    console.print(f"official weights: {public}, licence {card.weights.licence}", highlight=False)
    if record is not None:
        console.print(f"last measured: {record.created[:10]}, {record.scale} scale, {len(record.seeds)} seeds")
    print_card_claims(card.claims, record, console)
