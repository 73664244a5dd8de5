"""What was read from a source: entries, and what was refused."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from encore.base.errors import DataError
from encore.hub.entries import Entry

LARGEST = 200_000_000
"""Bytes of a file."""


class Reading(NamedTuple):
    """Entries that fit, and one line for each that does not, which names it and says why."""

    entries: list[Entry]
    refused: list[str]


def text_of(path: Path) -> str:
    """The text of a file in UTF-8, with or without a mark, or else in Windows-1252.

    Raises:
        DataError: there is no such file, it is too large, or it is no text.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} has more than {LARGEST // 1_000_000} MB", "split it into several files")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path} ({(error.strerror or str(error)).lower()})", "check its name") from error
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return text.replace("\r\n", "\n").replace("\r", "\n")
    raise DataError(f"{path} is no text", "save it as UTF-8")
