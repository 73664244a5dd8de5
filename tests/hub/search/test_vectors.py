"""Vectors: what is made anew and what is not, what an index holds, and what is near."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from encore.hub.database import Database, Paper, SourceState, Vector
from encore.hub.papers import Entry
from encore.hub.search import lsa, vectors
from encore.hub.search.lsa import Lsa
from encore.hub.search.vectors import Index, Vectors, build, read_vectors
from encore.hub.settings import HubSettings
from tests.hub.search.conftest import SUBJECTS, invented

Keep = Callable[[list[Entry]], list[int]]


def random_vectors(count: int, dimensions: int = 16) -> Vectors:
    chance = np.random.default_rng(0)
    matrix = chance.normal(size=(count, dimensions)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return Vectors(1, "model", np.arange(count) * 3 + 5, matrix)


def test_nearest_is_what_a_slow_search_finds() -> None:
    held = random_vectors(500)
    asked = held.matrix[7]
    by_hand = sorted(
        ((float(row @ asked), int(one)) for one, row in zip(held.ids, held.matrix, strict=True)), reverse=True
    )
    assert [one for one, _ in held.nearest(asked, 20)] == [one for _, one in by_hand[:20]]
    assert held.nearest(asked, 1)[0][1] == pytest.approx(1, abs=1e-5)
    assert len(held.nearest(asked, 1000)) == 500


@pytest.mark.parametrize("count", [3, 400])
def test_nearest_among_some_leaves_others_out(count: int) -> None:
    held = random_vectors(500)
    among = [int(one) for one in held.ids[:count]] + [4, 6, 10**9]  # these have no vector
    everything = [one for one, _ in held.nearest(held.matrix[7], 500)]
    assert [one for one, _ in held.nearest(held.matrix[7], 500, among)] == [one for one in everything if one in among]
    assert held.nearest(held.matrix[7], 5, []) == []


def test_where_there_are_no_vectors_nothing_is_near(database: Database) -> None:
    index = Index(database)
    assert index.vectors().model is None
    assert index.nearest(np.ones(1, np.float32), 5) == []
    assert index.similar(1, 5) == []


def test_papers_of_a_subject_are_similar_by_their_words(database: Database, settings: HubSettings, keep: Keep) -> None:
    ids = keep(invented(80))
    assert build(database, settings) == 80
    held = read_vectors(database)
    assert held.model is not None
    assert held.model.startswith("lsa-")
    np.testing.assert_allclose(np.linalg.norm(held.matrix, axis=1), 1, atol=2e-3)
    index, subjects = Index(database), len(SUBJECTS)
    for place in range(subjects):
        similar = [ids.index(one) for one, _ in index.similar(ids[place], 5)]
        assert len(similar) == 5
        assert place not in similar
        assert {one % subjects for one in similar} == {place}


def test_only_what_changed_is_made_anew(
    database: Database, settings: HubSettings, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lsa, "SMALL", 10)
    ids = keep(invented(60))
    assert build(database, settings) == 60
    before = read_vectors(database)
    assert build(database, settings) == 0
    assert read_vectors(database).version == before.version
    with database.writing() as transaction:
        transaction.execute(update(Paper).where(Paper.id == ids[3]).values(abstract="of music and harmony"))
        transaction.execute(update(Paper).where(Paper.id == ids[4]).values(votes=3))
    more = keep(invented(3, seed=1))
    assert build(database, settings) == 4
    after = read_vectors(database)
    assert (after.model, after.version) == (before.model, before.version + 1)
    same = np.delete(np.arange(60), 3)
    np.testing.assert_array_equal(after.matrix[same], before.matrix[same])
    assert set(more) <= set(after.ids.tolist())


def test_after_growing_by_a_tenth_all_are_fitted_anew(
    database: Database, settings: HubSettings, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lsa, "SMALL", 10)
    keep(invented(60))
    build(database, settings)
    before = read_vectors(database)
    keep(invented(7, seed=1))
    assert build(database, settings) == 67
    after = read_vectors(database)
    assert after.model != before.model
    assert len(after.ids) == 67


def test_a_fit_that_is_lost_is_made_again(
    database: Database, settings: HubSettings, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lsa, "SMALL", 10)
    keep(invented(40))
    build(database, settings)
    for spoil in (lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:200])):
        spoil(settings.folder / lsa.FILE)
        keep(invented(1, seed=int(time.time_ns() % 10**6)))
        assert build(database, settings) >= 41
    assert len(set(_models(database))) == 1


def _models(database: Database) -> list[str]:
    with database.reading() as transaction:
        return list(transaction.scalars(select(Vector.model)))


def test_few_or_strange_papers_have_vectors_too(database: Database, settings: HubSettings, keep: Keep) -> None:
    day = datetime.date(2026, 1, 1)
    for titles in (["🙂", "…"], ["One"], ["same words"] * 3, ["the", "of"], ["Trees", "🙂", "Trees grow"]):
        with database.writing() as transaction:
            transaction.execute(delete(Paper))
        ids = keep([Entry(title, "json", authors=[f"A{place}"], listed_on=day) for place, title in enumerate(titles)])
        assert build(database, settings) == len(ids)
        assert np.isfinite(read_vectors(database).matrix).all()
        for one in ids:
            assert one not in [other for other, _ in Index(database).similar(one, 5)]


def test_a_projection_of_a_text_is_its_row_of_the_fit(settings: HubSettings) -> None:
    texts = [entry.abstract for entry in invented(50)]
    fit, fitted = Lsa.fit(texts)
    fit.save(settings.folder)
    again = Lsa.load(settings.folder, fit.name)
    assert again is not None
    np.testing.assert_allclose(again.project(texts), fitted, atol=1e-4)
    assert Lsa.load(settings.folder, "lsa-other") is None


def test_an_index_takes_up_new_vectors_while_it_is_used(
    database: Database, settings: HubSettings, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "REFRESH_SECONDS", 0.05)
    keep(invented(20))
    build(database, settings)
    index = Index(database)
    first = index.vectors()
    assert index.vectors() is first
    new = keep(invented(5, seed=9))
    build(database, settings)
    until = time.monotonic() + 5
    while new[0] not in index.vectors().ids:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert len(first.ids) == 20


def test_vectors_of_a_model_that_no_longer_counts_are_not_held(
    database: Database, settings: HubSettings, keep: Keep
) -> None:
    ids = keep(invented(20))
    build(database, settings)
    with database.writing() as transaction:
        transaction.execute(update(Vector).where(Vector.paper_id.in_(ids[:5])).values(model="older"))
    assert len(read_vectors(database).ids) == 15
    assert build(database, settings) == 20


def test_two_builders_at_once_do_no_harm(database: Database, settings: HubSettings, keep: Keep) -> None:
    keep(invented(40))
    failed: list[BaseException] = []

    def work() -> None:
        try:
            build(database, settings)
        except Exception as error:  # noqa: BLE001 - said below
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []
    build(database, settings)
    held = read_vectors(database)
    assert len(held.ids) == 40
    with database.reading() as transaction:
        assert transaction.get_one(SourceState, vectors.STATE).content["model"] == held.model


def test_a_paper_that_is_gone_takes_its_vector_along(database: Database, settings: HubSettings, keep: Keep) -> None:
    ids = keep(invented(10))
    build(database, settings)
    with database.writing() as transaction:
        transaction.execute(delete(Paper).where(Paper.id == ids[0]))
    assert ids[0] not in read_vectors(database).ids
