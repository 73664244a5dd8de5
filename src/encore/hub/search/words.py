"""Search by words: FTS5 on SQLite, tsvector on PostgreSQL.

What a reader writes is free text. Words all have to be there, in any form (`compressing` finds `compression`); words
in quotes stand side by side, `-word` must not be there, and the last word may be unfinished. Of what was written only
letters and digits reach the database, so that nothing in it is taken for its query language.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, column, func, literal_column, not_, select, table, text
from sqlalchemy.orm import Session as Transaction

from encore.hub.database import Paper
from encore.hub.papers import arxiv_identifier

MAX_LETTERS = 400
"""Of a search; what is behind them is not read."""

MAX_TERMS = 24

WEIGHTS = {"title": 8.0, "abstract": 2.0, "authors": 4.0, "organisation": 2.0}
"""How much a word counts in each place."""

MOST_RANKED = 2000
"""On PostgreSQL, which reads a paper's whole text to rank it: of more that match, those that trend are ranked."""

SHORTEST_BEGINNING = 3
"""Letters of a last word that may be unfinished; fewer would begin every other word."""

_ENGLISH = """
    i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
    it its itself they them their theirs themselves what which who whom this that these those am is are was were be
    been being have has had having do does did doing a an the and but if or because as until while of at by for with
    about against between into through during before after above below to from up down in out on off over under again
    further then once here there when where why how all any both each few more most other some such no nor not only
    own same so than too very s t can will just don should now
"""
STOP_WORDS = frozenset(_ENGLISH.split())
"""Words that say nothing: PostgreSQL's list for English, which both databases follow here."""

_TERM = re.compile(r'(?P<minus>-?)"(?P<quoted>[^"]*)"|(?P<single>\S+)')
_WORD = re.compile(r"[^\W_]+")
_PLAIN = str.maketrans(dict.fromkeys("‐‑‒–—−", "-") | dict.fromkeys("“”„«»＂", '"'))

_papers_text = table("papers_text", column("rowid"))


@dataclass(frozen=True)
class Term:
    """Words that stand side by side.

    Attributes:
        words: letters and digits alone, in lower case.
        written: as the reader wrote it.
        excluded: papers with them are not wanted.
        quoted: the reader insists on them.
        unfinished: the last of the words may be a beginning.
    """

    words: tuple[str, ...]
    written: str
    excluded: bool = False
    quoted: bool = False
    unfinished: bool = False


@dataclass(frozen=True)
class Query:
    """A search as it was understood.

    Attributes:
        text: what was asked for, without what was excluded; for search by meaning.
        terms: what words it has; those that say nothing are left out.
        arxiv: the paper that it names, if it is an arXiv identifier or address.
    """

    text: str
    terms: tuple[Term, ...]
    arxiv: str | None = None

    @cached_property
    def wanted(self) -> tuple[Term, ...]:
        """What a paper should have."""
        return tuple(one for one in self.terms if not one.excluded)

    @cached_property
    def excluded(self) -> tuple[Term, ...]:
        """What a paper must not have."""
        return tuple(one for one in self.terms if one.excluded)

    @cached_property
    def quoted(self) -> tuple[Term, ...]:
        """What a paper must have, however near its meaning is."""
        return tuple(one for one in self.wanted if one.quoted)

    @property
    def bounded(self) -> bool:
        """Whether there are papers that it cannot mean."""
        return bool(self.quoted or self.excluded)


def parse(written: str) -> Query:
    """Read what a reader wrote; there is nothing that cannot be read.

    Example:
        >>> [term.words for term in parse('"lossless coding" of images -video').terms]
        [('lossless', 'coding'), ('images',), ('video',)]
    """
    named = arxiv_identifier(written) if len(written) <= MAX_LETTERS else None
    line = unicodedata.normalize("NFKC", written[:MAX_LETTERS])[:MAX_LETTERS].translate(_PLAIN)
    line = "".join(one if one.isprintable() else " " for one in line)
    terms, wanted = [], []
    for found in _TERM.finditer(line):
        quoted = found["quoted"] is not None
        raw = found["quoted"] if quoted else found["single"]
        excluded = found["minus"] == "-" if quoted else raw.startswith("-")
        words = tuple(_WORD.findall(raw.lower()))
        if words and not excluded:
            wanted.append(raw)
        if all(one in STOP_WORDS for one in words):
            continue
        at_end = found.end() == len(line) and line[-1].isalpha()
        unfinished = at_end and not excluded and words[-1].isalpha() and len(words[-1]) >= SHORTEST_BEGINNING
        terms.append(Term(words, raw.lstrip("-"), excluded, quoted, unfinished))
    return Query(" ".join(wanted), tuple(terms[:MAX_TERMS]), named[0] if named else None)


def search(transaction: Transaction, query: Query, limit: int, among: Select[Any] | None = None) -> list[int]:
    """Papers that have all the words, best first.

    Args:
        query: from `parse`.
        limit: how many at most.
        among: a query for the ids of the papers that may be found; null: all.

    Returns:
        Ids.
    """
    return _ranked(transaction, query, limit, among, every=True) if query.wanted else []


def search_any(transaction: Transaction, query: Query, limit: int, among: Select[Any] | None = None) -> list[int]:
    """Papers that have some of the words, those with many or rare ones first; see `search`."""
    return _ranked(transaction, query, limit, among, every=False) if query.wanted else []


