"""E-mail addresses and lines of a header, checked where they enter."""

from __future__ import annotations

import re
import unicodedata

from encore.base.errors import DataError

LONGEST_ADDRESS = 254
"""Characters; RFC 5321 lets no longer one through."""

_LOCAL = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*")
_BREAKING = {"Cc", "Zl", "Zp"}
"""Unicode's control characters, and separators of lines and paragraphs."""

_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_LABEL = re.compile(r"[^\W_](?:[^\W_]|-){0,61}[^\W_]|[^\W_]")


def checked_address(text: str) -> str:
    """An address as the hub keeps it: in lower case, without space around it.

    Only its form is checked; whether somebody reads it, a mail has to tell. Quoted local parts and address literals are
    refused.

    Raises:
        DataError: it is none.

    Example:
        >>> checked_address(" Ada@Example.ORG ")
        'ada@example.org'
    """
    address = unicodedata.normalize("NFC", text.strip()).lower()
    local, separator, domain = address.rpartition("@")
    labels = domain.split(".")
    fits = (
        separator
        and len(address) <= LONGEST_ADDRESS
        and len(address.encode("utf-8")) <= LONGEST_ADDRESS
        and len(local.encode("utf-8")) <= 64
        and _LOCAL.fullmatch(local)
        and (len(labels) > 1 or domain == "localhost")
        and all(_LABEL.fullmatch(label) for label in labels)
    )
    if not fits:
        raise DataError(f"{text.strip()[:60]!r} is no e-mail address", "write it like name@example.org")
    return address


def one_line(text: str) -> str:
    """`text` as a header's value.

    Raises:
        ValueError: it has a line break or another control character, with which a header could be smuggled in.
    """
    if any(unicodedata.category(one) in _BREAKING for one in text):
        raise ValueError(f"a header's value has a control character: {text[:60]!r}")
    return text


def as_one_line(text: str) -> str:
    """`text` without what `one_line` refuses, and without space around it or twice in a row."""
    return " ".join("".join(" " if unicodedata.category(one) in _BREAKING else one for one in text).split())


def checked_header(name: str, value: str) -> str:
    """The value of a header that is one.

    Raises:
        ValueError: its name or its value is no part of a header.
    """
    if not _HEADER.fullmatch(name):
        raise ValueError(f"{name[:60]!r} is no name of a header")
    return one_line(value)
