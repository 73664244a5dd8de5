"""A paper's page in Markdown: card, measured claims, the paper's tables, pictures, and how to perform it."""

from __future__ import annotations

from collections.abc import Sequence

from encore.base.cards import Card, Claim
from encore.results.comparison import LEGEND, comparison_markdown
from encore.results.record import ClaimRecord, ResultRecord
from encore.results.table import baselines_here, escaped, notes, paper_says, spread, verdict

_COMMANDS = {
    "run": "encore run {slug} --scale laptop          # its claims, method and baselines",
    "fit": "encore fit {slug} DATA                    # train it on your data",
    "predict": "encore predict RUN FILE…                 # apply a trained model",
    "evaluate": "encore evaluate RUN DATA                 # measure one",
    "export": "encore export RUN --format onnx -o FILE  # take it elsewhere",
    "compress": "encore compress IN -o OUT --codec {slug}",
    "ask": "encore ask {slug} QUESTION…",
}
"""An example of each verb."""


def paper_page(
    card: Card, record: ResultRecord | None, *, text: str = "", pictures: Sequence[tuple[str, str]] = ()
) -> str:
    """The page of one paper.

    Args:
        card: what the paper says.
        record: what was measured last; None if nothing was.
        text: Markdown of the room's own, put after the summary.
        pictures: address and caption of each.
    """
    parts = [f"# {card.title}", _facts(card), card.summary]
    if text:
        parts.append(text.strip())
    parts.append("## Claims")
    if record is None:
        state = "It is planned: the claims stand, nothing is measured yet." if card.state == "planned" else ""
        parts += [state, _planned_claims(card.claims)]
    else:
        parts += [_setting(record), claims_markdown(record.claims), _notes(record.claims)]
        if record.tables:
            parts += ["## The paper’s tables", LEGEND]
            for one in record.tables:
                parts.append(f"### {one.table.where}: {one.table.title}")
                parts.append(comparison_markdown(one))
                parts.append(f"Paper: {one.table.setting}. Here: {one.note}.")
    if pictures:
        parts.append("## Pictures")
        parts += [f"![{caption}]({address})\n\n*{caption}*" for address, caption in pictures]
    if card.verbs:
        commands = "\n".join(_COMMANDS[verb].format(slug=card.slug) for verb in card.verbs)
        parts += ["## Commands", f"```bash\n{commands}\n```"]
    if card.models:
        parts += ["## Models", "For `create_model`: " + ", ".join(f"`{name}`" for name in card.models) + "."]
    return "\n\n".join(part for part in parts if part) + "\n"


def papers_index(cards: Sequence[Card]) -> str:
    """All papers with their state, the performed first, the newer before the older."""
    ordered = sorted(cards, key=lambda card: (card.state == "planned", -card.date.toordinal()))
    lines = ["| paper | year | task | state |", "|---|---|---|---|"]
    for card in ordered:
        cells = (f"[{escaped(card.title)}]({card.slug}.md)", str(card.year), ", ".join(card.tasks), card.state)
        lines.append("| " + " | ".join(cells) + " |")
    return "# Papers\n\n" + "\n".join(lines) + "\n"


def claims_markdown(claims: Sequence[ClaimRecord]) -> str:
    """Measured claims as a Markdown table."""
    lines = ["| claim | paper says | baseline here | measured here | verdict |", "|---|---|---|---|---|"]
    for claim in claims:
        cells = (
            f"`{claim.id}`: {claim.text}",
            paper_says(claim.paper, claim.unit),
            baselines_here(claim),
            spread(claim.measured, claim.unit),
            f"**{verdict(claim.holds)}**",
        )
        lines.append("| " + " | ".join(escaped(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _planned_claims(claims: Sequence[Claim]) -> str:
    lines = ["| claim | paper says | where |", "|---|---|---|"]
    for claim in claims:
        where = claim.paper.where if claim.paper is not None else "–"
        cells = (f"`{claim.id}`: {claim.text}", paper_says(claim.paper, claim.unit), where)
        lines.append("| " + " | ".join(escaped(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _notes(claims: Sequence[ClaimRecord]) -> str:
    lines = [f"- {', '.join(f'`{one}`' for one in ids)}: {note}." for note, ids in notes(claims).items()]
    return '??? note "Notes on the measurements"\n\n' + "\n".join(f"    {line}" for line in lines) if lines else ""


def _facts(card: Card) -> str:
    authors = ", ".join(card.authors) or (f"{card.num_authors} authors" if card.num_authors else "")
    links = [f"[arXiv {card.arxiv}](https://arxiv.org/abs/{card.arxiv})"]
    links += [f"[{link.label}]({link.url})" for link in card.links]
    if card.weights.public and card.weights.url:
        links.append(f"[official weights]({card.weights.url}) ({card.weights.licence})")
    first = ", ".join(part for part in (authors, str(card.date)) if part)
    return f"{first}<br>\n{' · '.join(links)}"


def _setting(record: ResultRecord) -> str:
    data = "; ".join(
        f"{one.name}, {' / '.join(str(size) for size in one.sizes.values())} samples" for one in record.data
    )
    on = f" on {data}" if data else ""
    seeds = f"{len(record.seeds)} seed{'s' if len(record.seeds) != 1 else ''}"
    return (
        f"Measured {record.created[:10]} at {record.scale} scale with {seeds}{on}; {record.seconds / 60:.0f} minutes "
        f"on {record.machine}. A verdict rests on the 95 % interval of the differences paired by seed."
    )
