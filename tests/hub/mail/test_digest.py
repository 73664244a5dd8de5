"""Digests: who gets one, what is in it, once a day at most, and how it reads."""

from __future__ import annotations

import datetime
import re
import signal
import subprocess
import sys
from datetime import date, timedelta
from functools import partial
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from encore.base import registry
from encore.base.errors import DataError
from encore.hub import digest, papers, subscriptions
from encore.hub.accounts import LINK_LIFE
from encore.hub.database import Database, Mail, Paper, Run, Subscription, Tag, User, Vector
from encore.hub.database.tables import now
from encore.hub.mail import messages, queue
from encore.hub.papers import Entry
from encore.hub.settings import HubSettings
from encore.hub.work.handlers import HANDLERS
from encore.results.locations import published_records
from encore.results.record import read_record
from tests.hub.mail.conftest import subscribe, wait_until

MONDAY = date(2026, 11, 30)
FRIDAY = date(2026, 11, 27)
LONG_AGO = datetime.datetime(2026, 10, 1, tzinfo=datetime.UTC)


queue_digests = partial(digest.queue_digests, today=date(9999, 12, 31))
"""Days of these tests may be still to come."""


def add_paper(database: Database, title: str, day: date, votes: int = 0, **given: Any) -> Paper:
    fields = {"source": "json", "abstract": f"About {title}.", "authors": ["Ada Lovelace", "Charles Babbage"], **given}
    with database.writing() as transaction:
        return papers.put(transaction, Entry(title, listed_on=day, outside_votes=votes, **fields))[0]


def add_run(database: Database, finished: date, slug: str = "segnet", **given: Any) -> Run:
    record = read_record(published_records() / slug).model_dump(mode="json")
    moment = datetime.datetime.combine(finished, datetime.time(12), datetime.UTC)
    run = Run(**{"slug": slug, "scale": "laptop", "state": "done", "finished": moment, "record": record, **given})
    with database.writing() as transaction:
        transaction.add(run)
    return run


def mails(database: Database) -> list[Mail]:
    with database.reading() as transaction:
        return list(transaction.scalars(select(Mail).order_by(Mail.id)))


def titles(mail: Mail) -> list[str]:
    return re.findall(r"^ *\d+\. (.*)$", mail.text, re.MULTILINE)


def test_a_daily_digest_tells_of_the_day_before(database: Database, settings: HubSettings) -> None:
    for name, days, votes in (("Two days ago", 2, 90), ("Less", 1, 2), ("More", 1, 9), ("Today", 0, 90)):
        add_paper(database, name, FRIDAY - timedelta(days), votes)
    subscription = subscribe(database, confirmed=LONG_AGO)
    assert queue_digests(database, settings, FRIDAY) == digest.DigestReport(1, 1, 0)
    (mail,) = mails(database)
    assert titles(mail) == ["More", "Less"]
    assert (mail.recipient, mail.once, mail.kind) == (
        "ada@example.org",
        f"digest:{subscription.id}:2026-11-27",
        "digest",
    )
    assert mail.subject == "Daily Papers, 27 November: More +1"


def test_a_digest_goes_out_once_a_day(database: Database, settings: HubSettings) -> None:
    add_paper(database, "One", FRIDAY - timedelta(1))
    subscribe(database, confirmed=LONG_AGO)
    queue_digests(database, settings, FRIDAY)
    assert queue_digests(database, settings, FRIDAY) == digest.DigestReport(0, 0, 0)
    with database.writing() as transaction:  # as if it had ended, and begun again on the same day
        transaction.scalars(select(Subscription)).one().last_day = None
    assert queue_digests(database, settings, FRIDAY).queued == 0
    assert len(mails(database)) == 1


def test_nothing_new_is_no_mail(database: Database, settings: HubSettings) -> None:
    subscribe(database, confirmed=LONG_AGO)
    assert queue_digests(database, settings, FRIDAY) == digest.DigestReport(1, 0, 1)
    assert mails(database) == []
    with database.reading() as transaction:
        assert transaction.scalars(select(Subscription)).one().last_day == FRIDAY


def test_a_day_that_is_still_to_come_is_refused_and_silences_nobody(database: Database, settings: HubSettings) -> None:
    add_paper(database, "One", FRIDAY - timedelta(1))
    subscribe(database, confirmed=LONG_AGO)
    with pytest.raises(DataError, match="2026-11-28 is still to come: name 2026-11-27 or a day before"):
        digest.queue_digests(database, settings, FRIDAY + timedelta(1), today=FRIDAY)
    with pytest.raises(DataError, match="is still to come"):
        digest.queue_digests(database, settings, now().date() + timedelta(1))
    assert digest.queue_digests(database, settings, FRIDAY, today=FRIDAY).queued == 1


