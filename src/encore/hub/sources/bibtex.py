"""BibTeX, read into the fields of a bibliography."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from bibtexparser.exceptions import BlockAbortedException
from bibtexparser.library import Library
from bibtexparser.middlewares import (
    LatexDecodingMiddleware,
    MonthIntMiddleware,
    SeparateCoAuthors,
)
from bibtexparser.middlewares.parsestack import default_parse_stack
from bibtexparser.model import (
    Block,
    DuplicateBlockKeyBlock,
    DuplicateFieldKeyBlock,
    Entry,
    Field,
    ParsingFailedBlock,
    String,
)
from bibtexparser.splitter import Splitter

logging.getLogger("bibtexparser").addHandler(logging.NullHandler())  # what it refuses is said by us

_WANTED = {
    "title", "author", "year", "month", "day", "date", "abstract", "doi", "url", "eprint", "archiveprefix",
    "eprinttype", "journal", "note", "howpublished", "code", "code_url", "github",
}  # fmt: skip
_ENDS_IN_MACRO = re.compile(r"\\([a-zA-Z]+|[\"'`^~=.])$")  # its letter is the next word's
_NEEDS_DECODING = re.compile(r"[\\{}$~%&]|--|``|''")


def bibtex_records(text: str) -> Iterator[tuple[int, str, Mapping[str, str] | str]]:
    """Line, key, and fields (as the columns of a CSV) or why it is refused, of each entry."""
    try:
        blocks = Splitter(text).split().blocks
    except RecursionError:
        yield 1, "", "its braces are nested too deeply"
        return
    entries: list[Block] = []
    for block in blocks:
        if isinstance(block, DuplicateBlockKeyBlock):  # another paper that was given the same key, or the same again
            block = block.ignore_error_block or block
        if isinstance(block, ParsingFailedBlock):
            yield (block.start_line or 0) + 1, _key(block), f"it is no BibTeX ({_reason(block)})"
        elif isinstance(block, Entry):
            block.set_field(Field("encore-key", f"{{{block.key}}}"))
            block.key = f"{len(entries)}"
            block.fields = [one for one in block.fields if one.key.lower() in _WANTED or one.key == "encore-key"]
            for one in block.fields:
                one.key = one.key.lower()
            entries.append(block)
        elif isinstance(block, String):
            entries.append(block)
    for block in _transformed(entries):
        if isinstance(block, Entry):
            values = {name: field.value for name, field in block.fields_dict.items()}
            yield (block.start_line or 0) + 1, str(values.get("encore-key", "")), _fields(values)
        elif isinstance(block, ParsingFailedBlock):
            yield (block.start_line or 0) + 1, "", f"it is no BibTeX ({_reason(block)})"


def _transformed(blocks: list[Block]) -> list[Block]:
    library = Library(blocks, fail_on_duplicate_key=False)
    for middleware in (*default_parse_stack(), MonthIntMiddleware(), SeparateCoAuthors()):
        library = middleware.transform(library)
    return library.blocks


_LATEX = LatexDecodingMiddleware(keep_math_mode=True)


def _decoded(text: str) -> str:
    """LaTeX's accents and dashes as letters; formulas stay.

    Only words that need it are decoded, which is a hundred times faster than all of an abstract.
    """
    if not _NEEDS_DECODING.search(text):
        return text
    pieces, waiting = [], ""
    for word in text.split(" "):
        waiting = f"{waiting} {word}" if waiting else word
        whole = waiting.count("{") == waiting.count("}") and waiting.count("$") % 2 == 0
        if whole and not _ENDS_IN_MACRO.search(waiting):
            pieces.append(_decoded_piece(waiting))
            waiting = ""
    return " ".join([*pieces, _decoded_piece(waiting)]).strip()


@lru_cache(maxsize=10_000)
def _decoded_piece(text: str) -> str:
    if not _NEEDS_DECODING.search(text):
        return text
    entry = Entry("misc", "one", [Field("text", text)])
    decoded = _LATEX.transform(Library([entry])).entries
    return str(decoded[0]["text"]) if decoded else text


def _fields(values: Mapping[str, Any]) -> dict[str, str]:
    text = {name: " ".join(str(value).split()) for name, value in values.items() if not isinstance(value, list)}
    authors = values.get("author", [])
    names = [_decoded(one) for one in authors] if isinstance(authors, list) else [_decoded(str(authors))]
    return {
        "title": _decoded(text.get("title", "")),
        "authors": ";".join(name.replace(";", " ") for name in names),
        "date": text.get("date") or _date(text),
        "year": text.get("year", ""),
        "abstract": _decoded(text.get("abstract", "")),
        "doi": text.get("doi", "").replace("\\_", "_"),
        "arxiv": _arxiv(text),
        "url": text.get("url", "").replace("\\_", "_"),
        "code": text.get("code") or text.get("code_url") or text.get("github", ""),
    }


def _date(text: Mapping[str, str]) -> str:
    year, month, day = (text.get(name, "") for name in ("year", "month", "day"))
    if not (re.fullmatch(r"[0-9]{4}", year) and re.fullmatch(r"[0-9]{1,2}", month)):
        return ""
    return f"{year}-{month}-{day}" if re.fullmatch(r"[0-9]{1,2}", day) else f"{year}-{month}"


def _arxiv(text: Mapping[str, str]) -> str:
    kind = (text.get("archiveprefix") or text.get("eprinttype") or "arxiv").lower()
    if text.get("eprint") and kind == "arxiv":
        return text["eprint"]
    for name in ("journal", "note", "howpublished"):
        found = re.search(r"arxiv[:.]\s*[a-z./0-9-]*[0-9]", text.get(name, ""), re.IGNORECASE | re.ASCII)
        if found:
            return found[0]
    return ""


def _key(block: Block) -> str:
    found = re.match(r"\s*@\w+\s*[{(]\s*([^,\s]{1,60})\s*,", block.raw or "")
    return found[1] if found else ""


def _reason(block: ParsingFailedBlock) -> str:
    if isinstance(block, DuplicateFieldKeyBlock):
        return f"{', '.join(sorted(block.duplicate_keys))} is given twice"
    return "a brace or quote is not closed" if isinstance(block.error, BlockAbortedException) else "it cannot be read"
