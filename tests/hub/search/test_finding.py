"""Search by words and meaning together: its order, its filters, its pages, and how good it is."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encore.hub import papers
from encore.hub.database import Database, Tag, User
from encore.hub.papers import Entry, Filters
from encore.hub.search.embedding import Embedder
from encore.hub.search.finding import Finder, fused
from encore.hub.search.vectors import build
from encore.hub.settings import HubSettings
from tests.hub.search.conftest import MINILM, invented

Keep = Callable[[list[Entry]], list[int]]
DAY = datetime.date(2026, 11, 2)


@pytest.fixture
def by_words(database: Database, settings: HubSettings) -> Finder:
    """Without an embedding model."""
    return Finder(database, settings)


@pytest.fixture
def by_both(database: Database, settings: HubSettings, minilm: Embedder) -> Finder:
    """With a real one, that is loaded."""
    finder = Finder(database, settings.model_copy(update={"embedding_model": MINILM}))
    assert finder.embedder is not None
    finder.close()
    finder.embedder = minilm
    return finder


@given(st.lists(st.lists(st.integers(0, 30), unique=True), max_size=3))
def test_fusion_is_the_sum_of_inverse_ranks(rankings: list[list[int]]) -> None:
    def score(paper: int) -> float:
        return sum(1 / (60 + one.index(paper) + 1) for one in rankings if paper in one)

    order = fused(rankings)
    assert sorted(order) == sorted({paper for one in rankings for paper in one})
    assert order == sorted(order, key=lambda paper: (-score(paper), -paper))


def test_papers_can_be_read_after_their_transaction(by_words: Finder, keep: Keep, cards: list[Entry]) -> None:
    keep(cards)
    found = by_words.find("lossless compression")
    assert not found.by_meaning
    assert found.papers[0].slug == "pc_compression"
    assert found.papers[0].abstract
    assert by_words.find("").papers[0].title


def test_an_empty_search_lists_what_trends(database: Database, by_words: Finder, keep: Keep) -> None:
    keep(invented(30))
    with database.reading() as transaction:
        trending = [paper.id for paper in papers.listed(transaction, limit=100)]
    found = by_words.find("  ", offset=10, limit=5)
    assert [paper.id for paper in found.papers] == trending[10:15]
    assert found.total == 30
    assert by_words.find("", Filters(task="music")).total == 3  # of 8 subjects, in turn


def test_what_is_only_excluded_leaves_the_rest(by_words: Finder, keep: Keep) -> None:
    keep(invented(16))
    found = by_words.find("-music -weather")
    assert found.total == 12
    assert not any({"music", "weather"} & set(paper.tasks) for paper in found.papers)


def test_a_search_without_a_word_finds_nothing(by_words: Finder, keep: Keep) -> None:
    keep(invented(5))
    for written in ("🙂", "?!", "the of", "zyzzyva"):
        assert by_words.find(written).total == 0


def test_where_no_paper_has_all_words_those_with_some_come(by_words: Finder, keep: Keep, cards: list[Entry]) -> None:
    keep(cards + invented(100))
    found = by_words.find("compress images without losing anything lossless zyzzyva")
    assert found.papers[0].slug == "pc_compression"


def test_pages_follow_each_other_without_gap_or_double(by_words: Finder, keep: Keep) -> None:
    keep(invented(100))
    whole = [paper.id for paper in by_words.find("study", limit=500).papers]
    assert len(whole) == by_words.find("study").total == 100
    pages = [paper.id for start in range(0, 120, 7) for paper in by_words.find("study", offset=start, limit=7).papers]
    assert pages == whole


def test_an_identifier_finds_its_paper_alone(by_words: Finder, keep: Keep, cards: list[Entry]) -> None:
    keep(cards)
    for written in ("2111.11632", " https://arxiv.org/abs/2111.11632v2 "):
        found = by_words.find(written)
        assert [paper.slug for paper in found.papers] == ["pc_compression"]
    assert by_words.find("2111.11632", Filters(year=1999)).total == 0


def test_filters_bound_words_and_meaning(
    database: Database, settings: HubSettings, by_both: Finder, minilm: Embedder, keep: Keep, cards: list[Entry]
) -> None:
    ids = keep(cards + invented(40))
    with database.writing() as transaction:
        transaction.add(User(id=1, email="a@example.org", name="a"))
        transaction.flush()
        transaction.add(Tag(user_id=1, paper_id=ids[0], tag="mine"))
    build(database, settings, embedder=minilm)
    for text in ("segmentation", "label every pixel of a street"):
        assert {"segmentation"} <= set(by_both.find(text).papers[0].tasks)
        music = by_both.find(text, Filters(task="music"))
        assert all("music" in paper.tasks for paper in music.papers)
        years = by_both.find(text, Filters(year=2015))
        assert years.papers[0].slug == "segnet"
        assert all(paper.year == 2015 for paper in years.papers)
        performed = by_both.find(text, Filters(performed=True), ["segnet", "spark"])
        assert performed.papers[0].slug == "segnet"
        assert {paper.slug for paper in performed.papers} <= {"segnet", "spark"}
        assert {paper.id for paper in by_both.find(text, Filters(tag="mine", user_id=1)).papers} <= {ids[0]}


def test_meaning_finds_what_words_do_not(
    database: Database, settings: HubSettings, by_both: Finder, minilm: Embedder, keep: Keep, cards: list[Entry]
) -> None:
    keep(cards + invented(160))
    assert build(database, settings, embedder=minilm) == 184
    found = by_both.find("compress images without losing anything")
    assert found.by_meaning
    assert found.papers[0].slug == "pc_compression"
    assert by_both.find("fill in the missing part of a photograph").papers[0].slug == "medfe"
    assert "audio_bow" in [one.slug for one in by_both.find("recognise sounds in recordings").papers[:3]]
    assert found.total < 100, "what is far from the question is left out"
    assert by_both.find("segnet").papers[0].slug == "segnet"
    excluded = by_both.find("compress images without losing anything -lossless")
    assert "pc_compression" not in [one.slug for one in excluded.papers]
    quoted = by_both.find('compress images "probabilistic circuits"')
    assert [one.slug for one in quoted.papers] == ["pc_compression"]
    spark = next(one for one in by_both.find("sparse masked modelling convnets spark").papers if one.slug == "spark")
    assert "cae" in [one.slug for one in by_both.similar(spark.id)]


def test_papers_are_found_by_words_until_their_vectors_are_of_the_model(
    database: Database, settings: HubSettings, by_both: Finder, keep: Keep, cards: list[Entry]
) -> None:
    keep(cards)
    build(database, settings)
    found = by_both.find("lossless")
    assert not found.by_meaning
    assert found.papers[0].slug == "pc_compression"


def test_similar_papers_of_words_alone(
    database: Database, settings: HubSettings, by_words: Finder, keep: Keep, cards: list[Entry]
) -> None:
    keep(cards)
    build(database, settings)
    spark = by_words.find("", Filters(performed=True), ["spark"]).papers[0]
    similar = by_words.similar(spark.id)
    assert len(similar) == 6
    assert "cae" in [one.slug for one in similar]


def test_a_digest_has_the_papers_of_its_days_that_a_search_means(
    database: Database, settings: HubSettings, by_both: Finder, minilm: Embedder, keep: Keep
) -> None:
    def entry(title: str, day: int) -> Entry:
        return Entry(title, "json", listed_on=DAY + datetime.timedelta(days=day), authors=["A B"])

    rain, storm, cello, late = keep(
        [
            entry("Rain tomorrow: nowcasting with radar", 0),
            entry("Predicting storms and showers", 1),
            entry("Teaching a cello to sing", 1),
            entry("Rain the day after", 2),
        ]
    )
    build(database, settings, embedder=minilm)
    tomorrow = DAY + datetime.timedelta(days=1)
    found = by_both.among_days("rain forecast", DAY, tomorrow)
    assert {paper.id for paper in found} == {rain, storm}
    assert cello not in [paper.id for paper in by_both.among_days("weather", DAY, tomorrow)]
    assert late in [paper.id for paper in by_both.among_days("rain", DAY, tomorrow + datetime.timedelta(days=1))]
    words_alone = Finder(database, settings).among_days("rain", DAY, tomorrow)
    assert [paper.id for paper in words_alone] == [rain]