def test_a_digest_that_still_waits_gives_way_to_the_next_which_tells_of_its_days_too(
    database: Database, settings: HubSettings
) -> None:
    for days in range(5):
        add_paper(database, f"{days} days ago", FRIDAY - timedelta(days))
    subscription = subscribe(database, confirmed=LONG_AGO)
    subscribe(database, "bob@example.org", confirmed=LONG_AGO, last_day=FRIDAY - timedelta(1))
    for days in (2, 1, 0):
        queue_digests(database, settings, FRIDAY - timedelta(days))
    of_ada = [mail for mail in mails(database) if mail.subscription_id == subscription.id]
    assert [mail.state for mail in of_ada] == ["failed", "failed", "queued"]
    assert {(mail.error, mail.text, mail.html) for mail in of_ada[:2]} == {(queue.REPLACED, "", None)}
    assert [mail.once for mail in of_ada] == [f"digest:{subscription.id}:2026-11-{day}" for day in (25, 26, 27)]
    assert sorted(titles(of_ada[-1])) == ["1 days ago", "2 days ago", "3 days ago"]
    (of_bob,) = (mail for mail in mails(database) if mail.subscription_id != subscription.id)
    assert titles(of_bob) == ["1 days ago"]


def test_a_job_for_digests_of_a_day_that_is_past_does_nothing_when_those_of_the_next_are_due(
    database: Database, settings: HubSettings
) -> None:
    settings = settings.model_copy(update={"digest_hour": 0})
    today = now().date()
    add_paper(database, "Two days ago", today - timedelta(2))
    add_paper(database, "Yesterday", today - timedelta(1))
    subscribe(database, confirmed=LONG_AGO)
    for day in (today - timedelta(1), today):
        HANDLERS["digest"](database, settings, {"day": day.isoformat()})
    assert [titles(mail) for mail in mails(database)] == [["Yesterday"]]


def test_days_on_which_the_hub_stood_still_are_caught_up(database: Database, settings: HubSettings) -> None:
    subscribe(database, confirmed=LONG_AGO, last_day=FRIDAY - timedelta(3))
    for days in range(5):
        add_paper(database, f"{days} days ago", FRIDAY - timedelta(days))
    queue_digests(database, settings, FRIDAY)
    assert sorted(titles(mails(database)[0])) == ["1 days ago", "2 days ago", "3 days ago"]


def test_a_weekly_digest_comes_on_mondays(database: Database, settings: HubSettings) -> None:
    for days in (1, 7, 8):
        add_paper(database, f"{days} days ago", MONDAY - timedelta(days))
    subscribe(database, frequency="weekly", confirmed=datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC))
    assert queue_digests(database, settings, MONDAY - timedelta(1)).due == 0
    assert queue_digests(database, settings, MONDAY).queued == 1
    assert titles(mails(database)[0]) == ["1 days ago", "7 days ago"]
    for day in range(1, 7):
        assert queue_digests(database, settings, MONDAY + timedelta(day)).due == 0
    assert queue_digests(database, settings, MONDAY + timedelta(7)).due == 1


def test_a_missed_monday_is_caught_up(database: Database, settings: HubSettings) -> None:
    subscribe(database, frequency="weekly", confirmed=LONG_AGO, last_day=MONDAY - timedelta(7))
    assert queue_digests(database, settings, MONDAY + timedelta(2)).due == 1
    assert queue_digests(database, settings, MONDAY + timedelta(7)).due == 1


def test_only_who_confirmed_and_has_not_ended_gets_one(database: Database, settings: HubSettings) -> None:
    add_paper(database, "One", FRIDAY - timedelta(1))
    subscribe(database, "new@example.org", confirmed=None)
    subscribe(database, "ended@example.org", ended=LONG_AGO)
    assert queue_digests(database, settings, FRIDAY).due == 0


def test_digests_wait_for_their_hour(settings: HubSettings) -> None:
    hour = datetime.datetime(2026, 11, 27, settings.digest_hour, tzinfo=datetime.UTC)
    assert digest.day_due(settings, hour) == FRIDAY
    assert digest.day_due(settings, hour - timedelta(minutes=1)) is None


