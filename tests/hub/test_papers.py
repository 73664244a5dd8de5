"""Papers: named, found again, put together from several sources, voted for and listed."""

from __future__ import annotations

import dataclasses
import datetime
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from encore.hub import papers
from encore.hub.database import Comment, Database, Paper, PaperTask, Tag, User, Vote
from encore.hub.database.tables import now
from encore.hub.entries import address_of, cleaned, doi_of, first_author, title_hash
from encore.hub.merging import Outcome, told
from encore.hub.papers import Entry, Filters, Period, Span

DAY = datetime.date(2026, 11, 20)


@pytest.fixture
def database(emptied_database: Database) -> Database:
    return emptied_database


def entry(**given: object) -> Entry:
    """A paper that arXiv tells of, but for what is given."""
    values: dict[str, object] = {
        "title": "Learning Deconvolution Network",
        "source": "arxiv",
        "authors": ["Hyeonwoo Noh", "Jörg Müller"],
        "published": DAY,
    }
    return Entry(**values | given)  # type: ignore[arg-type]


def tell(database: Database, *entries: Entry) -> list[Outcome]:
    """Tell of papers, one transaction each."""
    outcomes = []
    for one in entries:
        with database.writing() as transaction:
            outcomes.append(told(transaction, one)[1])
    return outcomes


def only(database: Database) -> Paper:
    """The one paper that there is."""
    with database.reading() as transaction:
        return transaction.scalars(select(Paper)).one()


def count(database: Database) -> int:
    with database.reading() as transaction:
        return transaction.scalar(select(func.count()).select_from(Paper)) or 0


def readers(database: Database, number: int) -> list[int]:
    with database.writing() as transaction:
        users = [User(email=f"{one}@example.org", name=f"Reader {one}") for one in range(number)]
        transaction.add_all(users)
        transaction.flush()
        return [user.id for user in users]


# names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2111.11632", ("2111.11632", None)),
        (" arXiv:2111.11632v2 ", ("2111.11632", 2)),
        ("0704.0001", ("0704.0001", None)),
        ("https://arxiv.org/abs/2111.11632v2", ("2111.11632", 2)),
        ("http://www.arxiv.org/pdf/2111.11632v12.pdf", ("2111.11632", 12)),
        ("https://arxiv.org/abs/2111.11632?context=cs.CV#page", ("2111.11632", None)),
        ("https://arxiv.org/html/2111.11632v1/", ("2111.11632", 1)),
        ("https://export.arxiv.org/abs/cs/0101001", ("cs/0101001", None)),
        ("math.GT/0309136v1", ("math/0309136", 1)),
        ("arXiv preprint arXiv:1505.04366", ("1505.04366", None)),
        ("https://doi.org/10.48550/arXiv.2111.11632", ("2111.11632", None)),
        ("https://huggingface.co/papers/2111.11632", ("2111.11632", None)),
        ("https://evil.example/abs/2111.11632", None),
        ("https://arxiv.org@evil.example/abs/2111.11632", None),
        ("https://arxiv.org.evil.example/abs/2111.11632", None),
        ("file:///abs/2111.11632", None),
        ("2111.11632v0", None),
        ("2111.116321", None),
        ("２１１１.11632", None),
        ("2111.11632\nx", None),
        ("aaaaaaaaaaaaaaaaaaaa/1234567", None),
        ("", None),
    ],
)
def test_an_arxiv_identifier_is_read_from_text_and_addresses(text: str, found: tuple[str, int | None] | None) -> None:
    assert papers.arxiv_identifier(text) == found


@given(st.from_regex(r"\A[0-9]{4}\.[0-9]{5}\Z"), st.integers(1, 999))
def test_every_way_to_write_an_identifier_is_read_alike(name: str, version: int) -> None:
    for written in ("{}", "arXiv:{}", "https://arxiv.org/abs/{}", "https://arxiv.org/pdf/{}.pdf", "arxiv.org/abs/{}"):
        assert papers.arxiv_identifier(written.format(f"{name}v{version}")) == (name, version)
        assert papers.arxiv_identifier(written.format(name)) == (name, None)


@given(st.text(max_size=60))
def test_any_text_is_an_identifier_that_fits_or_none(text: str) -> None:
    found = papers.arxiv_identifier(text)
    assert found is None or (len(found[0]) <= 20 and found[0].isascii())


