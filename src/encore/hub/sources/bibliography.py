"""Bibliographies: BibTeX, RIS and CSV."""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import rispy

from encore.base.errors import DataError
from encore.hub.entries import Entry, address_of, arxiv_identifier, cleaned, doi_of
from encore.hub.sources.bibtex import bibtex_records
from encore.hub.sources.reading import Reading, text_of

COLUMNS = ("title", "authors", "year", "date", "abstract", "doi", "arxiv", "url", "code")
"""Of a CSV. `title` must be there, and `year` or `date`; authors are separated by semicolons."""

Record = tuple[int, str, Mapping[str, str] | str]
"""Line, what the file calls it, and its fields (named as the columns of a CSV) or why it is refused."""

_DATE = re.compile(r"([0-9]{4})(?:[-/]([0-9]{1,2})(?:[-/]([0-9]{1,2}))?)?(?![0-9])")


def read(path: Path) -> Reading:
    """The papers of a bibliography; its suffix says of which kind: `.bib`, `.ris`, `.csv` or `.tsv`.

    Raises:
        DataError: there is no such file, it is no text, of no known kind, or a CSV without titles.
    """
    readers: dict[str, tuple[str, Callable[[str], Iterator[Record]]]] = {
        ".bib": ("bibtex", bibtex_records),
        ".ris": ("ris", _ris_records),
        ".csv": ("csv", _csv_records),
        ".tsv": ("csv", _csv_records),
    }
    if path.suffix.lower() not in readers:
        raise DataError(f"{path} is no bibliography", f"give a file that ends in {', '.join(readers)}")
    source, records = readers[path.suffix.lower()]
    entries, refused = [], []
    for line, name, fields in records(text_of(path)):
        where = f"{path.name}, line {line}" + (f" ({cleaned(name)[:80]})" if cleaned(name) else "")
        try:
            if isinstance(fields, str):
                raise ValueError(fields)
            entries.append(_entry(fields, source))
        except ValueError as error:
            refused.append(f"{where}: {error}")
    return Reading(entries, refused)


def _entry(fields: Mapping[str, str], source: str) -> Entry:
    title = cleaned(fields.get("title", ""))
    if not title:
        raise ValueError("it has no title")
    day, exact = _day(fields)
    return Entry(
        title=title,
        source=source,
        abstract=cleaned(fields.get("abstract", "")),
        authors=[name for name in map(_name, fields.get("authors", "").split(";")) if name],
        arxiv=_arxiv(fields),
        doi=doi_of(fields.get("doi")) or doi_of(fields.get("url")),
        url=address_of(fields.get("url")),
        code_url=address_of(fields.get("code")),
        listed_on=day,
        published=day if exact else None,
    )


def _day(fields: Mapping[str, str]) -> tuple[datetime.date, bool]:
    """The day, and whether it is known; the first of the month or year where it is not."""
    for name in ("date", "year"):
        text = fields.get(name, "").strip()
        found = _DATE.match(text) if name == "date" else re.search(r"(?<![0-9])([0-9]{4})(?![0-9])", text)
        if found is None:
            continue
        year, month, day = (*(int(one) for one in found.groups() if one), 0, 0)[:3]
        try:
            return datetime.date(year, month or 1, day or 1), bool(month and day)
        except ValueError:
            raise ValueError(f"'{text[:40]}' is no date") from None
    raise ValueError("it has neither date nor year")


def _name(text: str) -> str:
    """A name with the given name first; empty for `others`."""
    text = cleaned(text).strip(", ")
    if text.lower().rstrip(".") in {"others", "and others", "et al"}:
        return ""
    last, comma, given = text.partition(",")
    return f"{' '.join(given.replace(',', ' ').split())} {last.strip()}".strip() if comma else text


def _arxiv(fields: Mapping[str, str]) -> str | None:
    for name in ("arxiv", "url", "doi"):
        found = arxiv_identifier(fields.get(name, ""))
        if found and (name != "doi" or "arxiv" in fields[name].lower()):
            return found[0]
    return None


def _ris_records(text: str) -> Iterator[Record]:
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines) if re.match(r"TY  -", line)]
    if not starts and text.strip():
        yield 1, "", "there is no reference in it (none begins with 'TY  -')"
    starts.append(len(lines))
    for start, end in pairwise(starts):
        own = lines[start:end]
        if not any(line.startswith("ER  -") for line in own):
            yield start + 1, "", "it does not end with 'ER  -'"
            continue
        try:
            found = rispy.loads("\n".join(own), skip_unknown_tags=True)[0]
        except (KeyError, IndexError, AttributeError, TypeError):  # rispy checks nothing
            yield start + 1, "", "it is no RIS"
            continue
        yield start + 1, str(found.get("id", "")), _ris_fields(found)


def _ris_fields(found: Mapping[str, object]) -> dict[str, str]:
    def first(*names: str) -> str:
        for name in names:
            value = found.get(name)
            value = value[0] if isinstance(value, list) and value else value
            if isinstance(value, str) and value.strip():
                return value
        return ""

    authors = found.get("authors") or found.get("first_authors") or []
    date = first("date")
    return {
        "title": first("title", "primary_title"),
        "authors": ";".join(str(one) for one in authors) if isinstance(authors, list) else str(authors),
        "date": date if _DATE.match(date) else first("publication_year", "year"),
        "abstract": first("abstract", "notes_abstract"),
        "doi": first("doi"),
        "url": first("urls"),
    }


def _csv_records(text: str) -> Iterator[Record]:
    header = text.split("\n", 1)[0]
    rows = csv.reader(io.StringIO(text), delimiter=next((one for one in "\t,;" if one in header), ","), strict=False)
    try:
        names = [one.strip().lower() for one in next(rows, [])]
        if "title" not in names:
            raise DataError("the CSV has no column 'title'", f"its first line names some of {', '.join(COLUMNS)}")
        line = rows.line_num
        for row in rows:
            line, before = rows.line_num, line
            if len(row) > len(names):
                yield before + 1, row[0], f"it has {len(row)} fields and the first line names {len(names)}"
            elif any(one.strip() for one in row):
                fields = dict(zip(names, row, strict=False))
                yield before + 1, fields.get("title", ""), fields
    except csv.Error as error:
        yield rows.line_num, "", f"{error}; what follows was not read"