def test_a_search_without_an_index_wants_every_word(database: Database, settings: HubSettings) -> None:
    add_paper(database, "Masked image modelling", FRIDAY - timedelta(1))
    add_paper(database, "Masked language modelling", FRIDAY - timedelta(1))
    add_paper(database, "100 % of images", FRIDAY - timedelta(1))
    subscribe(database, kind="search", value="IMAGE masked", confirmed=LONG_AGO)
    subscribe(database, "bob@example.org", kind="search", value="100 %", confirmed=LONG_AGO)
    queue_digests(database, settings, FRIDAY)
    assert [titles(mail) for mail in mails(database)] == [["Masked image modelling"], ["100 % of images"]]


def test_a_search_asks_the_index_that_is_given(database: Database, settings: HubSettings) -> None:
    found = add_paper(database, "By meaning", FRIDAY - timedelta(1))
    asked: list[tuple[str, date, date]] = []

    def find(text: str, first: date, last: date) -> list[Paper]:
        asked.append((text, first, last))
        return [found]

    for name in ("ada", "bob"):
        subscribe(database, f"{name}@example.org", kind="search", value="words", confirmed=LONG_AGO)
    queue_digests(database, settings, FRIDAY, find=find)
    assert asked == [("words", FRIDAY - timedelta(1), FRIDAY - timedelta(1))]
    assert [titles(mail) for mail in mails(database)] == [["By meaning"]] * 2


def test_a_tag_brings_tagged_papers_and_ones_like_them(database: Database, settings: HubSettings) -> None:
    yesterday = FRIDAY - timedelta(1)
    old, tagged, near, far = (
        add_paper(database, name, day)
        for name, day in (("Old", LONG_AGO.date()), ("Tagged", yesterday), ("Near", yesterday), ("Far", yesterday))
    )
    user = User(email="ada@example.org", name="ada")
    with database.writing() as transaction:
        transaction.add(user)
        transaction.flush()
        transaction.add_all(Tag(user_id=user.id, paper_id=one.id, tag="mine") for one in (old, tagged))
        for paper, numbers in ((old, (1, 0)), (tagged, (1, 0)), (near, (0.8, 0.6)), (far, (0, 1))):
            content = np.array(numbers, dtype=np.float16).tobytes()
            transaction.add(Vector(paper_id=paper.id, model="lsa", content=content, digest=""))
    subscribe(database, kind="tag", value="mine", user_id=user.id, confirmed=LONG_AGO)
    queue_digests(database, settings, FRIDAY)
    assert titles(mails(database)[0]) == ["Tagged", "Near"]
    assert mails(database)[0].text.count("like what you tagged") == 1


def test_new_verdicts_come_with_their_numbers(database: Database, settings: HubSettings) -> None:
    with database.writing() as transaction:
        for entry in papers.entries_of_cards([registry.card("segnet"), registry.card("spark")]):
            papers.put(transaction, entry)
    add_run(database, FRIDAY - timedelta(1))
    add_run(database, FRIDAY)
    add_run(database, FRIDAY - timedelta(1), "spark", state="failed")
    add_run(database, FRIDAY - timedelta(1), "spark", scale="smoke", record={"nonsense": 1})
    subscribe(database, confirmed=LONG_AGO)
    subscribe(database, "bob@example.org", kind="search", value="no such thing", confirmed=LONG_AGO)
    assert queue_digests(database, settings, FRIDAY) == digest.DigestReport(2, 1, 1)
    (mail,) = mails(database)
    claims = read_record(published_records() / "segnet").claims
    assert "NEW VERDICTS" in mail.text
    assert f"{sum(claim.holds is True for claim in claims)} hold" in mail.text
    assert "laptop scale" in mail.text
    assert "Designing" not in mail.text  # SparK's
    queue_digests(database, settings, FRIDAY + timedelta(1))
    assert len(mails(database)) == 2


def test_a_digest_can_be_left_by_one_click(database: Database, settings: HubSettings) -> None:
    settings = settings.model_copy(update={"base_url": "https://papers.example.org"})
    add_paper(database, "One", FRIDAY - timedelta(1))
    subscribe(database, confirmed=LONG_AGO)
    queue_digests(database, settings, FRIDAY)
    (mail,) = mails(database)
    link = mail.headers["List-Unsubscribe"].strip("<>")
    assert link.startswith("https://papers.example.org/unsubscribe/")
    assert mail.headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail.headers["List-Id"] == "<digest.localhost>"
    assert link in mail.text
    assert mail.html is not None
    assert link in mail.html
    assert subscriptions.unsubscribe(database, settings, link.rpartition("/")[2]) is not None


def _count_mails(database: Database) -> int:
    with database.reading() as transaction:
        return transaction.scalar(select(func.count(Mail.id))) or 0


