"""Imports: the same twice changes nothing, and one that was interrupted goes on."""

from __future__ import annotations

import datetime
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select

from encore.base.errors import ConfigurationError, DataError, UnknownNameError
from encore.base.progress import SilentProgress
from encore.base.registry import list_papers
from encore.hub.database import Database, Job, Paper, SourceState
from encore.hub.database.tables import now
from encore.hub.settings import HubSettings
from encore.hub.sources import arxiv
from encore.hub.sources.client import Patience, SourceError
from encore.hub.sources.importing import ImportReport, import_papers, import_submission
from tests.hub.sources.stand_in import StandIn, StandInPaper

TODAY = now().date()


class Hub:
    """A database, and imports into it."""

    def __init__(self, database: Database, settings: HubSettings, patience: Patience) -> None:
        self.database, self.settings, self.patience = database, settings, patience

    def take(self, source: str, argument: str | None = None, **more: object) -> ImportReport:
        return import_papers(
            self.database,
            self.settings,
            source,
            argument,
            progress=SilentProgress(),
            patience=self.patience,
            **more,  # type: ignore[arg-type]
        )

    def paper(self, arxiv: str) -> Paper:
        with self.database.reading() as transaction:
            return transaction.scalars(select(Paper).where(Paper.arxiv == arxiv)).one()

    def count(self) -> int:
        with self.database.reading() as transaction:
            return transaction.scalar(select(func.count()).select_from(Paper)) or 0

    def jobs(self) -> list[str]:
        with self.database.reading() as transaction:
            return list(transaction.scalars(select(Job.kind)))


