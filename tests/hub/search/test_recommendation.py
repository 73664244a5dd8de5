"""Recommendations: what a reader voted for comes first, and nothing is made of nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from encore.hub import papers
from encore.hub.database import Database, Paper, Recommendation, Tag, User
from encore.hub.papers import Entry
from encore.hub.search.embedding import Embedder
from encore.hub.search.recommendation import KEPT, for_user, refresh
from encore.hub.search.vectors import build
from encore.hub.settings import HubSettings
from tests.hub.search.conftest import SUBJECTS, invented

Keep = Callable[[list[Entry]], list[int]]


@pytest.fixture
def reader(database: Database) -> int:
    with database.writing() as transaction:
        transaction.add(User(id=5, email="reader@example.org", name="reader"))
    return 5


def recommended(database: Database, user_id: int, **page: int) -> list[Paper]:
    with database.reading() as transaction:
        return for_user(transaction, user_id, **page)


def vote(database: Database, user_id: int, ids: list[int]) -> None:
    for one in ids:
        papers.vote(database, user_id, one, wanted=True)


def test_after_votes_for_segmentation_segmentation_comes_first(
    database: Database, settings: HubSettings, keep: Keep, reader: int, minilm: Embedder, cards: list[Entry]
) -> None:
    ids = keep(invented(160) + cards)
    build(database, settings, embedder=minilm)
    vote(database, reader, [ids[0], ids[8], ids[16]])
    assert refresh(database, settings, {"user_id": reader}) == KEPT
    best = recommended(database, reader, limit=15)
    assert all("segmentation" in paper.tasks for paper in best)
    assert not {ids[0], ids[8], ids[16]} & {paper.id for paper in best}


def test_words_alone_recommend_too_and_tags_count_as_votes(
    database: Database, settings: HubSettings, keep: Keep, reader: int
) -> None:
    ids = keep(invented(160))
    build(database, settings)
    music = list(SUBJECTS).index("music")
    with database.writing() as transaction:
        transaction.add_all(Tag(user_id=reader, paper_id=ids[music + 8 * step], tag="play") for step in range(2))
    refresh(database, settings, {"user_id": reader})
    assert all("music" in paper.tasks for paper in recommended(database, reader, limit=12))


def test_making_them_twice_gives_the_same(database: Database, settings: HubSettings, keep: Keep, reader: int) -> None:
    ids = keep(invented(120))
    build(database, settings)
    vote(database, reader, ids[:2])
    lists = []
    for _ in range(2):
        refresh(database, settings, {"user_id": reader})
        lists.append([paper.id for paper in recommended(database, reader, limit=200)])
    assert lists[0] == lists[1]
    assert [paper.id for paper in recommended(database, reader, limit=5, offset=5)] == lists[0][5:10]


def test_what_is_voted_for_meanwhile_is_not_recommended(
    database: Database, settings: HubSettings, keep: Keep, reader: int
) -> None:
    ids = keep(invented(60))
    build(database, settings)
    vote(database, reader, ids[:1])
    refresh(database, settings, {"user_id": reader})
    first, second = recommended(database, reader, limit=2)
    vote(database, reader, [first.id])
    assert recommended(database, reader, limit=1)[0].id == second.id


def test_a_reader_without_votes_has_none(database: Database, settings: HubSettings, keep: Keep, reader: int) -> None:
    ids = keep(invented(20))
    assert refresh(database, settings, {"user_id": reader}) == 0
    build(database, settings)
    assert refresh(database, settings, {"user_id": reader}) == 0
    vote(database, reader, ids[:1])
    assert refresh(database, settings, {"user_id": reader}) == 19
    papers.vote(database, reader, ids[0], wanted=False)
    assert refresh(database, settings, {"user_id": reader}) == 0
    with database.reading() as transaction:
        assert transaction.scalars(select(Recommendation)).all() == []
    vote(database, reader, ids)
    assert refresh(database, settings, {"user_id": reader}) == 0
    assert refresh(database, settings, {"user_id": 999}) == 0


def test_old_papers_come_only_where_there_are_too_few_new_ones(
    database: Database, settings: HubSettings, keep: Keep, reader: int
) -> None:
    new = keep(invented(8 * 14))
    old = keep([_aged(entry) for entry in invented(8 * 14, seed=3)])
    build(database, settings)
    vote(database, reader, [old[0]])
    refresh(database, settings, {"user_id": reader})
    assert {paper.id for paper in recommended(database, reader, limit=KEPT)} <= set(new)


def _aged(entry: Entry) -> Entry:
    assert entry.listed_on is not None
    entry.title += " of old"
    entry.listed_on = entry.listed_on.replace(year=entry.listed_on.year - 5, day=1)
    return entry