@given(st.text(max_size=60))
def test_cleaned_text_is_one_line_and_stays_clean(text: str) -> None:
    clean = cleaned(text)
    assert "\n" not in clean
    assert "\x00" not in clean
    assert clean == clean.strip()
    clean.encode()  # no halves of letters


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_none(text: str) -> None:
    assert (address_of("https://" + text) or "https://").startswith("https://")
    assert address_of("javascript:" + text) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.1109/ICCV.2015.178", "10.1109/iccv.2015.178"),
        ("https://doi.org/10.1109/ABC", "10.1109/abc"),
        ("doi: 10.1109/abc", "10.1109/abc"),
        ("10.48550/arXiv.2111.11632", None),
        ("10.1/x", None),
        ("10.1234/" + "x" * 300, None),
        (None, None),
        ("see there", None),
    ],
)
def test_a_doi_is_read_from_text_and_addresses(text: str | None, found: str | None) -> None:
    assert doi_of(text) == found


def test_a_key_is_the_identifier_or_a_hash_of_title_and_first_author() -> None:
    assert papers.key_of(entry(arxiv="2111.11632")) == "2111.11632"
    assert papers.key_of(entry(arxiv="cs/0101001")) == "cs-0101001"
    key = papers.key_of(entry())
    assert key == papers.key_of(entry(title="LEARNING  Déconvolution-Network!", authors=["H. Nóh"]))
    assert key != papers.key_of(entry(authors=["Jörg Müller"]))
    assert len(key) == 16
    assert papers.key_of(entry(title="???")) is not None


def test_a_title_without_letters_has_a_name_of_its_own() -> None:
    assert title_hash("???") != title_hash("!!!")
    assert first_author([" "]) == ""


# putting together


def test_telling_twice_changes_nothing(database: Database) -> None:
    full = entry(
        arxiv="2111.11632", abstract="We.", tasks=["Segmentation"], doi="10.1234/x", version=2, outside_votes=3
    )
    assert tell(database, full, full) == ["new", "same"]
    assert count(database) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"arxiv": "2111.11632"}, {"arxiv": "2111.11632", "title": "Another Title", "authors": ["Else"]}),
        ({"doi": "10.1234/x"}, {"doi": "10.1234/x", "title": "Another Title", "authors": []}),
        ({}, {"title": "learning deconvolution network.", "authors": ["Noh"], "source": "csv"}),
        ({"source": "bibtex"}, {"arxiv": "2111.11632"}),
        ({"arxiv": "2111.11632"}, {"source": "bibtex"}),
        ({"arxiv": "2111.11632"}, {"source": "bibtex", "authors": []}),
        ({"source": "cards", "slug": "deconvnet", "authors": [], "arxiv": "2111.11632"}, {"source": "ris"}),
        ({"source": "bibtex", "doi": "10.1234/conference"}, {"source": "ris", "doi": "10.1234/journal"}),
    ],
)
def test_a_paper_is_found_again(database: Database, first: dict[str, object], second: dict[str, object]) -> None:
    assert tell(database, entry(**first), entry(**second))[1] != "new"
    assert count(database) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"arxiv": "2111.11632"}, {"arxiv": "2111.99999"}),
        ({"arxiv": "2111.11632", "doi": "10.1234/x"}, {"arxiv": "2111.99999", "doi": "10.1234/x"}),
        ({}, {"authors": ["Ada Lovelace"]}),
        ({}, {"title": "Learning Deconvolution Networks"}),
        ({}, {"authors": [], "published": datetime.date(2016, 1, 1)}),
    ],
)
def test_another_paper_is_not_taken_for_it(
    database: Database, first: dict[str, object], second: dict[str, object]
) -> None:
    assert tell(database, entry(**first), entry(**second)) == ["new", "new"]


def test_what_is_believed_more_replaces_and_what_is_believed_less_fills(database: Database) -> None:
    tell(
        database,
        entry(source="csv", abstract="from a table", doi="10.1234/x"),
        entry(source="arxiv", abstract="from arXiv", arxiv="2111.11632"),
        entry(source="bibtex", abstract="from a bibliography", organisation="A Lab", url="https://example.org"),
    )
    paper = only(database)
    assert (paper.abstract, paper.doi, paper.organisation) == ("from arXiv", "10.1234/x", "A Lab")
    assert (paper.source, paper.rank) == ("arxiv", 4)


