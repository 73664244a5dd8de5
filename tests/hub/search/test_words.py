"""Search by words: what it finds on both databases, and that nothing a reader writes breaks it."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from encore.hub.database import Database, Paper
from encore.hub.papers import Entry
from encore.hub.search import words

DAY = datetime.date(2026, 11, 2)
Keep = Callable[[list[Entry]], list[int]]


def paper(title: str, abstract: str = "", *authors: str, organisation: str | None = None) -> Entry:
    return Entry(title, "json", abstract, list(authors), organisation=organisation, listed_on=DAY)


def found(database: Database, text: str, *, some: bool = False) -> list[int]:
    with database.reading() as transaction:
        return (words.search_any if some else words.search)(transaction, words.parse(text), 50)


def test_words_are_found_in_any_form(database: Database, keep: Keep) -> None:
    first, second = keep([paper("Compressing images"), paper("Painting walls")])
    assert found(database, "image compression ") == [first]
    assert found(database, "PAINTED") == [second]


def test_all_words_have_to_be_there_and_those_that_say_nothing_need_not(database: Database, keep: Keep) -> None:
    both, _ = keep([paper("Sparse masks for networks"), paper("Sparse matrices")])
    assert found(database, "how to do the masks of sparse") == [both]


def test_a_title_counts_more_than_an_author_and_an_author_more_than_an_abstract(database: Database, keep: Keep) -> None:
    abstract, author, title = keep(
        [
            paper("One of three", "of turing machines and others", "A Body"),
            paper("Two of three", "of looms and others", "Alan Turing"),
            paper("Turing three", "of looms and others", "B Body"),
        ]
    )
    assert found(database, "turing") == [title, author, abstract]


def test_quoted_words_stand_side_by_side(database: Database, keep: Keep) -> None:
    beside, _ = keep([paper("The random forest"), paper("A forest of random size")])
    assert found(database, '"random forest"') == [beside]


def test_a_word_with_a_minus_must_not_be_there(database: Database, keep: Keep) -> None:
    wanted, _, _ = keep(
        [paper("Image codecs"), paper("Image codecs for video"), paper("Image and audio coding codecs")]
    )
    assert found(database, 'codecs -video -"audio coding"') == [wanted]


def test_a_hyphen_inside_a_word_is_no_minus(database: Database, keep: Keep) -> None:
    one, other, number = keep([paper("An encoder-decoder"), paper("Encoder without it"), paper("Beside ResNet-50")])
    assert found(database, "encoder-decoder") == [one]
    assert found(database, "encoder decoder") == [one]
    assert found(database, "resnet-50") == [number]
    assert found(database, "encoder -decoder") == [other]


@pytest.mark.parametrize("written", ["recon", "reconstruct", "masked reconst", "masked-reconst"])
def test_the_last_word_may_be_unfinished(database: Database, keep: Keep, written: str) -> None:
    one, _ = keep([paper("Masked reconstruction"), paper("Masked language")])
    assert found(database, written) == [one]
    assert found(database, "recon masked") == []


def test_people_and_places_are_found(database: Database, keep: Keep) -> None:
    person, place = keep(
        [paper("One", "", "Søren Hughes", "Ana Müller"), paper("Two", organisation="Kyoto University")]
    )
    assert found(database, "hughes") == [person]
    assert found(database, "Müller") == [person]
    assert found(database, "kyoto") == [place]


def test_some_of_the_words_are_enough_where_asked_for(database: Database, keep: Keep) -> None:
    one, two, _ = keep([paper("Lossless codec"), paper("Lossless image codec"), paper("Trees")])
    assert found(database, "lossless image widget") == []
    assert found(database, "lossless image widget", some=True) == [two, one]


@pytest.mark.parametrize(
    "written",
    ["2111.11632", "arXiv:2111.11632v3", "https://arxiv.org/abs/2111.11632", "http://arxiv.org/pdf/2111.11632v1.pdf"],
)
def test_an_arxiv_identifier_or_address_names_a_paper(database: Database, keep: Keep, written: str) -> None:
    named = Entry("Named", "arxiv", arxiv="2111.11632", listed_on=DAY)
    paper_id, _ = keep([named, paper("Another")])
    with database.reading() as transaction:
        assert words.named_papers(transaction, words.parse(written)) == [paper_id]
        assert words.named_papers(transaction, words.parse("2111.99999")) == []


STRANGE = [
    "", " ", '"', '""', '"""', "-", "--", '-"', "NEAR(", "NEAR(a b, 2)", "*", "a*", "title:", "title:x", "^first",
    "AND", "OR NOT AND", "a AND", "(", ")", "{title abstract}: x", "'", "\\", "'; DROP TABLE papers; --", "🙂",
    "🙂🙂 -🙂", "%", "_", "the",
    "who is the", "-the", "a:*", "!x", "x & | y", "<->", "\x00", "a\x00b", "\ud800", "½", "ﷺ" * 400,
    "x" * 10_000, "a b " * 5_000, '"a ' * 3_000, "-x " * 3_000, "İstanbul", "नमस्ते", "e\u0301", "C++ c# .net",
    "1e999", "https://example.org/?q=1&x=y", "\u202ertl", "😀lossless", "ª", "-" + "x" * 399,
]  # fmt: skip


@pytest.fixture
def few(database: Database, keep: Keep) -> Database:
    keep([paper("Lossless coding of images", "title abstract near and or not"), paper("The first of İstanbul")])
    return database


def ask_everything(database: Database, written: str) -> None:
    query = words.parse(written)
    with database.reading() as transaction:
        everything = select(Paper.id)
        for among in (None, everything):
            for search in (words.search, words.search_any):
                ids = search(transaction, query, 5, among)
                assert len(set(ids)) == len(ids)
        words.named_papers(transaction, query)
        list(transaction.scalars(words.bounded(transaction, query, everything)))


def test_nothing_strange_is_refused(few: Database) -> None:
    for written in STRANGE:
        ask_everything(few, written)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                [*"\"-*():^&|!<>'\\ {}+", "NEAR", "AND", "NOT", "lossless", "the", "first", "-first", "GPT-4"]
            ),
            max_size=12,
        ).map("".join),
    )
)
@example("lossless\u0345")
def test_nothing_that_can_be_written_is_refused(few: Database, written: str) -> None:
    ask_everything(few, written)


@given(st.text(max_size=600))
def test_only_letters_and_digits_of_what_is_written_are_asked_for(written: str) -> None:
    query = words.parse(written)
    assert all(word.isalnum() for term in query.terms for word in term.words)
    assert all(term.written.isprintable() for term in query.terms)


def test_what_is_quoted_or_excluded_bounds_other_searches(database: Database, keep: Keep) -> None:
    one, two, three = keep([paper("Random forest"), paper("Random forest of video"), paper("A forest, random")])
    with database.reading() as transaction:

        def within(written: str) -> set[int]:
            return set(transaction.scalars(words.bounded(transaction, words.parse(written), select(Paper.id))))

        assert within("forest") == {one, two, three}
        assert within('"random forest" tree') == {one, two}
        assert within('"random forest" -video') == {one}
        assert within("-video") == {one, three}
