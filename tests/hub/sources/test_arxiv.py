"""arXiv: what an entry says, where a search goes on, and what becomes of answers that are none."""

from __future__ import annotations

import datetime
import itertools

import pytest

from encore.base.errors import DataError
from encore.hub.sources import arxiv
from encore.hub.sources.client import Outside, SourceError
from tests.hub.sources.stand_in import StandIn, StandInPaper

NOON = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.UTC)


def many(count: int) -> list[StandInPaper]:
    return [
        StandInPaper(f"2611.{number:05}", f"Paper {number}", submitted=NOON - datetime.timedelta(minutes=number))
        for number in range(count)
    ]


def test_an_entry_says_all_that_arxiv_says(outside: Outside, there: StandIn) -> None:
    there.papers = [
        StandInPaper(
            "2511.01234",
            "Attention & Convolution:\n  a Study of $p < 0.5$",
            "Long\n  lines, Gödel’s &amp; Erdős's.  Code at https://github.com/a/b-c.git.",
            ("Jörg Müller", "李 明"),
            submitted=datetime.datetime(2025, 11, 3, 17, 59, tzinfo=datetime.UTC),
            updated=datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC),
            version=3,
            categories=("cs.CV", "cs.LG", "stat.ML", "math.OC"),
            doi="10.1109/CVPR.2026.1",
            comment="12 pages, see github.com/one/two",
        )
    ]
    (entry,) = arxiv.fetch(outside, ["https://arxiv.org/abs/2511.01234v1"])
    assert entry.title == "Attention & Convolution: a Study of $p < 0.5$"
    assert entry.abstract == "Long lines, Gödel’s & Erdős's. Code at https://github.com/a/b-c.git."
    assert entry.authors == ["Jörg Müller", "李 明"]
    assert (entry.arxiv, entry.version, entry.doi) == ("2511.01234", 3, "10.1109/cvpr.2026.1")
    assert entry.published == entry.listed_on == datetime.date(2025, 11, 3)
    assert entry.updated == datetime.date(2026, 1, 5)
    assert entry.tasks == ["computer-vision", "machine-learning"]
    assert (entry.url, entry.code_url) == ("https://arxiv.org/abs/2511.01234", "https://github.com/one/two")
    assert not entry.withdrawn


def test_markup_in_a_title_is_text(outside: Outside, there: StandIn) -> None:
    there.papers = [StandInPaper("2511.01234", "On <script>alert(1)</script> & <b>bold</b> claims")]
    assert arxiv.fetch(outside, ["2511.01234"])[0].title == "On <script>alert(1)</script> & <b>bold</b> claims"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Code: https://github.com/a/b.", "https://github.com/a/b"),
        ("(https://gitlab.com/a/b)", "https://gitlab.com/a/b"),
        ("weights at huggingface.co/a/b-c", "https://huggingface.co/a/b-c"),
        ("https://huggingface.co/datasets/a/b", "https://huggingface.co/datasets/a/b"),
        ("see https://huggingface.co/papers/2511.1", None),
        ("https://a.github.io/page", None),
        ("github.com/alone", None),
        ("javascript:github.com/a/b", "https://github.com/a/b"),
    ],
)
def test_public_code_is_found_in_text(text: str, address: str | None) -> None:
    assert arxiv.code_in(text) == address


@pytest.mark.parametrize(
    ("comment", "abstract", "withdrawn"),
    [
        ("This paper has been withdrawn by the authors", "We show.", True),
        ("withdrawn due to an error in eq. 3", "We show.", True),
        (None, "This paper has been withdrawn.", True),
        (None, "We ask how often a paper was withdrawn by its authors.", False),
        (None, "When a drug was withdrawn from the market, prices rose.", False),
        ("12 pages", "We show.", False),
    ],
)
def test_a_withdrawn_paper_is_known_as_one(
    outside: Outside, there: StandIn, comment: str | None, abstract: str, withdrawn: bool
) -> None:
    there.papers = [StandInPaper("2511.01234", comment=comment, abstract=abstract)]
    (entry,) = arxiv.fetch(outside, ["2511.01234"])
    assert entry.withdrawn is withdrawn
    assert not withdrawn or "withdrawn" in entry.abstract[:40].lower()


def test_what_arxiv_does_not_know_is_missing(outside: Outside, there: StandIn) -> None:
    there.papers = [StandInPaper("2511.01234")]
    assert [entry.arxiv for entry in arxiv.fetch(outside, ["2511.99999", "2511.01234"])] == ["2511.01234"]
    assert arxiv.fetch(outside, ["2511.99999"]) == []


def test_what_is_no_identifier_is_never_asked_for(outside: Outside, there: StandIn) -> None:
    with pytest.raises(DataError, match="is no arXiv identifier"):
        arxiv.fetch(outside, ["2511.01234", "http://127.0.0.1/2511.01234"])
    assert there.requests == []