@pytest.mark.parametrize("order", [(0, 1, 0, 1), (1, 0, 1, 0)])
def test_a_card_has_the_abstract_and_the_versions_of_arxiv(database: Database, order: tuple[int, ...]) -> None:
    both = (
        entry(
            source="cards", abstract="Our own sentence.", arxiv="2111.11632", slug="deconvnet", tasks=["segmentation"]
        ),
        entry(abstract="We propose.", arxiv="2111.11632", version=2, tasks=["computer-vision"]),
    )
    outcomes = tell(database, *(both[one] for one in order))
    assert outcomes[2:] == ["same", "same"]
    paper = only(database)
    assert (paper.abstract, paper.version, paper.tasks) == ("We propose.", 2, ["segmentation"])
    assert tell(database, dataclasses.replace(both[1], version=3, abstract="We propose more.")) == ["changed"]
    assert (only(database).abstract, only(database).version) == ("We propose more.", 3)


def test_an_older_version_changes_nothing(database: Database) -> None:
    new = entry(arxiv="2111.11632", version=3, title="The Newer Title")
    assert tell(database, new, dataclasses.replace(new, version=1, title="The First Title")) == ["new", "same"]


def test_two_papers_that_turn_out_to_be_one_become_one(database: Database) -> None:
    tell(database, entry(title="A Working Title", doi="10.1234/x", source="bibtex"), entry(arxiv="2111.11632"))
    ada, bob = readers(database, 2)
    with database.writing() as transaction:
        working, arxiv = transaction.scalars(select(Paper).order_by(Paper.id))
        transaction.add_all(
            [
                Vote(user_id=ada, paper_id=working.id),
                Vote(user_id=bob, paper_id=working.id),
                Vote(user_id=bob, paper_id=arxiv.id),
                Tag(user_id=ada, paper_id=working.id, tag="read"),
                Comment(paper_id=working.id, user_id=ada, body="Good."),
            ]
        )
    assert tell(database, entry(arxiv="2111.11632", doi="10.1234/x")) == ["changed"]
    paper = only(database)
    assert (paper.key, paper.doi, paper.votes, paper.comments) == ("2111.11632", "10.1234/x", 2, 1)
    with database.reading() as transaction:
        assert transaction.scalars(select(Tag.tag).where(Tag.paper_id == paper.id)).all() == ["read"]


def test_two_preprints_are_never_made_one(database: Database) -> None:
    tell(database, entry(arxiv="2111.00001"), entry(arxiv="2111.00002"))
    assert tell(database, entry(source="bibtex", doi="10.1234/x")) == ["changed"]
    tell(database, entry(source="json", title="A Title of Its Own", doi="10.1234/y"))
    assert tell(database, entry(source="bibtex", doi="10.1234/y")) == ["changed"]
    assert count(database) == 2


def test_a_doi_that_two_preprints_claim_stays_with_the_first(database: Database) -> None:
    first, second = (
        entry(arxiv="2111.00001", doi="10.1234/x"),
        entry(arxiv="2111.00002", doi="10.1234/x", title="Other"),
    )
    assert tell(database, first, second, second, first) == ["new", "new", "same", "same"]


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(5)), seed=st.integers(0, 999))
def test_in_whatever_order_sources_tell_nothing_breaks(kept_database: Database, order: list[int], seed: int) -> None:
    chance = random.Random(seed)
    told_of = [
        entry(
            source=chance.choice(sorted(papers.RANKS)),
            arxiv=chance.choice([None, "2111.00001", "2111.00002"]),
            doi=chance.choice([None, "10.1234/x", "10.1234/y"]),
            slug=chance.choice([None, None, "deconvnet"]),
            title=chance.choice(["One Title", "Another"]),
            authors=chance.choice([[], ["A B"], ["C D"]]),
            published=chance.choice([DAY, DAY.replace(year=2019)]),
        )
        for _ in range(5)
    ]
    with kept_database.writing() as transaction:
        for _ in range(2):
            for one in order:
                told(transaction, told_of[one])
        assert 1 <= (transaction.scalar(select(func.count()).select_from(Paper)) or 0) <= 5
        transaction.execute(delete(Paper))


def test_the_day_of_the_feed_is_hugging_faces_then_that_of_publication(database: Database) -> None:
    table = entry(source="csv", published=None, listed_on=datetime.date(2026, 1, 1))
    arxiv = entry(arxiv="2111.11632", listed_on=DAY)
    listed = entry(source="huggingface", arxiv="2111.11632", listed_on=DAY + datetime.timedelta(days=3))
    days = []
    for one in (table, arxiv, table, listed, arxiv, table, listed):
        tell(database, one)
        days.append(only(database).listed_on.isoformat())
    assert days == ["2026-01-01", *["2026-11-20"] * 2, *["2026-11-23"] * 4]