@pytest.fixture
def hub(
    emptied_database: Database, tmp_path: Path, there: StandIn, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> Hub:
    monkeypatch.setattr(arxiv, "PAGE", 10)
    settings = HubSettings(folder=tmp_path / "hub", secret="s" * 40, arxiv_seconds=0)
    return Hub(emptied_database, there.settings(settings), patience)


def recent(count: int, first: int = 0) -> list[StandInPaper]:
    """Papers of the last minutes, one a minute, the newest first."""
    moment = datetime.datetime.combine(TODAY, datetime.time(), datetime.UTC)
    return [
        StandInPaper(
            f"2611.{number % 100_000:05}", f"Paper {number}", submitted=moment - datetime.timedelta(minutes=number)
        )
        for number in range(first, first + count)
    ]


def test_the_cards_are_imported_once(hub: Hub) -> None:
    cards = len(list_papers())
    assert hub.take("cards") == ImportReport("cards", cards, cards, 0, ())
    assert hub.take("cards") == ImportReport("cards", cards, 0, 0, ())
    assert hub.jobs() == ["index"]


def test_an_import_from_arxiv_goes_back_a_week_and_then_to_what_is_known(hub: Hub, there: StandIn) -> None:
    old = StandInPaper(
        "2601.00001", submitted=datetime.datetime.combine(TODAY, datetime.time(), datetime.UTC) - datetime.timedelta(30)
    )
    there.papers = [*recent(12), old]
    assert hub.take("arxiv", "cs.CV").new == 13  # the page on which the week ends is read to its end
    asked = len(there.requests)
    there.papers += recent(5, first=-5)
    again = hub.take("arxiv", "cs.CV")
    assert (again.new, again.changed) == (5, 0)
    assert len(there.requests) - asked == 2
    assert hub.take("arxiv", "cs.CV").new == 0


def test_an_import_from_arxiv_goes_on_after_a_failure(hub: Hub, there: StandIn) -> None:
    there.papers = recent(35)
    there.faults = [("", 0.0), ("", 0.0), *[("broken", 0.0)] * 9]  # type: ignore[list-item]
    with pytest.raises(SourceError, match="answers 500"):
        hub.take("arxiv", "cs.CV")
    assert hub.count() == 20
    there.faults.clear()
    there.papers += recent(12, first=-12)  # meanwhile
    there.requests.clear()
    report = hub.take("arxiv", "cs.CV")
    assert "start=20" in there.requests[0]
    assert (report.new, hub.count()) == (27, 47)
    with hub.database.reading() as transaction:
        (state,) = transaction.scalars(select(SourceState))
    assert state.content["finished"] == TODAY.isoformat()
    assert "position" not in state.content


def test_a_limit_is_kept_and_leaves_no_trace(hub: Hub, there: StandIn) -> None:
    there.papers = recent(15)
    assert hub.take("arxiv", "cs.CV", limit=4).seen == 4
    assert hub.take("arxiv", "cs.CV", limit=4) == ImportReport("arxiv", 4, 0, 0, ())
    assert hub.take("arxiv", "cs.CV").new == 11


def test_an_import_with_a_limit_goes_on_after_a_failure_and_reads_no_more_than_that(hub: Hub, there: StandIn) -> None:
    there.papers = recent(45)
    there.faults = [("", 0.0), ("", 0.0), *[("broken", 0.0)] * 9]  # type: ignore[list-item]
    with pytest.raises(SourceError, match="answers 500"):
        hub.take("arxiv", "cs.CV", limit=33)
    assert hub.count() == 20
    there.faults.clear()
    there.requests.clear()
    report = hub.take("arxiv", "cs.CV", limit=33)
    assert "start=20" in there.requests[0]
    assert (report.seen, report.new, hub.count()) == (13, 13, 33)
    assert hub.take("arxiv", "cs.CV", limit=33) == ImportReport("arxiv", 33, 0, 0, ())
    with hub.database.reading() as transaction:
        assert transaction.scalars(select(SourceState)).all() == []


def test_an_import_with_a_limit_that_was_interrupted_long_ago_begins_anew(hub: Hub, there: StandIn) -> None:
    there.papers = recent(45)
    there.faults = [("", 0.0), ("", 0.0), *[("broken", 0.0)] * 9]  # type: ignore[list-item]
    with pytest.raises(SourceError):
        hub.take("arxiv", "cs.CV", limit=33)
    there.faults.clear()
    there.requests.clear()
    with hub.database.writing() as transaction:
        transaction.scalars(select(SourceState)).one().changed = now() - datetime.timedelta(days=2)
    assert hub.take("arxiv", "cs.CV", limit=33).seen == 33
    assert "start=0" in there.requests[0]


def test_a_day_in_the_past_may_be_asked_for(hub: Hub, there: StandIn) -> None:
    there.papers = recent(3)
    for number in range(20):
        there.papers.append(
            StandInPaper(
                f"2510.{number:05}",
                f"Old {number}",
                submitted=datetime.datetime(2025, 10, 1 + number, tzinfo=datetime.UTC),
            )
        )
    assert hub.take("arxiv", "cs.CV", since=datetime.date(2025, 10, 1)).new == 23


def test_a_new_version_changes_a_paper_and_an_old_one_does_not(hub: Hub, there: StandIn) -> None:
    there.papers = recent(1)
    hub.take("arxiv", "cs.CV")
    there.papers[0].version, there.papers[0].title = 2, "Paper 0, revised"
    assert hub.take("arxiv", "cs.CV").changed == 1
    assert (hub.paper("2611.00000").version, hub.paper("2611.00000").title) == (2, "Paper 0, revised")
    there.papers[0].version, there.papers[0].title = 1, "Paper 0"
    assert hub.take("arxiv", "cs.CV").changed == 0


def test_a_withdrawn_paper_is_not_added_and_a_known_one_says_so(hub: Hub, there: StandIn) -> None:
    there.papers = recent(2)
    there.papers[1].comment = "This paper has been withdrawn by the authors"
    report = hub.take("arxiv", "cs.CV")
    assert report.refused == ("arxiv, '2611.00001': it was withdrawn by its authors",)
    there.papers[0].comment, there.papers[0].version = "Withdrawn: wrong proof", 2
    assert hub.take("arxiv", "cs.CV").changed == 1
    assert hub.paper("2611.00000").abstract.startswith("Withdrawn. Withdrawn: wrong proof")


def test_hugging_face_gives_its_day_and_votes_and_arxiv_keeps_them(hub: Hub, there: StandIn) -> None:
    there.papers = recent(1)
    hub.take("arxiv", "cs.CV")
    there.papers[0].on, there.papers[0].upvotes = TODAY - datetime.timedelta(days=1), 7
    there.papers[0].submitted -= datetime.timedelta(days=3)
    for _ in range(2):
        hub.take("huggingface")
        hub.take("arxiv", "cs.CV")
        assert hub.paper("2611.00000").listed_on == TODAY - datetime.timedelta(days=1)
        assert hub.paper("2611.00000").outside_votes == 7
    assert hub.take("huggingface").changed == hub.take("arxiv", "cs.CV").changed == 0
    there.papers[0].upvotes = 9
    assert hub.take("huggingface").changed == 1


def test_days_of_hugging_face_may_be_named(hub: Hub, there: StandIn) -> None:
    there.papers = [
        StandInPaper(f"2611.{number:05}", f"Paper {number}", on=TODAY - datetime.timedelta(days=number))
        for number in range(6)
    ]
    assert hub.take("huggingface", (TODAY - datetime.timedelta(days=5)).isoformat()).new == 1
    assert hub.take("huggingface").new == 3
    assert hub.take("huggingface", since=TODAY - datetime.timedelta(days=5)).new == 2
    with pytest.raises(DataError, match="is no day"):
        hub.take("huggingface", "yesterday")


def test_what_a_file_says_twice_does_not_change_back_and_forth(hub: Hub, tmp_path: Path) -> None:
    file = tmp_path / "a.bib"
    file.write_text(
        "@misc{a, title={A Title}, author={X Y}, year=2020, abstract={one}}\n"
        "@misc{b, title={A {T}itle}, author={Y, X}, year=2021, abstract={two}, doi={10.1234/x}}\n@misc{c, title={C}}"
    )
    first, second = hub.take("auto", str(file)), hub.take("auto", str(file))
    assert (first.source, first.seen, first.new, first.changed) == ("bibtex", 2, 1, 0)
    assert (second.new, second.changed) == (0, 0)
    assert second.refused == ("a.bib, line 3 (c): it has neither date nor year",)


def test_a_folder_and_files_are_known_by_what_they_are(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps({"title": "One", "published": "2026-11-20"}))
    (tmp_path / "a.csv").write_text("title,year\nTwo,2020\nThree,9999\n")
    (tmp_path / "a.ris").write_text("TY  - JOUR\nTI  - Four\nPY  - 2020\nER  - \n")
    assert hub.take("auto", str(tmp_path)).source == "json"
    assert hub.take("auto", str(tmp_path / "a.csv")).refused == ("csv, 'Three': it is dated 9999-01-01",)
    assert hub.take("auto", str(tmp_path / "a.ris")).new == 1
    assert hub.count() == 3


def test_a_wrong_source_or_argument_is_one_line(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'arxiv'"):
        hub.take("arxive")
    with pytest.raises(ConfigurationError, match="is no bibliography"):
        hub.take("auto", str(tmp_path / "a.pdf"))
    with pytest.raises(ConfigurationError, match="needs a file"):
        hub.take("bibtex")
    with pytest.raises(DataError, match="no arXiv category"):
        hub.take("arxiv")


def test_a_submission_is_fetched_once(hub: Hub, there: StandIn) -> None:
    there.papers = [StandInPaper("2511.01234"), StandInPaper("2511.00009", comment="withdrawn")]
    assert import_submission(hub.database, hub.settings, "https://arxiv.org/abs/2511.01234v1") == "2511.01234"
    assert import_submission(hub.database, hub.settings, "arXiv:2511.01234") == "2511.01234"
    assert len(there.requests) == 1
    assert hub.jobs() == ["index"]
    with pytest.raises(DataError, match=r"has no paper 2511\.99999"):
        import_submission(hub.database, hub.settings, "2511.99999")
    with pytest.raises(DataError, match="withdrawn"):
        import_submission(hub.database, hub.settings, "2511.00009")
    with pytest.raises(DataError, match="is no arXiv identifier"):
        import_submission(hub.database, hub.settings, "http://127.0.0.1:22/2511.01234")


def test_letters_that_databases_refuse_are_left_out(hub: Hub, tmp_path: Path) -> None:
    odd = "Nul \x00 bell \x07 e\u0301 end"
    (tmp_path / "a.json").write_text(
        json.dumps(
            {
                "title": odd,
                "abstract": odd,
                "authors": [odd],
                "organisation": odd * 99,
                "published": "2026-11-20",
                "tasks": [odd],
            }
        )
    )
    assert hub.take("json", str(tmp_path)).new == 1
    with hub.database.reading() as transaction:
        assert transaction.scalars(select(Paper)).one().title == "Nul bell é end"


def test_halves_of_letters_are_refused(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"title": "half \\ud800", "published": "2026-11-20"}')
    (refused,) = hub.take("json", str(tmp_path)).refused
    assert refused.startswith("a.json, paper 1")


def test_imports_that_begin_at_once_wait_for_each_other(hub: Hub) -> None:
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: hub.take("cards"), range(4)))
    assert sum(report.new for report in reports) == hub.count() == len(list_papers())
    assert hub.jobs() == ["index"]