def test_more_identifiers_than_a_page_are_asked_for_in_turn(outside: Outside, there: StandIn) -> None:
    there.papers = many(120)
    assert len(arxiv.fetch(outside, [paper.arxiv for paper in there.papers])) == 120
    assert len(there.requests) == 2


def test_a_search_goes_through_all_pages(outside: Outside, there: StandIn) -> None:
    there.papers = many(250)
    pages = list(arxiv.search(outside, ["cs.CV"]))
    assert [len(page.entries) for page in pages] == [100, 100, 50]
    assert [page.after and page.after.start for page in pages] == [100, 200, None]
    assert pages[0].entries[0].title == "Paper 0"
    assert pages[0].total == 250


def test_a_search_begins_where_an_earlier_one_stopped(outside: Outside, there: StandIn) -> None:
    there.papers = many(150)
    first = next(iter(arxiv.search(outside, ["cs.CV"])))
    rest = list(arxiv.search(outside, ["cs.CV"], first.after))
    assert [entry.title for entry in rest[0].entries] == [f"Paper {number}" for number in range(100, 150)]


def test_a_deep_search_begins_anew_with_what_is_older(
    outside: Outside, there: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arxiv, "DEEPEST", 200)
    there.papers = many(450)
    pages = list(arxiv.search(outside, ["cs.CV"]))
    assert {entry.arxiv for page in pages for entry in page.entries} == {paper.arxiv for paper in there.papers}
    assert all("start=200" not in request for request in there.requests)


def test_only_the_categories_are_searched(outside: Outside, there: StandIn) -> None:
    there.papers = [StandInPaper("2511.00001"), StandInPaper("2511.00002", categories=("math.OC",))]
    (page,) = arxiv.search(outside, ["cs.CV", "cs.CL"])
    assert [entry.arxiv for entry in page.entries] == ["2511.00001"]


@pytest.mark.parametrize("category", ["cs.CV) OR (ti:x", "", "c", "cs.CV&start=7", "http://x"])
def test_a_category_cannot_carry_more(outside: Outside, there: StandIn, category: str) -> None:
    with pytest.raises(DataError, match="is no arXiv category"):
        next(arxiv.search(outside, [category]))
    assert there.requests == []


def test_no_category_is_refused(outside: Outside) -> None:
    with pytest.raises(DataError, match="no arXiv category"):
        next(arxiv.search(outside, []))


@pytest.mark.parametrize("lacks", ["title", "id", "date"])
def test_an_entry_that_lacks_something_is_refused_and_the_others_are_kept(
    outside: Outside, there: StandIn, lacks: str
) -> None:
    there.papers = [*many(2), StandInPaper("2511.09999", "Odd", lacks=lacks)]
    (page,) = arxiv.search(outside, ["cs.CV"])
    assert len(page.entries) == 2
    (line,) = page.refused
    said = {"id": "no arXiv identifier", "title": "no title", "date": "no date"}[lacks]
    assert f"it has {said}" in line
    assert line.startswith("arXiv, paper ")


@pytest.mark.parametrize("fault", ["truncated", "html", "busy", "empty", "address"])
def test_an_answer_that_is_none_is_asked_for_again(outside: Outside, there: StandIn, fault: str) -> None:
    there.papers = many(5)
    there.fail(fault)  # type: ignore[arg-type]
    (page,) = arxiv.search(outside, ["cs.CV"])
    assert len(page.entries) == 5
    assert len(there.requests) == 2  # an address that comes as an answer is not followed either


@pytest.mark.parametrize("fault", ["truncated", "html", "busy", "address"])
def test_answers_that_stay_unreadable_are_one_line(outside: Outside, there: StandIn, fault: str) -> None:
    there.papers = many(5)
    there.fail(fault, 9)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=r"^127\.0\.0\.1: (answers|is asked)"):
        next(arxiv.search(outside, ["cs.CV"]))


def test_an_error_entry_is_an_error_and_no_paper(outside: Outside, there: StandIn) -> None:
    there.fail("error_entry")
    with pytest.raises(SourceError, match="incorrect id format"):
        arxiv.fetch(outside, ["2511.01234"])


def test_a_category_without_papers_is_an_empty_page(outside: Outside, there: StandIn) -> None:
    (page,) = arxiv.search(outside, ["cs.CV"])
    assert (page.entries, page.after, page.total) == ([], None, 0)


def test_every_category_has_a_plain_word() -> None:
    assert all(word == word.lower() and " " not in word for word in arxiv.TASKS.values())
    assert len(set(itertools.chain(arxiv.TASKS))) == len(arxiv.TASKS)