def named_papers(transaction: Transaction, query: Query, among: Select[Any] | None = None) -> list[int]:
    """The paper whose arXiv identifier or address was written, if it is there."""
    if query.arxiv is None:
        return []
    found = select(Paper.id).where(Paper.arxiv == query.arxiv)
    return list(transaction.scalars(found if among is None else found.where(Paper.id.in_(among))))


def bounded(transaction: Transaction, query: Query, papers: Select[Any]) -> Select[Any]:
    """A query over `Paper` that keeps to what is quoted and what is excluded."""
    if query.quoted:
        papers = papers.where(_has(transaction, query.quoted))
    if query.excluded:
        papers = papers.where(and_(*(not_(_has(transaction, [one])) for one in query.excluded)))
    return papers


def _ranked(transaction: Transaction, query: Query, limit: int, among: Select[Any] | None, *, every: bool) -> list[int]:
    if _is_sqlite(transaction):
        return list(transaction.scalars(_ranked_by_fts5(query, limit, among, every=every)))
    # PostgreSQL takes reading each paper's text for cheaper than it is, and would not use the index for a common word
    transaction.execute(text("SET LOCAL enable_seqscan = off"))
    found = list(transaction.scalars(_ranked_by_tsvector(query, limit, among, every=every)))
    transaction.execute(text("SET LOCAL enable_seqscan = on"))
    return found


def _ranked_by_fts5(query: Query, limit: int, among: Select[Any] | None, *, every: bool) -> Select[Any]:
    match = _fts5(query.wanted, every=every)
    if query.excluded:
        match = f"({match}) NOT ({_fts5(query.excluded, every=False)})"
    weights = ", ".join(str(one) for one in WEIGHTS.values())
    found = (
        select(_papers_text.c.rowid)
        .where(text("papers_text MATCH :match AND rank MATCH :weights"))
        .order_by(text("rank"))
        .limit(limit)
        .params(match=match, weights=f"bm25({weights})")
    )
    if among is None:
        return found
    # the plus: test what is found, instead of looking each of `among` up in the index
    return found.where(literal_column("+papers_text.rowid").in_(among))


def _ranked_by_tsvector(query: Query, limit: int, among: Select[Any] | None, *, every: bool) -> Select[Any]:
    wanted = _tsquery(query.wanted, every=every)
    document: ColumnElement[Any] = literal_column("papers.document")
    matching = select(Paper.id, document.label("document")).where(document.op("@@")(wanted))
    if query.excluded:
        matching = matching.where(not_(document.op("@@")(_tsquery(query.excluded, every=False))))
    if among is not None:
        matching = matching.where(Paper.id.in_(among))
    # the zero: do not walk along the index of `trend`, where most papers do not match
    some = matching.order_by((Paper.trend + 0).desc(), Paper.id.desc()).limit(MOST_RANKED).subquery()
    rank = func.ts_rank_cd(_postgresql_weights(), some.c.document, wanted, 1)  # 1: long texts count less
    return select(some.c.id).order_by(rank.desc(), some.c.id.desc()).limit(limit)


def _has(transaction: Transaction, terms: Sequence[Term]) -> ColumnElement[bool]:
    if _is_sqlite(transaction):
        matching = select(_papers_text.c.rowid).where(
            literal_column("papers_text").op("MATCH")(_fts5(terms, every=True))
        )
        return Paper.id.in_(matching)
    return literal_column("papers.document").op("@@")(_tsquery(terms, every=True))


def _is_sqlite(transaction: Transaction) -> bool:
    return transaction.get_bind().dialect.name == "sqlite"


def _fts5(terms: Iterable[Term], *, every: bool) -> str:
    # words have letters and digits only: between quotes none of them is an operator
    phrases = (f'"{" ".join(one.words)}"' + "*" * one.unfinished for one in terms)
    return (" AND " if every else " OR ").join(phrases)


def _tsquery(terms: Iterable[Term], *, every: bool) -> ColumnElement[Any]:
    """Of PostgreSQL. A name is kept as it is written, a text by its stems: both are asked for."""
    one_each = [func.tsquery_or(_phrase(one, "english"), _phrase(one, "simple")) for one in terms]
    return reduce(lambda left, right: left.op("&&" if every else "||")(right), one_each)


def _phrase(term: Term, language: str) -> ColumnElement[Any]:
    configuration: ColumnElement[Any] = literal_column(f"'{language}'::regconfig")
    if not term.unfinished:  # as it is written: PostgreSQL has a reading of its own of `GPT-4` and `v1.5`
        return func.phraseto_tsquery(configuration, term.written)
    last: ColumnElement[Any] = func.to_tsquery(configuration, f"'{term.words[-1]}':*")
    if len(term.words) == 1:
        return last
    return func.tsquery_phrase(func.phraseto_tsquery(configuration, " ".join(term.words[:-1])), last)


def _postgresql_weights() -> ColumnElement[Any]:
    # of D, C, B, A: the migration gives A to titles, B to abstracts, C to names
    top = max(WEIGHTS.values())
    d, c, b, a = 0.1, WEIGHTS["authors"] / top, WEIGHTS["abstract"] / top, WEIGHTS["title"] / top
    return literal_column(f"'{{{d}, {c}, {b}, {a}}}'::float4[]")