def test_a_paper_that_is_listed_on_two_days_stays_on_the_first(database: Database) -> None:
    first = entry(source="huggingface", arxiv="2111.11632", listed_on=DAY + datetime.timedelta(days=2))
    second = dataclasses.replace(first, listed_on=DAY + datetime.timedelta(days=4))
    assert tell(database, first, second, first, second) == ["new", "same", "same", "same"]


def test_a_paper_of_the_future_is_listed_today(database: Database) -> None:
    tell(database, entry(published=now().date() + datetime.timedelta(days=90)))
    assert only(database).listed_on == now().date()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"title": " \n "}, "no title"),
        ({"published": None}, "neither date nor year"),
        ({"published": datetime.date(9999, 1, 1)}, "dated 9999-01-01"),
        ({"published": datetime.date(12, 1, 1)}, "dated 0012-01-01"),
        ({"withdrawn": True}, "withdrawn"),
    ],
)
def test_an_impossible_entry_is_refused(database: Database, given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said), database.writing() as transaction:
        papers.put(transaction, entry(**given))
    assert count(database) == 0


def test_tasks_are_kept_for_filters(database: Database) -> None:
    tell(database, entry(tasks=["Segmentation", "depth ", ""]), entry(tasks=["depth", "detection"]))
    with database.reading() as transaction:
        assert set(transaction.scalars(select(PaperTask.task))) == {"depth", "detection"}


def test_an_address_may_name_a_paper_in_three_ways(database: Database) -> None:
    tell(database, entry(source="bibtex"), entry(arxiv="2111.11632", slug="deconvnet"))
    with database.reading() as transaction:
        paper = papers.paper_of(transaction, "2111.11632")
        assert paper is not None
        assert papers.paper_of(transaction, "deconvnet") is papers.paper_of(transaction, paper.key) is paper
        assert paper.key.startswith("p")
        assert papers.paper_of(transaction, "nothing") is None


# votes


def test_a_vote_counts_once_however_often_it_is_given(database: Database) -> None:
    tell(database, entry())
    paper, (ada, bob) = only(database), readers(database, 2)
    assert papers.vote(database, ada, paper.id, wanted=True) == 1
    assert papers.vote(database, ada, paper.id, wanted=True) == 1
    assert papers.vote(database, bob, paper.id, wanted=True) == 2
    with database.reading() as transaction:
        assert papers.voted(transaction, ada, [paper]) == {paper.id}
        assert papers.voted(transaction, ada, []) == set()
    assert papers.vote(database, ada, paper.id, wanted=False) == 1
    assert papers.vote(database, ada, paper.id, wanted=False) == 1
    assert only(database).trend > paper.trend


@given(
    outside=st.integers(0, 500),
    given_at=st.lists(st.floats(0, 60), max_size=20),
    age=st.integers(0, 60),
)
def test_a_trend_is_the_sum_of_votes_that_decay(outside: int, given_at: list[float], age: int) -> None:
    start = datetime.datetime.combine(DAY, datetime.time(), datetime.UTC)
    at = start + datetime.timedelta(days=60 + age)
    votes = [start + datetime.timedelta(days=days) for days in given_at]

    def weight(moment: datetime.datetime) -> float:
        return 0.5 ** ((at - moment) / datetime.timedelta(days=2))

    slow = (1 + outside) * weight(start) + sum(map(weight, votes))
    assert papers.decayed_votes(papers.trend_of(DAY, outside, votes), at) == pytest.approx(slow, rel=1e-6)


def test_a_trend_needs_no_clock() -> None:
    older = papers.trend_of(DAY, 3, ())
    newer = papers.trend_of(DAY + datetime.timedelta(days=4), 0, ())
    assert older == pytest.approx(newer)  # four votes of four days ago are one of today
    assert math.isfinite(papers.decayed_votes(1e9))


# lists


