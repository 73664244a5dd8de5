"""What the search field and the digests ask: papers by words and by meaning together, and papers like one.

**Fusion.** The `CANDIDATES` best by words and the `CANDIDATES` nearest in meaning are two rankings whose scores cannot
be compared. Their ranks can (reciprocal rank fusion, Cormack, Clarke & Büttcher, 2009):

    score(paper) = Σ_rankings 1 / (60 + rank),   rank = 1, 2, …

A paper that is missing in one ranking gets nothing from it; of equals the newer comes first.
"""

from __future__ import annotations

import datetime
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session as Transaction

from encore.hub.database import Database, Paper
from encore.hub.papers import Filters, listed
from encore.hub.search import words
from encore.hub.search.embedding import Embedder, EmbeddingError, model_of
from encore.hub.search.vectors import Index, Matrix
from encore.hub.settings import HubSettings

CANDIDATES = 300
"""Of each ranking."""

FUSION_CONSTANT = 60

LEAST_COSINE = 0.2
LEAST_OF_BEST = 0.5
"""What is farther than half of the nearest one's cosine means something else."""

DIGEST_SECONDS = 120.0
"""How long a digest waits for the model to be loaded."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """A page of a search.

    Attributes:
        papers: best first.
        total: how many there are to turn pages through.
        by_meaning: whether meaning was searched too.
    """

    papers: list[Paper]
    total: int
    by_meaning: bool


class Finder:
    """Search in one process; may be used by any number of threads.

    Args:
        database: the hub's.
        settings: their `embedding_model` is loaded at the first search, or by `start`.
    """

    def __init__(self, database: Database, settings: HubSettings) -> None:
        self._database = database
        self.index = Index(database)
        model = model_of(settings)
        self.embedder = Embedder(model) if model else None

    def start(self) -> None:
        """Begin to load the embedding model; returns at once."""
        if self.embedder is not None:
            self.embedder.start()

    def close(self) -> None:
        """End the embedding process."""
        if self.embedder is not None:
            self.embedder.close()

    def find(
        self,
        text: str,
        filters: Filters | None = None,
        performed_slugs: Sequence[str] = (),
        offset: int = 0,
        limit: int = 30,
    ) -> Found:
        """Papers for what a reader wrote; see `words` for how it is read and this module's head for the order.

        Nothing written, or only what is not wanted (`-video`), lists what trends. Where meaning cannot be searched and
        no paper has all the words, those come that have some.

        Args:
            text: of the search field.
            filters: what both rankings leave out.
            performed_slugs: for `filters.performed`.
            offset, limit: of the page.
        """
        query = words.parse(text)
        filters = filters or Filters()
        vector = self._vector(query)
        with self._database.reading() as transaction:
            if not query.wanted and (query.excluded or not text.strip()):
                return _trending(transaction, query, filters, performed_slugs, offset, limit)
            among = filters.applied(select(Paper.id), performed_slugs) if filters.given else None
            near = None if vector is None else self._near(transaction, query, vector, among)
            ids = _ranking(transaction, query, among, near)
            return Found(_papers(transaction, ids[offset : offset + limit]), len(ids), near is not None)

    def similar(self, paper_id: int, limit: int = 6) -> list[Paper]:
        """The papers that are most like one; none as long as it has no vector."""
        ids = [one for one, _ in self.index.similar(paper_id, limit)]
        with self._database.reading() as transaction:
            return _papers(transaction, ids)

    def among_days(self, text: str, first_day: datetime.date, last_day: datetime.date, limit: int = 30) -> list[Paper]:
        """The papers of some days that a search finds, for digests.

        In meaning a paper counts if it is among the `CANDIDATES` nearest of all days: that one paper is the nearest of
        a day does not say that it is near. Waits for the embedding model.
        """
        query = words.parse(text)
        vector = self._vector_of_digest(query)
        days = Paper.listed_on.between(first_day, last_day)
        with self._database.reading() as transaction:
            among = select(Paper.id).where(days)
            near = None
            if vector is not None:
                of_the_days = set(transaction.scalars(among))
                near = [one for one in self._near(transaction, query, vector, None) or [] if one in of_the_days]
            by_words = words.search(transaction, query, CANDIDATES, among)
            return _papers(transaction, fused([by_words, near or []])[:limit])

    def _vector(self, query: words.Query) -> Matrix | None:
        if self.embedder is None or query.arxiv or not query.text:
            return None
        return self.embedder.query(query.text)

    def _vector_of_digest(self, query: words.Query) -> Matrix | None:
        if self.embedder is None or not query.text:
            return None
        try:
            return self.embedder.encode([query.text], "query", DIGEST_SECONDS)[0]
        except EmbeddingError as error:
            _log.warning("a digest is made by words alone: %s", error)
            return None

    def _near(
        self, transaction: Transaction, query: words.Query, vector: Matrix, among: Select[Any] | None
    ) -> list[int] | None:
        """The ranking by meaning; None where the papers' vectors are not (yet) of the query's model."""
        assert self.embedder is not None
        vectors = self.index.vectors()
        if vectors.model != self.embedder.model or not len(vectors.ids):
            return None
        allowed = None
        if among is not None or query.bounded:
            within = select(Paper.id) if among is None else among
            allowed = list(transaction.scalars(words.bounded(transaction, query, within)))
        nearest = vectors.nearest(vector, CANDIDATES, allowed)
        least = max(LEAST_COSINE, LEAST_OF_BEST * nearest[0][1]) if nearest else 0.0
        return [paper_id for paper_id, cosine in nearest if cosine >= least]


def fused(rankings: Sequence[Sequence[int]]) -> list[int]:
    """One ranking of several, see this module's head.

    Example:
        >>> fused([[3, 1], [1, 2]])
        [1, 3, 2]
    """
    scores: defaultdict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, paper_id in enumerate(ranking, start=1):
            scores[paper_id] += 1 / (FUSION_CONSTANT + rank)
    return sorted(scores, key=lambda paper_id: (-scores[paper_id], -paper_id))


def _ranking(
    transaction: Transaction, query: words.Query, among: Select[Any] | None, near: list[int] | None
) -> list[int]:
    by_words = words.search(transaction, query, CANDIDATES, among)
    if not by_words and not near:
        by_words = words.search_any(transaction, query, CANDIDATES, among)
    ranking = fused([by_words, near or []])
    named = words.named_papers(transaction, query, among)
    return named + [one for one in ranking if one not in named]


def _trending(
    transaction: Transaction,
    query: words.Query,
    filters: Filters,
    performed_slugs: Sequence[str],
    offset: int,
    limit: int,
) -> Found:
    if not query.bounded:
        papers = listed(transaction, filters=filters, performed_slugs=performed_slugs, offset=offset, limit=limit)
        all_ids = filters.applied(select(Paper.id), performed_slugs)
    else:
        all_ids = words.bounded(transaction, query, filters.applied(select(Paper.id), performed_slugs))
        page = all_ids.order_by(Paper.trend.desc(), Paper.id.desc()).offset(offset).limit(limit)
        papers = _papers(transaction, list(transaction.scalars(page)))
    total = transaction.scalar(select(func.count()).select_from(all_ids.subquery())) or 0
    return Found(papers, total, by_meaning=False)


def _papers(transaction: Transaction, ids: Sequence[int]) -> list[Paper]:
    """In the order of `ids`, without those that are gone."""
    found = {paper.id: paper for paper in transaction.scalars(select(Paper).where(Paper.id.in_(ids)))}
    return [found[one] for one in ids if one in found]
