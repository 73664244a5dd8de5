"""What a source says of a paper, and the names by which it is found again."""

from __future__ import annotations

import datetime
import hashlib
import html
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from encore.base.cards import Card

RANKS = {"csv": 0, "bibtex": 1, "ris": 1, "json": 2, "huggingface": 3, "arxiv": 4, "cards": 5}
"""Whose word counts more where two sources describe one paper. Of equals the later one is believed."""

EARLIEST = datetime.date(1600, 1, 1)
"""A paper that is said to be older is not believed."""

_ARXIV = re.compile(
    r"(?:^|/|arxiv[:.])\s*([0-9]{4}\.[0-9]{4,5}|([a-z-]{2,9})(?:\.[a-z]{2})?/([0-9]{7}))(?:v([1-9][0-9]{0,2}))?"
    r"(?:\.pdf)?/?\Z",
    re.IGNORECASE | re.ASCII,
)
_TELLS_OF_ARXIV = re.compile(
    r"https?://(?:(?:www\.|export\.)?arxiv\.org/|(?:dx\.)?doi\.org/10\.48550/|huggingface\.co/papers/)", re.IGNORECASE
)
_DOI = re.compile(r"(?:^|doi:\s*|doi\.org/)(10\.[0-9]{4,9}/[^\s\"<>]{1,180})\Z", re.IGNORECASE)
_UNSEEN = {"Cc", "Cs", "Co", "Cn"}  # control characters and halves of letters, which databases refuse


@dataclass
class Entry:
    """What a source says of a paper; whatever it does not say is empty.

    Attributes:
        title: the only thing that must be there, with a date.
        source: a key of `RANKS`.
        listed_on: the day of the feed; the day of `published` where it is not said.
        authors: names as published, the given name first.
        num_authors: where it is known and the names are not.
        slug: the paper's room in Encore.
        withdrawn: its authors took it back: it is not added, and where it is known, `abstract` says so.
    """

    title: str
    source: str
    abstract: str = ""
    authors: list[str] = field(default_factory=list)
    num_authors: int | None = None
    arxiv: str | None = None
    doi: str | None = None
    url: str | None = None
    code_url: str | None = None
    organisation: str | None = None
    listed_on: datetime.date | None = None
    published: datetime.date | None = None
    updated: datetime.date | None = None
    version: int | None = None
    tasks: list[str] = field(default_factory=list)
    outside_votes: int = 0
    slug: str | None = None
    withdrawn: bool = False


def arxiv_identifier(text: str) -> tuple[str, int | None] | None:
    """The arXiv identifier and version in an identifier or an address; None if it is none.

    Addresses are those of arxiv.org, of its DOIs, and of Hugging Face's paper pages.

    Example:
        >>> arxiv_identifier("https://arxiv.org/abs/2111.11632v2")
        ('2111.11632', 2)
        >>> arxiv_identifier("math.GT/0309136")
        ('math/0309136', None)
    """
    text = text.strip()
    if "://" in text:
        if not _TELLS_OF_ARXIV.match(text):
            return None
        text = re.split(r"[?#]", text, maxsplit=1)[0]
    found = _ARXIV.search(text)
    if found is None:
        return None
    name = f"{found[2].lower()}/{found[3]}" if found[2] else found[1]
    return name, int(found[4]) if found[4] else None


def doi_of(text: str | None) -> str | None:
    """The DOI in a text or an address, in lower case; None if there is none, or if it is arXiv's own for a preprint."""
    found = _DOI.search((text or "").strip())
    doi = found[1].lower() if found else None
    return None if doi is None or doi.startswith("10.48550/arxiv") else doi


def address_of(text: str | None) -> str | None:
    """A web address; None if the text is none, or is no http(s)."""
    text = (text or "").strip()
    try:
        parts = urlsplit(text)
        fits = parts.scheme.lower() in {"http", "https"} and bool(parts.hostname) and len(text) <= 2000
    except ValueError:  # such as a bracket in the host
        return None
    return text if fits and not re.search(r"[\s<>\"]", text) else None


def cleaned(text: str) -> str:
    """One line of text: entities of HTML as letters, no control characters, single spaces."""
    text = html.unescape(text) if "&" in text else text
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if not text.isprintable():
        text = "".join(" " if one.isspace() else one for one in text if one.isspace() or _is_seen(one))
    return " ".join(text.split())


def _is_seen(letter: str) -> bool:
    return unicodedata.category(letter) not in _UNSEEN


def plain(text: str) -> str:
    """Letters and digits alone, without accents, in lower case."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(one for one in decomposed.casefold() if one.isalnum())


def key_of(entry: Entry) -> str:
    """What names a paper in addresses: the arXiv identifier, else a hash of its title and first author."""
    if entry.arxiv:
        return entry.arxiv.replace("/", "-")
    return "p" + hashlib.sha256(f"{plain(entry.title)}|{first_author(entry.authors)}".encode()).hexdigest()[:15]


def title_hash(title: str) -> str:
    """Equal for titles that differ in case, accents and punctuation alone."""
    return hashlib.sha256((plain(title) or title).encode()).hexdigest()[:16]


def first_author(authors: list[str]) -> str:
    """The first author's last name, in plain letters; empty where it is not known."""
    words = authors[0].split() if authors else []
    return plain(words[-1]) if words else ""


def entries_of_cards(cards: Iterable[Card]) -> list[Entry]:
    """The papers of Encore's own cards: what a fresh hub shows."""
    return [
        Entry(
            title=card.title,
            source="cards",
            abstract=card.summary,
            authors=list(card.authors),
            num_authors=card.num_authors,
            arxiv=card.arxiv,
            url=f"https://arxiv.org/abs/{card.arxiv}",
            code_url=next((link.url for link in card.links if "code" in link.label or "github" in link.url), None),
            listed_on=card.date,
            published=card.date,
            tasks=list(card.tasks),
            slug=card.slug,
        )
        for card in cards
    ]
