"""Writes the measured claims into a Markdown file, between two marker comments: `make tables`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from encore.base.errors import InputError
from encore.base.files import write_text
from encore.results.locations import published_records
from encore.results.pages import claims_markdown
from encore.results.record import RESULT, ResultRecord, read_record

BEGIN = "<!-- claims: written by `make tables` -->"
END = "<!-- /claims -->"


def all_claims(records: Sequence[ResultRecord]) -> str:
    """The claims of each record under its paper's name."""
    return "\n\n".join(f"**{record.paper}**: {record.title}\n\n{claims_markdown(record.claims)}" for record in records)


def with_claims(text: str, table: str) -> str:
    """`text` with `table` between the markers.

    Raises:
        InputError: the markers are missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError("the file has no place for the claims table", f"add the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main(path: Path) -> None:
    """Rewrite `path` from all published records."""
    records = [read_record(found) for found in sorted(published_records().glob(f"*/{RESULT}"))]
    write_text(path, with_claims(path.read_text(encoding="utf-8"), all_claims(records)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
