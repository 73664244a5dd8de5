"""Papers as vectors: made by a worker, held in memory by whoever searches.

`build` gives every paper a vector of length 1, from the embedding model or, without one, from the words (`lsa`). It
says in `source_states` which model's vectors count and raises a version whenever some changed; `Index` reads that one
row to see whether what it holds is still right.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session as Transaction

from encore.hub.database import Database, Paper, SourceState, Vector, insert_into
from encore.hub.search.embedding import Embedder, model_of
from encore.hub.search.lsa import Lsa
from encore.hub.settings import HubSettings

STATE = "vectors"
"""Of `source_states`: `{"version": …, "model": …}`."""

WRITTEN_AT_ONCE = 500
SHOWN_AT_ONCE = 2000
"""Vectors after which a long build tells the indexes."""

REFRESH_SECONDS = 3.0
"""How old an index may be."""

Matrix = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)


# making them


def build(
    database: Database,
    settings: HubSettings,
    payload: dict[str, Any] | None = None,
    embedder: Embedder | None = None,
) -> int:
    """Make the vectors that are missing, of another model or of an older text: the job `index`.

    Args:
        payload: of the job; nothing is in it.
        embedder: one that is loaded already; null starts one of the settings' model, for as long as it takes.

    Returns:
        How many were made.

    Raises:
        EmbeddingError: the embedding model cannot be loaded.
        RunFolderError: the hub's folder cannot be written.
    """
    model = embedder.model if embedder else model_of(settings)
    if model is None:
        return _build_lsa(database, settings)
    todo = _unfinished(database, model)
    if embedder is None and todo:
        with closing(Embedder(model, threads=os.cpu_count() or 1)) as own:
            _build_embeddings(database, own, todo)
    elif embedder is not None:
        _build_embeddings(database, embedder, todo)
    return len(todo)


def _build_embeddings(database: Database, embedder: Embedder, todo: Sequence[int]) -> None:
    for start in range(0, len(todo), WRITTEN_AT_ONCE):
        done = min(start + WRITTEN_AT_ONCE, len(todo))
        texts = _texts(database, todo[start:done])
        vectors = embedder.encode([text for _, text in texts])
        show = start % SHOWN_AT_ONCE == 0 or done == len(todo)
        _write(database, embedder.model, texts, vectors, show=show)
        _log.info("%d of %d papers have their vectors by %s", done, len(todo), embedder.model)


def _build_lsa(database: Database, settings: HubSettings) -> int:
    with database.reading() as transaction:
        name = _state(transaction)["model"]
        num_papers = transaction.scalar(select(func.count()).select_from(Paper)) or 0
    fit = Lsa.load(settings.folder, name)
    todo = _unfinished(database, fit.name if fit else "")
    if not todo:
        return 0
    if fit is None or fit.outgrown(num_papers):
        texts = _texts(database, None)
        fit, vectors = Lsa.fit([text for _, text in texts])
        fit.save(settings.folder)
        _log.info("fitted %d words of %d papers", len(fit.words), len(texts))
    else:
        texts = _texts(database, todo)
        vectors = fit.project([text for _, text in texts])
    for start in range(0, len(texts), WRITTEN_AT_ONCE):
        rows = slice(start, start + WRITTEN_AT_ONCE)
        _write(database, fit.name, texts[rows], vectors[rows], show=start + WRITTEN_AT_ONCE >= len(texts))
    return len(texts)


def text_of(title: str, abstract: str, tasks: Sequence[str] = ()) -> str:
    """What a paper's vector is made of."""
    return ". ".join(filter(None, (title, abstract, ", ".join(tasks))))