@pytest.mark.parametrize(
    ("period", "text", "first", "last"),
    [
        ("day", "2026-11-27", "2026-11-27", "2026-11-27"),
        ("week", "2026-W48", "2026-11-23", "2026-11-29"),
        ("week", "2026-W53", "2026-12-28", "2027-01-03"),
        ("month", "2024-02", "2024-02-01", "2024-02-29"),
        ("month", "2026-12", "2026-12-01", "2026-12-31"),
    ],
)
def test_a_span_is_a_day_a_week_or_a_month(period: Period, text: str, first: str, last: str) -> None:
    span = Span.parse(period, text)
    assert (span.first.isoformat(), span.last.isoformat(), span.text) == (first, last, text)


@given(st.dates(datetime.date(2, 1, 1), datetime.date(9998, 12, 20)), st.sampled_from(["day", "week", "month"]))
def test_a_span_is_read_as_it_was_written(day: datetime.date, period: Period) -> None:
    span = Span.around(period, day)
    assert span.first <= day <= span.last
    assert span.first.year >= 2
    assert Span.parse(period, span.text) == span


@given(
    st.one_of(st.text(max_size=12), st.from_regex(r"[0-9]{4}-W?[0-9]{2}(-[0-9]{2})?")),
    st.sampled_from(["day", "week", "month"]),
)
def test_what_is_no_span_is_a_value_error(text: str, period: Period) -> None:
    try:
        span = Span.parse(period, text)
    except ValueError:
        return
    assert span.text == text


@pytest.mark.parametrize("text", ["9999-12", "0000-01", "0001-01", "2026-13", "２０２６-11", "2026-11\n"])
def test_a_month_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Span.parse("month", text)


@pytest.fixture
def filled(database: Database) -> Database:
    """Six papers of three days."""
    for number in range(6):
        tell(
            database,
            entry(
                title=f"Paper {number}",
                arxiv=f"2611.0000{number}",
                published=DAY - datetime.timedelta(days=number // 2 * 40),
                tasks=["depth"] if number % 2 else ["detection", "depth"],
                code_url="https://github.com/a/b" if number == 3 else None,
                slug="segnet" if number == 4 else None,
                outside_votes=number,
            ),
        )
    return database


def titles(database: Database, **given: object) -> list[str]:
    with database.reading() as transaction:
        return [paper.title[-1] for paper in papers.listed(transaction, **given)]  # type: ignore[arg-type]


def test_papers_are_listed_by_trend_or_by_day(filled: Database) -> None:
    assert titles(filled) == ["1", "0", "3", "2", "5", "4"]
    assert titles(filled, newest_first=True) == ["1", "0", "3", "2", "5", "4"]
    assert titles(filled, offset=2, limit=2) == ["3", "2"]
    assert titles(filled, span=Span.around("day", DAY)) == ["1", "0"]
    assert titles(filled, span=Span.parse("month", "2026-10")) == ["3", "2"]


def test_filters_leave_papers_out(filled: Database) -> None:
    assert titles(filled, filters=Filters(task="Detection")) == ["0", "2", "4"]
    assert titles(filled, filters=Filters(code=True)) == ["3"]
    assert titles(filled, filters=Filters(performed=True), performed_slugs=("segnet",)) == ["4"]
    assert titles(filled, filters=Filters(performed=True)) == []
    assert titles(filled, filters=Filters(year=2019)) == []
    (ada, bob) = readers(filled, 2)
    with filled.writing() as transaction:
        paper = papers.paper_of(transaction, "2611.00002")
        assert paper is not None
        transaction.add(Tag(user_id=ada, paper_id=paper.id, tag="read"))
    assert titles(filled, filters=Filters(tag="read", user_id=ada)) == ["2"]
    assert titles(filled, filters=Filters(tag="read", user_id=bob)) == []
    assert not Filters(user_id=ada).given
    assert Filters(code=True).given


def test_neighbours_are_the_nearest_spans_with_papers(filled: Database) -> None:
    with filled.reading() as transaction:
        before, after = papers.neighbours(transaction, Span.parse("month", "2026-10"))
        assert before is not None
        assert after is not None
        assert (before.text, after.text) == ("2026-09", "2026-11")
        assert papers.neighbours(transaction, Span.around("day", DAY))[1] is None


def test_a_room_moves_when_its_card_is_corrected(database: Database) -> None:
    wrong = entry(source="cards", arxiv="2111.00001", slug="deconvnet")
    right = entry(source="cards", arxiv="2111.00002", slug="deconvnet")
    assert tell(database, wrong, right, right) == ["new", "new", "same"]
    with database.reading() as transaction:
        paper = papers.paper_of(transaction, "deconvnet")
        assert paper is not None
        assert paper.arxiv == "2111.00002"
