"""What a reader may like: a linear model over the papers' vectors, as arxiv-sanity showed.

Papers that the reader voted for or tagged are the positives, a sample of all others the negatives. Logistic regression
with balanced classes is fitted on their vectors, and the papers that it puts first are kept.
"""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import delete, exists, insert, select
from sqlalchemy.orm import Session as Transaction

from encore.hub.database import Database, Paper, Recommendation, Tag, User, Vote
from encore.hub.database.tables import now
from encore.hub.search.vectors import Matrix, Vectors, read_vectors
from encore.hub.settings import HubSettings

KEPT = 100
RECENT = datetime.timedelta(days=730)
"""Papers that are older are recommended only where there are not `KEPT` of these."""

NEGATIVES = 2000
REGULARISATION = 1.0
"""`C` of scikit-learn."""


def refresh(database: Database, settings: HubSettings, payload: dict[str, Any] | None = None) -> int:
    """Make a reader's recommendations anew: the job `recommend`.

    Args:
        payload: `{"user_id": …}`.

    Returns:
        How many there are now; none for a reader without votes and tags.
    """
    user_id = int((payload or {})["user_id"])
    vectors = read_vectors(database)
    with database.reading() as transaction:
        liked = set(transaction.scalars(select(Vote.paper_id).where(Vote.user_id == user_id)))
        liked |= set(transaction.scalars(select(Tag.paper_id).where(Tag.user_id == user_id)))
        recent = _recent(transaction)
    best = _best(vectors, liked, recent, seed=user_id)
    with database.writing() as transaction:
        user = transaction.scalars(select(User.id).where(User.id == user_id).with_for_update()).first()
        transaction.execute(delete(Recommendation).where(Recommendation.user_id == user_id))
        there = set(transaction.scalars(select(Paper.id).where(Paper.id.in_([one for one, _ in best]))))
        rows = [
            {"user_id": user_id, "place": place, "paper_id": paper_id, "score": score}
            for place, (paper_id, score) in enumerate(best, start=1)
            if paper_id in there
        ]
        if user is None or not rows:
            return 0
        transaction.execute(insert(Recommendation), rows)
        return len(rows)


def for_user(transaction: Transaction, user_id: int, limit: int = 30, offset: int = 0) -> list[Paper]:
    """A reader's recommendations, best first, without what was voted for or tagged since they were made."""
    voted = exists().where(Vote.user_id == user_id, Vote.paper_id == Paper.id)
    tagged = exists().where(Tag.user_id == user_id, Tag.paper_id == Paper.id)
    query = (
        select(Paper)
        .join(Recommendation, Recommendation.paper_id == Paper.id)
        .where(Recommendation.user_id == user_id, ~voted, ~tagged)
        .order_by(Recommendation.place)
    )
    return list(transaction.scalars(query.offset(offset).limit(limit)))


def _recent(transaction: Transaction) -> list[int]:
    newest = now().date()
    return list(transaction.scalars(select(Paper.id).where(Paper.listed_on >= newest - RECENT)))


def _best(vectors: Vectors, liked: set[int], recent: list[int], seed: int) -> list[tuple[int, float]]:
    """Ids and scores of the papers to recommend."""
    positives = vectors.rows_of(liked)
    others = np.setdiff1d(np.arange(len(vectors.ids)), positives)
    if not len(positives) or not len(others):
        return []
    weights = _fitted(vectors.matrix, positives, others, seed)
    candidates = np.setdiff1d(vectors.rows_of(recent), positives)
    if len(candidates) < KEPT:
        candidates = others
    scores = vectors.matrix[candidates] @ weights
    order = np.lexsort((-candidates, -scores))[:KEPT]
    return [(int(vectors.ids[candidates[one]]), float(scores[one])) for one in order]


def _fitted(matrix: Matrix, positives: npt.NDArray[Any], others: npt.NDArray[Any], seed: int) -> Matrix:
    """Coefficients (D,) that tell the positives from a sample of the others."""
    from sklearn.linear_model import LogisticRegression

    chance = np.random.default_rng(seed)
    negatives = chance.choice(others, min(NEGATIVES, len(others)), replace=False)
    features = np.concatenate([matrix[positives], matrix[negatives]])
    labels = np.repeat([1, 0], [len(positives), len(negatives)])
    model = LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=300)
    coefficients: Matrix = model.fit(features, labels).coef_[0].astype(np.float32)
    return coefficients
