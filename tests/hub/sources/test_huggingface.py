"""Hugging Face's daily papers: what an item says, and what is refused."""

from __future__ import annotations

import datetime
import json

import pytest

from encore.hub.database.tables import now
from encore.hub.sources import huggingface
from encore.hub.sources.client import Outside, SourceError
from tests.hub.sources.stand_in import StandIn, StandInPaper

DAY = datetime.date(2026, 11, 20)


def test_an_item_says_all_that_hugging_face_says(outside: Outside, there: StandIn) -> None:
    there.papers = [
        StandInPaper(
            "2611.01234",
            "Title\nin two lines &amp; more",
            on=DAY,
            upvotes=42,
            github="https://github.com/a/b",
            organisation="Some Lab",
            submitted=datetime.datetime(2026, 11, 18, 23, 59, tzinfo=datetime.UTC),
        ),
        StandInPaper("2611.01235", on=DAY - datetime.timedelta(days=1)),
    ]
    reading = huggingface.daily(outside, DAY)
    (entry,) = reading.entries
    assert reading.refused == []
    assert entry.title == "Title in two lines & more"
    assert (entry.listed_on, entry.published) == (DAY, datetime.date(2026, 11, 18))
    assert (entry.outside_votes, entry.organisation) == (42, "Some Lab")
    assert (entry.arxiv, entry.code_url) == ("2611.01234", "https://github.com/a/b")
    assert entry.authors == ["Ada Lovelace", "Charles Babbage"]


def test_a_malformed_item_is_named_and_the_others_are_kept(outside: Outside, there: StandIn) -> None:
    there.papers = [
        StandInPaper("2611.00001", on=DAY),
        StandInPaper("2611.00002", "Odd", on=DAY, lacks="title"),
        StandInPaper("2611.00003", "Odder", on=DAY, lacks="id"),
        StandInPaper("2611.00004", "Oddest", on=DAY, lacks="date"),
        StandInPaper("2611.00005", on=DAY, upvotes=-3),
    ]
    reading = huggingface.daily(outside, DAY)
    assert [entry.arxiv for entry in reading.entries] == ["2611.00001"]
    assert [line.split(":")[0] for line in reading.refused] == [
        "Hugging Face 2026-11-20, paper 2 (2611.00002)",
        "Hugging Face 2026-11-20, paper 3 (Odder)",
        "Hugging Face 2026-11-20, paper 4 (2611.00004)",
        "Hugging Face 2026-11-20, paper 5 (2611.00005)",
    ]
    assert all("\n" not in line for line in reading.refused)


@pytest.mark.parametrize("item", [None, 3, "text", [], {}, {"paper": None}, {"paper": []}, {"paper": {"id": [1]}}])
def test_whatever_comes_as_an_item_is_refused_by_number(
    outside: Outside, there: StandIn, item: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.hub.sources.stand_in._daily", lambda *_: json.dumps([item]).encode())
    reading = huggingface.daily(outside, DAY)
    assert reading.entries == []
    assert len(reading.refused) == 1
    assert "paper 1" in reading.refused[0]


def test_an_address_that_is_none_is_left_out(outside: Outside, there: StandIn) -> None:
    there.papers = [StandInPaper("2611.00001", on=DAY, github="javascript:alert(1)")]
    assert huggingface.daily(outside, DAY).entries[0].code_url is None


def test_a_day_without_papers_is_empty(outside: Outside) -> None:
    assert huggingface.daily(outside, DAY) == ([], [])


def test_a_day_to_come_is_not_asked_for(outside: Outside, there: StandIn) -> None:
    assert huggingface.daily(outside, now().date() + datetime.timedelta(days=2)).entries == []
    assert there.requests == []


def test_a_day_that_is_not_open_yet_is_empty(outside: Outside, there: StandIn) -> None:
    there.fail("not_open")
    assert huggingface.daily(outside, now().date()).entries == []


def test_a_refusal_of_an_old_day_is_an_error(outside: Outside, there: StandIn) -> None:
    there.fail("not_open")
    with pytest.raises(SourceError, match="answers 400"):
        huggingface.daily(outside, DAY - datetime.timedelta(days=400))


@pytest.mark.parametrize("fault", ["html", "truncated"])
def test_what_is_no_json_is_asked_for_again(outside: Outside, there: StandIn, fault: str) -> None:
    there.papers = [StandInPaper("2611.00001", on=DAY)]
    there.fail(fault)  # type: ignore[arg-type]
    assert len(huggingface.daily(outside, DAY).entries) == 1
    there.fail(fault, 9)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="no JSON"):
        huggingface.daily(outside, DAY)
