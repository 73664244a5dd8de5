"""Claims on the terminal."""

from __future__ import annotations

from rich.console import Console

from encore.base.cards import Claim
from encore.results.record import ResultRecord, exact_record
from encore.results.table import print_card_claims, print_claims

CLAIM = Claim(
    id="mean_square", text="E[z²] is what theory says.", kind="exact", metric="count", unit="", direction="equal"
)


def test_brackets_in_texts_and_notes_are_no_markup():
    measured = exact_record(CLAIM, 1, holds=True, note="it leaves out E[z_i²z_j], and [bold] is a word")
    record = ResultRecord.model_construct(claims=[measured])
    console = Console(width=140, record=True)
    print_claims(record, console)
    print_card_claims([CLAIM], record, console)
    text = console.export_text()
    assert text.count("E[z²] is what theory says.") == 2
    assert "E[z_i²z_j], and [bold] is a word" in text
