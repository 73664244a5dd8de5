"""Pages and feeds show what is there, with and without filters."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable

import feedparser
import pytest
from fastapi.testclient import TestClient

from encore.base import registry
from encore.hub.database import Database
from encore.hub.papers import Entry, put
from encore.hub.settings import HubSettings
from encore.hub.web.app import create_app
from tests.hub.web.conftest import form_token

PAGES = (
    "/", "/new", "/month/2021-11", "/week/2021-W47", "/day/2021-11-22", "/search?q=trees", "/search", "/sign-in",
    "/subscribe", "/submit", "/runs", "/about", "/papers/2111.11632", "/papers/1511.00561",
    "/?performed=1&task=segmentation",
)  # fmt: skip


@pytest.mark.parametrize("address", PAGES)
def test_every_page_is_there_for_whoever_comes(browser: TestClient, address: str) -> None:
    answer = browser.get(address)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_a_fresh_hub_shows_the_papers_of_the_cards(browser: TestClient) -> None:
    page = browser.get("/").text
    cards = registry.cards()
    assert page.count("data-paper>") == len(cards)
    assert "6 hold" in page or "performed" in page


def test_verdicts_stand_beside_what_the_paper_says(browser: TestClient) -> None:
    page = browser.get("/papers/1511.00561").text
    claim = registry.card("segnet").claims[0]
    assert claim.text.replace("'", "&#39;") in page
    assert "holds" in page
    assert "encore fit segnet DATA" in page


def test_a_slug_leads_to_the_paper(browser: TestClient) -> None:
    answer = browser.get("/papers/segnet")
    assert (answer.status_code, answer.headers["location"]) == (308, "/papers/1511.00561")


def test_filters_leave_out(browser: TestClient) -> None:
    page = browser.get("/?task=segmentation&year=2015").text
    assert page.count("data-paper>") == 1
    assert "SegNet" in page


def test_the_newest_day_with_papers_is_found(browser: TestClient) -> None:
    answer = browser.get("/day")
    newest = max(card.date for card in registry.cards().values())
    assert answer.headers["location"] == f"/day/{newest}"


def test_days_lead_to_their_neighbours(browser: TestClient) -> None:
    page = browser.get("/month/2021-11").text
    assert 'href="/month/2021-10"' in page
    assert 'rel="next"' in page


@pytest.mark.parametrize(
    "address", ["/day/2021-02-30", "/week/2021-W99", "/month/x", "/papers/none", "/runs/7", "/nothing"]
)
def test_what_is_not_there_is_said_on_a_page(browser: TestClient, address: str) -> None:
    answer = browser.get(address)
    assert answer.status_code == 404
    assert "<h1>Nothing here</h1>" in answer.text


@pytest.mark.parametrize("address", ["/trending", "/new", "/month/2021-11", "/search"])
def test_every_list_has_feeds(browser: TestClient, address: str) -> None:
    query = "?q=compress" if address == "/search" else ""
    for ending in ("atom", "rss"):
        feed = feedparser.parse(browser.get(f"{address}.{ending}{query}").content)
        assert not feed.bozo
        assert feed.entries
        assert feed.entries[0].link.startswith("http://127.0.0.1:8000/papers/")
    found = json.loads(browser.get(f"{address}.json{query}").content)
    assert found["version"] == "https://jsonfeed.org/version/1.1"
    assert len(found["items"]) == len(feed.entries)


def test_long_lists_have_pages_that_link_on(browser: TestClient, database: Database, settings: HubSettings) -> None:
    with database.writing() as transaction:
        for number in range(70):
            put(transaction, Entry(f"Paper number {number}", "json", listed_on=datetime.date(2026, 1, 1)))
    first = browser.get("/day/2026-01-01").text
    assert first.count("data-paper>") == settings.page_size
    assert 'hx-get="/day/2026-01-01?page=2"' in first
    part = browser.get("/day/2026-01-01?page=3", headers={"hx-request": "true"}).text
    assert part.count("data-paper>") == 10
    assert "<html" not in part
    assert "hx-get" not in part
    assert browser.get("/day/2026-01-01.json?page=2").json()["next_url"].endswith("/day/2026-01-01.json?page=3")


def test_titles_that_xml_cannot_hold_are_cleaned(browser: TestClient, database: Database) -> None:
    with database.writing() as transaction:
        put(transaction, Entry("A \x0b title & <b>more</b>", "json", listed_on=datetime.date(2026, 1, 1)))
    assert not feedparser.parse(browser.get("/day/2026-01-01.atom").content).bozo


def test_answers_of_the_api_are_json_even_when_wrong(browser: TestClient) -> None:
    assert browser.get("/api/v1/papers/none").json() == {
        "detail": "There is no paper 'none' here. You can submit it if it is on arXiv."
    }
    assert browser.get("/api/v1/papers?page=0").status_code == 422
    assert browser.get("/api/v1/papers/segnet").json()["verdicts"]["hold"] > 0
    assert browser.get("/api/v1/claims/segnet").json()["record"]["scale"] == "laptop"


def test_static_files_may_be_kept(browser: TestClient) -> None:
    page = browser.get("/").text
    address = page.split('rel="stylesheet" href="')[1].split('"')[0]
    assert browser.get(address).headers["cache-control"] == "public, max-age=31536000, immutable"


def test_pages_are_remembered_for_those_who_are_not_signed_in(
    settings: HubSettings, database: Database, sign_in: Callable[[str], TestClient]
) -> None:
    remembering = TestClient(create_app(settings.model_copy(update={"remember_seconds": 0.3}), database))
    before = remembering.get("/new")
    with database.writing() as transaction:
        put(transaction, Entry("A paper of today", "json", listed_on=datetime.date.today()))
    assert "A paper of today" not in remembering.get("/new").text
    assert remembering.get("/new").headers["content-security-policy"] == before.headers["content-security-policy"]
    assert "A paper of today" in remembering.get("/new", headers={"hx-request": "true"}).text
    assert "A paper of today" in sign_in("anna@example.org").get("/new").text
    time.sleep(0.35)
    assert "A paper of today" in remembering.get("/new").text


def test_forms_and_errors_are_never_remembered(settings: HubSettings, database: Database) -> None:
    app = create_app(settings.model_copy(update={"remember_seconds": 60}), database)
    tokens = {form_token(TestClient(app).get("/sign-in").text) for _ in range(3)}
    assert len(tokens) == 3
    assert TestClient(app).get("/papers/2601.00001").status_code == 404
    with database.writing() as transaction:
        put(transaction, Entry("Found", "json", arxiv="2601.00001", listed_on=datetime.date(2026, 1, 1)))
    assert TestClient(app).get("/papers/2601.00001").status_code == 200


def test_fields_of_the_filter_may_be_empty(browser: TestClient) -> None:
    for address in ("/?task=&year=&code=1", "/search?q=trees&task=&year="):
        assert browser.get(address).status_code == 200


def test_feeds_of_the_newest_day_are_found(browser: TestClient) -> None:
    answer = browser.get("/day.atom")
    assert answer.headers["location"].endswith(".atom")
    assert browser.get(answer.headers["location"]).status_code == 200
    assert browser.get("/day.exe").status_code in {404, 422}