_QUEUER = """
import datetime, sys
from encore.hub.database import Database
from encore.hub.digest import queue_digests
from encore.hub.settings import HubSettings
from encore.hub.work.handlers import HANDLERS
settings = HubSettings.model_validate_json(sys.argv[1])
queue_digests(Database(settings.database_url), settings, datetime.date(2026, 11, 27))
"""


def test_a_kill_while_digests_are_queued_loses_none_and_doubles_none(database: Database, settings: HubSettings) -> None:
    add_paper(database, "One", FRIDAY - timedelta(1))
    with database.writing() as transaction:
        transaction.add_all(
            Subscription(email=f"reader{index}@example.org", confirmed=LONG_AGO) for index in range(100)
        )
    process = subprocess.Popen([sys.executable, "-c", _QUEUER, settings.model_dump_json()])
    wait_until(lambda: _count_mails(database) > 5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 5 < len(mails(database)) < 100
    queue_digests(database, settings, FRIDAY)
    assert sorted(mail.recipient for mail in mails(database)) == sorted(f"reader{i}@example.org" for i in range(100))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_html_is_escaped_and_loads_nothing(database: Database, settings: HubSettings) -> None:
    nasty = "<script>alert(1)</script> <img src=x> \"quoted\" & 'so'"
    add_paper(database, nasty, FRIDAY - timedelta(1), abstract=nasty, authors=[nasty], organisation=nasty)
    rendered = digest.preview(database, settings, FRIDAY, kind="search", value="script")
    assert rendered is not None
    reader = _Reader()
    reader.feed(rendered.html)
    assert {tag for tag, _ in reader.tags} & {"script", "img", "link", "iframe", "object", "svg"} == set()
    assert all(not {"src", "background", "srcset"} & set(attributes) for _, attributes in reader.tags)
    assert "url(" not in rendered.html
    assert all(
        (attributes["href"] or "").startswith(settings.base_url) for tag, attributes in reader.tags if tag == "a"
    )
    assert nasty in " ".join(rendered.text.split())


def test_a_title_with_control_characters_makes_a_subject_all_the_same(
    database: Database, settings: HubSettings
) -> None:
    add_paper(database, "Bell\x07 and\u2028 breaks\x85", FRIDAY - timedelta(1))
    subscribe(database, confirmed=LONG_AGO)
    queue_digests(database, settings, FRIDAY)
    assert mails(database)[0].subject == "Daily Papers, 27 November: Bell and breaks"


def test_text_keeps_to_72_columns(database: Database, settings: HubSettings) -> None:
    for index in range(25):
        add_paper(database, f"A rather long title of paper number {index} " * 3, FRIDAY - timedelta(1), index,
                  abstract="Some words of a summary. " * 30, organisation="An institute with a long name")  # fmt: skip
    rendered = digest.preview(database, settings, FRIDAY)
    assert rendered is not None
    assert max(len(line) for line in rendered.text.splitlines() if "http" not in line) <= messages.WIDTH
    assert len(re.findall(r"^ *\d+\. ", rendered.text, re.MULTILINE)) == digest.MOST_PAPERS
    assert "\n\n\n\n" not in rendered.text


def test_a_preview_of_nothing_is_none_and_queues_nothing(database: Database, settings: HubSettings) -> None:
    assert digest.preview(database, settings, FRIDAY) is None
    add_paper(database, "One", FRIDAY - timedelta(1))
    assert digest.preview(database, settings, FRIDAY) is not None
    assert mails(database) == []


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (messages.Days(FRIDAY, FRIDAY), "27 November 2026"),
        (messages.Days(date(2026, 11, 23), date(2026, 11, 29)), "23–29 November 2026"),
        (messages.Days(date(2026, 11, 28), date(2026, 12, 4)), "28 November – 4 December 2026"),
        (messages.Days(date(2026, 12, 28), date(2027, 1, 3)), "28 December 2026 – 3 January 2027"),
    ],
)
def test_days_in_words(days: messages.Days, words: str) -> None:
    assert days.words == words


def test_the_link_to_sign_in_is_in_both_forms(settings: HubSettings) -> None:
    subject, text, html = messages.sign_in(settings, "http://127.0.0.1:8000/sign-in/TOKEN")
    assert subject == "Sign in to Daily Papers"
    assert "http://127.0.0.1:8000/sign-in/TOKEN\n" in text
    assert f"{LINK_LIFE.seconds // 60} minutes" in text
    assert 'href="http://127.0.0.1:8000/sign-in/TOKEN"' in html
