"""What readers do, from page to page, on both kinds of database."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import func, select

from encore.hub import accounts, jobs, runs
from encore.hub.database import Database, Job, Paper, Recommendation, Run, Tag, Vote
from encore.hub.settings import HubSettings
from encore.hub.web.app import create_app
from encore.results.locations import published_records
from tests.hub.conftest import empty_database
from tests.hub.web.conftest import form_token

SEGNET = "/papers/1511.00561"
HORNET = "/papers/2207.14284"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    with empty_database(request.param, request, tmp_path) as url:
        yield url


def send(browser: TestClient, address: str, page: str = SEGNET, **fields: str) -> Response:
    """Send a form of a page."""
    return browser.post(address, data={"form_token": form_token(browser.get(page).text), **fields})


def test_a_vote_counts_once_and_can_be_taken_back(
    sign_in: Callable[[str], TestClient], browser: TestClient, database: Database
) -> None:
    anna, berta = sign_in("anna@example.org"), sign_in("berta@example.org")
    for _ in range(2):
        assert send(anna, f"{HORNET}/vote", wanted="1").status_code == 303
    send(berta, f"{HORNET}/vote", wanted="1")
    assert browser.get("/api/v1/papers/hornet").json()["votes"] == 2
    assert browser.get("/api/v1/papers").json()["papers"][0]["slug"] == "hornet"  # it trends now
    send(berta, f"{HORNET}/vote", wanted="0")
    assert browser.get("/api/v1/papers/hornet").json()["votes"] == 1
    with database.reading() as transaction:
        assert transaction.scalar(select(func.count()).select_from(Vote)) == 1


def test_several_links_of_a_new_reader_may_be_used_at_once(settings: HubSettings, database: Database) -> None:
    links = [accounts.make_link(database, settings, "new@example.org").rpartition("/")[2] for _ in range(4)]
    secrets: list[str | None] = []
    threads = [
        threading.Thread(target=lambda link=link: secrets.append(accounts.use_link(database, settings, link)))
        for link in links
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    readers = [accounts.reader_of(database, secret) for secret in secrets if secret]
    assert len({one.id for one in readers if one}) == 1
    assert len(readers) == 4


def test_htmx_gets_the_new_button_alone(reader: TestClient) -> None:
    token = form_token(reader.get(SEGNET).text)
    answer = reader.post(f"{SEGNET}/vote", data={"form_token": token, "wanted": "1"}, headers={"hx-request": "true"})
    assert answer.status_code == 200
    assert 'aria-pressed="true"' in answer.text
    assert "<html" not in answer.text


def test_many_votes_at_once_are_all_counted(
    sign_in: Callable[[str], TestClient], database: Database, browser: TestClient
) -> None:
    readers = [sign_in(f"reader{number}@example.org") for number in range(12)]
    tokens = [form_token(one.get(SEGNET).text) for one in readers]
    threads = [
        threading.Thread(
            target=one.post, args=(f"{SEGNET}/vote",), kwargs={"data": {"form_token": token, "wanted": "1"}}
        )
        for one, token in zip(readers, tokens, strict=True)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert browser.get("/api/v1/papers/segnet").json()["votes"] == 12


def test_comments_are_counted_and_can_be_deleted(reader: TestClient, browser: TestClient) -> None:
    answer = send(reader, f"{SEGNET}/comments", body="Indices **are** enough.")
    assert answer.headers["location"] == f"{SEGNET}#comment-1"
    assert "<strong>are</strong>" in browser.get(SEGNET).text
    assert browser.get("/api/v1/papers/segnet").json()["comments"] == 1
    assert send(reader, "/comments/1/delete").status_code == 303
    assert "Indices" not in browser.get(SEGNET).text
    assert browser.get("/api/v1/papers/segnet").json()["comments"] == 0
    assert send(reader, f"{SEGNET}/comments", body="   ").status_code == 400


def test_tags_are_a_readers_own(sign_in: Callable[[str], TestClient], database: Database) -> None:
    anna, berta = sign_in("anna@example.org"), sign_in("berta@example.org")
    send(anna, f"{SEGNET}/tags", tag="  To   Read ")
    assert anna.get("/?tag=to+read").text.count("data-paper>") == 1
    assert berta.get("/?tag=to+read").text.count("data-paper>") == 0
    assert "to read" not in berta.get(SEGNET).text
    send(anna, f"{SEGNET}/tags", tag="to read", wanted="0")
    with database.reading() as transaction:
        assert transaction.scalars(select(Tag)).all() == []


def test_votes_and_tags_ask_for_recommendations_once(reader: TestClient, database: Database) -> None:
    send(reader, f"{SEGNET}/vote", wanted="1")
    send(reader, f"{HORNET}/tags", tag="x")
    with database.reading() as transaction:
        assert len(transaction.scalars(select(Job).where(Job.kind == "recommend")).all()) == 1


def test_recommendations_are_shown(reader: TestClient, database: Database) -> None:
    assert "Nothing yet" in reader.get("/for-you").text
    with database.writing() as transaction:
        paper = transaction.scalars(select(Paper).where(Paper.slug == "spark")).one()
        transaction.add(Recommendation(user_id=1, place=1, paper_id=paper.id, score=1.0))
    assert paper.title.split(":")[0] in reader.get("/for-you").text


def test_a_paper_that_is_known_is_not_fetched_again(reader: TestClient) -> None:
    assert send(reader, "/submit", "/submit", paper="arXiv:1511.00561v3").headers["location"] == SEGNET


def test_a_submission_that_failed_says_why(reader: TestClient, database: Database) -> None:
    send(reader, "/submit", "/submit", paper="2101.00001")
    for _ in range(10):
        with database.writing() as transaction:
            for job in transaction.scalars(select(Job).where(Job.kind == "submit")):
                job.not_before = job.created
        job = jobs.claim(database, "worker", ["submit"])
        if job is None:
            break
        jobs.fail(database, job, "arXiv has no such paper")
    assert "arXiv has no such paper" in reader.get("/submitted/2101.00001").text


def test_a_reader_can_be_renamed_and_forgotten(reader: TestClient, browser: TestClient, database: Database) -> None:
    send(reader, f"{SEGNET}/comments", body="Here.")
    send(reader, f"{SEGNET}/vote", wanted="1")
    assert send(reader, "/me", "/me", name="Anna K.").status_code == 303
    assert "Anna K." in browser.get(SEGNET).text
    assert send(reader, "/me/delete", "/me", sure="yes").status_code == 303
    assert reader.get("/me").status_code == 401
    assert "Here." not in browser.get(SEGNET).text
    found = browser.get("/api/v1/papers/segnet").json()
    assert (found["votes"], found["comments"]) == (0, 0)


# runs


def test_a_run_is_asked_for_with_a_button(reader: TestClient, browser: TestClient) -> None:
    answer = send(reader, "/papers/segnet/run", scale="smoke")
    assert answer.headers["location"] == "/runs/1"
    page = browser.get("/runs/1").text
    assert "waiting" in page
    assert 'data-events="/runs/1/events?after=' in page
    assert "Cancel" not in page
    assert "Cancel" in reader.get("/runs/1").text
    assert "Run 1" in browser.get(SEGNET).text
    assert send(reader, "/runs/1/cancel", "/runs/1").status_code == 303
    assert browser.get("/api/v1/runs/1").json()["state"] == "cancelled"


def test_runs_are_limited(reader: TestClient, settings: HubSettings) -> None:
    codes = [send(reader, "/papers/segnet/run", scale="smoke").status_code for _ in range(settings.runs_per_user + 1)]
    assert codes == [303] * settings.runs_per_user + [400]


@pytest.mark.parametrize(
    ("slug", "scale"), [("segnet", "paper"), ("segnet", "x; rm -rf /"), ("crate", "smoke"), ("nothing", "smoke")]
)
def test_only_performed_papers_and_offered_scales_run(
    reader: TestClient, database: Database, slug: str, scale: str
) -> None:
    assert send(reader, f"/papers/{slug}/run", scale=scale).status_code in {400, 404}
    with database.reading() as transaction:
        assert transaction.scalars(select(Run)).all() == []


@pytest.fixture
def finished(reader: TestClient, database: Database, settings: HubSettings) -> Run:
    """A run that is over, with SegNet's published record as its own."""
    send(reader, "/papers/segnet/run", scale="smoke")
    with database.writing() as transaction:
        run = transaction.get_one(Run, 1)
        run.state, run.started, run.finished = "done", run.created, run.created
        run.record = json.loads((published_records() / "segnet" / "result.json").read_text(encoding="utf-8"))
        runs.append_events(transaction, 1, [("message", {"text": "half of it"}), ("state", {"state": "done"})])
    output = runs.output_of(settings, 1)
    output.mkdir(parents=True)
    (output / "report.html").write_text("<h1>Report</h1>", encoding="utf-8")
    (output / "examples.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (settings.folder / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return run


def test_a_finished_run_shows_claims_report_and_pictures(browser: TestClient, finished: Run) -> None:
    page = browser.get("/runs/1").text
    assert "holds" in page
    assert "The whole report" in page
    assert 'id="live"' not in page
    report = browser.get("/runs/1/report")
    assert report.text == "<h1>Report</h1>"
    assert "sandbox" in report.headers["content-security-policy"]
    assert "script-src" not in report.headers["content-security-policy"]
    assert browser.get("/runs/1/pictures/examples.png").headers["content-type"] == "image/png"
    assert browser.get("/api/v1/runs/1").json()["record"]["paper"] == "segnet"
    assert "last run here" in browser.get(SEGNET).text


@pytest.mark.parametrize(
    "name", ["..%2F..%2F..%2Fsecret.png", "%2Fetc%2Fpasswd", "%2E%2E", "request.json", "x.png", "%00.png"]
)
def test_only_pictures_of_the_run_are_handed_out(browser: TestClient, finished: Run, name: str) -> None:
    assert browser.get(f"/runs/1/pictures/{name}").status_code in {400, 404}


def test_events_are_streamed_from_where_a_browser_left(browser: TestClient, finished: Run) -> None:
    def told(**headers: str) -> list[tuple[str, str]]:
        text = browser.get("/runs/1/events", headers=headers).text
        blocks = [
            dict(line.split(": ", 1) for line in one.splitlines()) for one in text.split("\r\n\r\n") if ": " in one
        ]
        return [(one["event"], one.get("id", "")) for one in blocks if "event" in one]

    assert [one for one in told() if one[1]] == [("state", "1"), ("message", "2"), ("state", "3")]
    assert ("message", "2") not in told(**{"last-event-id": "2"})
    assert told()[-1][0] == "end"


def test_a_run_whose_loss_is_not_a_number_is_shown(reader: TestClient, database: Database) -> None:
    send(reader, "/papers/segnet/run", scale="smoke")
    body = {"stage": "segnet", "step": 1, "total": 2, "metrics": {"loss": None}}
    with database.writing() as transaction:
        runs.append_events(transaction, 1, [("progress", body)])
    assert "loss –" in reader.get("/runs/1").text


def test_records_of_another_encore_are_left_out(reader: TestClient, finished: Run, database: Database) -> None:
    with database.writing() as transaction:
        transaction.get_one(Run, 1).record = {"old": 1}
    for address in ("/runs/1", SEGNET, "/api/v1/runs/1", "/api/v1/papers/segnet/runs"):
        assert reader.get(address).status_code == 200
    with database.writing() as transaction:
        transaction.get_one(Run, 1).slug = "a_paper_that_is_gone"
    for address in ("/runs/1", "/runs", "/api/v1/runs/1"):
        assert reader.get(address).status_code == 200


def test_a_tag_that_is_sent_many_times_at_once_is_one(reader: TestClient, database: Database) -> None:
    token = form_token(reader.get(SEGNET).text)
    codes: list[int] = []

    def tag() -> None:
        codes.append(reader.post(f"{SEGNET}/tags", data={"form_token": token, "tag": "x"}).status_code)

    threads = [threading.Thread(target=tag) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert codes == [303] * 8
    with database.reading() as transaction:
        assert len(transaction.scalars(select(Tag)).all()) == 1


def test_a_second_web_process_sees_the_same(reader: TestClient, settings: HubSettings, app: FastAPI) -> None:
    send(reader, f"{SEGNET}/vote", wanted="1")
    other = TestClient(create_app(settings))
    assert other.get("/api/v1/papers/segnet").json()["votes"] == 1
    other.cookies = reader.cookies
    assert other.get("/me").status_code == 200