def digest_of(text: str) -> str:
    """What `Vector.digest` keeps of a text."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _unfinished(database: Database, model: str) -> list[int]:
    """Papers without a vector of the model and of their text as it is now."""
    rows = (
        select(Paper.id, Paper.title, Paper.abstract, Paper.tasks, Vector.digest)
        .outerjoin(Vector, and_(Vector.paper_id == Paper.id, Vector.model == model))
        .order_by(Paper.id)
        .execution_options(yield_per=1000)
    )
    with database.reading() as transaction:
        return [
            paper_id
            for paper_id, title, abstract, tasks, digest in transaction.execute(rows)
            if digest is None or digest != digest_of(text_of(title, abstract, tasks))
        ]


def _texts(database: Database, ids: Sequence[int] | None) -> list[tuple[int, str]]:
    rows = select(Paper.id, Paper.title, Paper.abstract, Paper.tasks).order_by(Paper.id)
    with database.reading() as transaction:
        if ids is None:
            return [(row.id, text_of(row.title, row.abstract, row.tasks)) for row in transaction.execute(rows)]
        found = []
        for start in range(0, len(ids), WRITTEN_AT_ONCE):
            some = rows.where(Paper.id.in_(ids[start : start + WRITTEN_AT_ONCE]))
            found += [(row.id, text_of(row.title, row.abstract, row.tasks)) for row in transaction.execute(some)]
        return found


def _write(database: Database, model: str, texts: Sequence[tuple[int, str]], vectors: Matrix, *, show: bool) -> None:
    rows = [
        {"paper_id": paper_id, "model": model, "digest": digest_of(text), "content": vector.tobytes()}
        for (paper_id, text), vector in zip(texts, vectors.astype("<f2"), strict=True)
    ]
    with database.writing() as transaction:
        insert = insert_into(transaction, Vector)
        put = insert.on_conflict_do_update(
            index_elements=[Vector.paper_id],
            set_={name: insert.excluded[name] for name in ("model", "digest", "content")},
        )
        there = set(transaction.scalars(select(Paper.id).where(Paper.id.in_([row["paper_id"] for row in rows]))))
        transaction.execute(put, [row for row in rows if row["paper_id"] in there])
        if show:
            _raise_version(transaction, model)


def _state(transaction: Transaction) -> dict[str, Any]:
    state = transaction.get(SourceState, STATE)
    return state.content if state is not None else {"version": 0, "model": None}


def _raise_version(transaction: Transaction, model: str) -> None:
    state = transaction.scalars(select(SourceState).where(SourceState.name == STATE).with_for_update()).first()
    if state is None:
        first = insert_into(transaction, SourceState).values(name=STATE, content={"version": 0, "model": model})
        transaction.execute(first.on_conflict_do_nothing())
        state = transaction.scalars(select(SourceState).where(SourceState.name == STATE).with_for_update()).one()
    state.content = {"version": state.content["version"] + 1, "model": model}


# holding them


@dataclass(frozen=True)
class Vectors:
    """All vectors of one version.

    Attributes:
        version: see `STATE`.
        model: what made them; null where there are none.
        ids: (N,) of their papers, ascending.
        matrix: (N, D) float32, rows of length 1.
        similar: what `Index.similar` has found so far.
    """

    version: int
    model: str | None
    ids: Ids
    matrix: Matrix
    similar: dict[tuple[int, int], list[tuple[int, float]]] = field(default_factory=dict, repr=False)

    def rows_of(self, paper_ids: Collection[int]) -> Ids:
        """Rows of those of some papers that have a vector."""
        wanted = np.fromiter(paper_ids, np.int64, len(paper_ids))
        rows = np.searchsorted(self.ids, wanted)
        rows[rows == len(self.ids)] = 0
        return rows[self.ids[rows] == wanted] if len(self.ids) else rows[:0]

    def nearest(self, vector: Matrix, limit: int, among: Collection[int] | None = None) -> list[tuple[int, float]]:
        """Papers by their cosine with `vector` (D,), nearest first, and that cosine; of equals the newer first.

        Args:
            vector: of length 1.
            limit: how many at most.
            among: ids of the papers that may be found; null: all.
        """
        if among is None:
            ids, cosines = self.ids, self.matrix @ vector
        else:
            rows = self.rows_of(among)
            few = len(rows) < len(self.ids) // 4
            ids, cosines = self.ids[rows], self.matrix[rows] @ vector if few else (self.matrix @ vector)[rows]
        if limit < len(ids):
            best = np.argpartition(-cosines, limit)[:limit]
            ids, cosines = ids[best], cosines[best]
        order = np.lexsort((-ids, -cosines))
        return [(int(ids[one]), float(cosines[one])) for one in order]


def read_vectors(database: Database) -> Vectors:
    """All vectors of the model that counts."""
    with database.reading() as transaction:
        state = _state(transaction)
        ids: list[int] = []
        parts: list[npt.NDArray[np.float16]] = []
        rows = (
            select(Vector.paper_id, Vector.content)
            .where(Vector.model == state["model"])
            .order_by(Vector.paper_id)
            .execution_options(yield_per=2000)
        )
        for some in transaction.execute(rows).partitions():
            ids += [paper_id for paper_id, _ in some]
            parts.append(np.frombuffer(b"".join(content for _, content in some), "<f2").reshape(len(some), -1))
    matrix = np.empty((len(ids), parts[0].shape[1] if parts else 1), np.float32)
    filled = 0
    for part in parts:
        matrix[filled : filled + len(part)] = part
        filled += len(part)
    return Vectors(state["version"], state["model"], np.array(ids, np.int64), matrix)


MOST_SIMILAR_KEPT = 20_000


class Index:
    """The vectors in the memory of a process, as new as `REFRESH_SECONDS`; may be used by any number of threads.

    The first use reads them; later versions are read beside the work that goes on with the earlier one.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._vectors: Vectors | None = None
        self._looked = 0.0
        self._lock = threading.Lock()
        self._reading: threading.Thread | None = None

    def vectors(self) -> Vectors:
        """The vectors as they are held now."""
        if self._vectors is None:
            with self._lock:
                if self._vectors is None:
                    self._vectors = read_vectors(self._database)
                    self._looked = time.monotonic()
        elif time.monotonic() - self._looked > REFRESH_SECONDS:
            if len(self._vectors.ids):
                self._look()
            else:  # a fresh hub: the first vectors are few, and worth the wait
                self.refresh()
        return self._vectors

    def refresh(self) -> None:
        """Read them now if they changed."""
        with self._lock:
            self._refresh()

    def nearest(self, vector: Matrix, limit: int, among: Collection[int] | None = None) -> list[tuple[int, float]]:
        """See `Vectors.nearest`."""
        return self.vectors().nearest(vector, limit, among)

    def similar(self, paper_id: int, limit: int) -> list[tuple[int, float]]:
        """The papers that are nearest to one, itself left out; none if it has no vector yet."""
        vectors = self.vectors()
        known = vectors.similar.get((paper_id, limit))
        if known is not None:
            return known
        rows = vectors.rows_of([paper_id])
        found: list[tuple[int, float]] = []
        if len(rows):
            nearest = vectors.nearest(vectors.matrix[rows[0]], limit + 1)
            found = [one for one in nearest if one[0] != paper_id and one[1] > 0][:limit]
        if len(vectors.similar) < MOST_SIMILAR_KEPT:
            vectors.similar[paper_id, limit] = found
        return found

    def _look(self) -> None:
        """Begin to read a newer version, unless a thread is at it."""
        with self._lock:
            if time.monotonic() - self._looked <= REFRESH_SECONDS or (self._reading and self._reading.is_alive()):
                return
            self._looked = time.monotonic()
            self._reading = threading.Thread(target=self._refresh, name="reading vectors", daemon=True)
            self._reading.start()

    def _refresh(self) -> None:
        with self._database.reading() as transaction:
            version = _state(transaction)["version"]
        if self._vectors is None or version != self._vectors.version:
            self._vectors = read_vectors(self._database)
        self._looked = time.monotonic()
