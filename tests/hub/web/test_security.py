"""What an attacker would try."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update
from starlette.requests import Request

from encore.hub import accounts, subscriptions, tokens
from encore.hub.database import Comment, Database, Job, Mail, Run, Session, Subscription, User, Vote
from encore.hub.database.tables import now
from encore.hub.papers import Entry, put
from encore.hub.settings import KEY_FILE, HubSettings, read_settings
from encore.hub.web.app import create_app
from encore.hub.web.security import FORM_LIFE, client_address
from tests.hub.web.conftest import form_token
from tests.hub.web.test_pages import PAGES

KEY = "1511.00561"


def count(database: Database, table: type) -> int:
    with database.reading() as transaction:
        return transaction.scalar(select(func.count()).select_from(table)) or 0


# headers


@pytest.mark.parametrize("address", [*PAGES, "/nothing", "/me"])
def test_no_page_holds_script_or_style_of_its_own(reader: TestClient, address: str) -> None:
    answer = reader.get(address)
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=\"/static/)", answer.text)
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|hx-on|hx-vals=.js", answer.text)


def test_pages_may_not_be_framed_or_guessed_at(browser: TestClient) -> None:
    headers = browser.get("/").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "same-origin"


def test_pages_of_a_reader_are_not_kept_by_others(browser: TestClient, reader: TestClient) -> None:
    assert reader.get("/").headers["cache-control"] == "private, no-store"
    assert "no-store" not in browser.get("/").headers["cache-control"]
    assert "set-cookie" not in browser.get("/").headers


# forms of other sites


def test_a_form_without_its_token_is_refused(reader: TestClient, database: Database) -> None:
    assert reader.post(f"/papers/{KEY}/vote", data={"wanted": "1"}).status_code == 403
    assert count(database, Vote) == 0


def test_a_token_of_another_reader_is_refused(sign_in: Callable[[str], TestClient], database: Database) -> None:
    token = form_token(sign_in("eve@example.org").get(f"/papers/{KEY}").text)
    answer = sign_in("anna@example.org").post(f"/papers/{KEY}/vote", data={"form_token": token})
    assert answer.status_code == 403
    assert count(database, Vote) == 0


def test_a_token_that_is_too_old_is_refused(reader: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    token = form_token(reader.get(f"/papers/{KEY}").text)
    later = datetime.datetime.now().timestamp() + FORM_LIFE + 60
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: later)
    assert reader.post(f"/papers/{KEY}/vote", data={"form_token": token}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused_even_with_a_token(reader: TestClient, headers: dict[str, str]) -> None:
    token = form_token(reader.get(f"/papers/{KEY}").text)
    assert reader.post(f"/papers/{KEY}/vote", data={"form_token": token}, headers=headers).status_code == 403


def test_the_form_that_signs_in_is_bound_to_its_browser(app: FastAPI, browser: TestClient) -> None:
    token = form_token(browser.get("/sign-in").text)
    other = TestClient(app, follow_redirects=False)
    assert other.post("/sign-in", data={"email": "a@example.org", "form_token": token}).status_code == 403
    assert browser.post("/sign-in", data={"email": "a@example.org", "form_token": token}).status_code == 200


def test_reading_changes_nothing(reader: TestClient, database: Database) -> None:
    for address in (f"/papers/{KEY}/vote", f"/papers/{KEY}/comments", "/sign-out", "/papers/segnet/run", "/me/delete"):
        assert reader.get(address).status_code in {404, 405}
    assert count(database, Vote) == count(database, Run) == 0


# who may do what


@pytest.mark.parametrize(
    "address",
    [f"/papers/{KEY}/vote", f"/papers/{KEY}/comments", f"/papers/{KEY}/tags", "/submit", "/papers/segnet/run", "/me"],
)
def test_whoever_is_not_signed_in_changes_nothing(browser: TestClient, database: Database, address: str) -> None:
    token = form_token(browser.get("/sign-in").text)
    answer = browser.post(address, data={"form_token": token, "body": "x", "tag": "x", "paper": "2101.00001"})
    assert answer.status_code == 401
    assert count(database, Job) <= 1  # the index of a fresh hub
    assert count(database, Comment) == count(database, Run) == 0


def test_comments_and_runs_of_others_stay(sign_in: Callable[[str], TestClient], database: Database) -> None:
    anna, eve = sign_in("anna@example.org"), sign_in("eve@example.org")
    anna.post(
        f"/papers/{KEY}/comments", data={"form_token": form_token(anna.get(f"/papers/{KEY}").text), "body": "Mine"}
    )
    anna.post("/papers/segnet/run", data={"form_token": form_token(anna.get(f"/papers/{KEY}").text), "scale": "smoke"})
    token = form_token(eve.get(f"/papers/{KEY}").text)
    assert eve.post("/comments/1/delete", data={"form_token": token}).status_code == 404
    assert eve.post("/runs/1/cancel", data={"form_token": token}).status_code == 403
    with database.reading() as transaction:
        assert transaction.get_one(Comment, 1).body == "Mine"
        assert transaction.get_one(Run, 1).state == "queued"


@pytest.mark.parametrize(
    "address", ["/admin", "/admin/", "/docs", "/redoc", "/openapi.json", "/.env", "/static/../app.py"]
)
def test_there_is_nothing_to_administer_by_browser(reader: TestClient, address: str) -> None:
    assert reader.get(address).status_code == 404


def test_a_banned_reader_is_out_at_once(reader: TestClient, database: Database) -> None:
    with database.writing() as transaction:
        transaction.execute(update(User).values(banned=True))
    assert reader.get("/me").status_code == 401


# signing in


def test_a_link_works_once(browser: TestClient, settings: HubSettings, database: Database) -> None:
    path = accounts.make_link(database, settings, "anna@example.org").removeprefix(settings.base_url)
    token = form_token(browser.get(path).text)
    assert browser.post(path, data={"form_token": token}).status_code == 303
    assert browser.post(path, data={"form_token": token}).status_code in {403, 404}
    assert TestClient(browser.app).get(path).status_code == 404


def test_looking_at_a_link_does_not_use_it_up(browser: TestClient, settings: HubSettings, database: Database) -> None:
    path = accounts.make_link(database, settings, "anna@example.org").removeprefix(settings.base_url)
    for _ in range(3):
        assert "anna@example.org" in browser.get(path).text
    assert count(database, User) == 0


def test_an_old_link_is_no_link(browser: TestClient, settings: HubSettings, database: Database) -> None:
    path = accounts.make_link(database, settings, "anna@example.org").removeprefix(settings.base_url)
    with database.writing() as transaction:
        transaction.execute(update(Session).values(expires=now() - datetime.timedelta(seconds=1)))
    assert browser.get(path).status_code == 404


@pytest.mark.parametrize(
    "change", [lambda text: text[:-2] + "xx", lambda text: text + "x", lambda text: "x", lambda _: "." * 50]
)
def test_a_forged_link_is_no_link(
    browser: TestClient, settings: HubSettings, database: Database, change: Callable[[str], str]
) -> None:
    link = accounts.make_link(database, settings, "anna@example.org").rpartition("/")[2]
    assert browser.get(f"/sign-in/{change(link)}").status_code == 404


def test_a_token_for_one_purpose_is_none_for_another(settings: HubSettings) -> None:
    token = tokens.sign(settings, "form", "x")
    assert tokens.unsign(settings, "form", token, 60) == "x"
    assert tokens.unsign(settings, "sign-in", token, 60) is None
    other = settings.model_copy(update={"secret": "t" * 40})
    assert tokens.unsign(other, "form", token, 60) is None


def test_the_database_holds_no_secret_that_opens_anything(reader: TestClient, database: Database) -> None:
    secret = reader.cookies["session"]
    with database.reading() as transaction:
        assert secret not in [one.digest for one in transaction.scalars(select(Session))]


def test_nobody_learns_whether_an_address_is_known(reader: TestClient, browser: TestClient, database: Database) -> None:
    def ask(email: str) -> str:
        token = form_token(browser.get("/sign-in").text)
        answer = browser.post("/sign-in", data={"email": email, "form_token": token})
        assert answer.status_code == 200
        return re.sub(r'value="[^"]+"', "", answer.text)

    assert ask("anna@example.org") == ask("nobody@example.org")
    assert count(database, Mail) == 2


def test_the_mailed_link_signs_in(browser: TestClient, database: Database) -> None:
    token = form_token(browser.get("/sign-in").text)
    browser.post("/sign-in", data={"email": "Berta@Example.org", "form_token": token})
    with database.reading() as transaction:
        mail = transaction.scalars(select(Mail)).one()
    path = re.search(r"http://127\.0\.0\.1:8000(/sign-in/\S+)", mail.text)
    assert path
    page = browser.get(path[1])
    assert page.status_code == 200
    browser.post(path[1], data={"form_token": form_token(page.text)})
    assert "Berta@example.org" in browser.get("/me").text or "berta@example.org" in browser.get("/me").text


def test_signing_out_ends_the_session_everywhere_if_asked(
    sign_in: Callable[[str], TestClient], database: Database
) -> None:
    first, second = sign_in("anna@example.org"), sign_in("anna@example.org")
    first.post("/sign-out", data={"form_token": form_token(first.get("/me").text), "everywhere": "1"})
    assert first.get("/me").status_code == second.get("/me").status_code == 401


def test_cookies_are_out_of_reach(browser: TestClient, settings: HubSettings, database: Database) -> None:
    path = accounts.make_link(database, settings, "anna@example.org").removeprefix(settings.base_url)
    page = browser.get(path)
    answer = browser.post(path, data={"form_token": form_token(page.text)})
    for cookie in (page.headers["set-cookie"], answer.headers["set-cookie"]):
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Secure" not in cookie


def test_by_https_cookies_are_secure_and_of_this_host(settings: HubSettings, database: Database) -> None:
    safe = settings.model_copy(update={"base_url": "https://papers.example.org"})
    answer = TestClient(create_app(safe, database), base_url="https://papers.example.org").get("/sign-in")
    assert answer.headers["set-cookie"].startswith("__Host-visitor=")
    assert "Secure" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"]


# limits


def test_signing_in_is_limited_by_address_and_by_client(browser: TestClient, database: Database) -> None:
    token = form_token(browser.get("/sign-in").text)
    codes = [
        browser.post("/sign-in", data={"email": "anna@example.org", "form_token": token}).status_code for _ in range(7)
    ]
    assert codes == [200] * 5 + [429] * 2
    others = [
        browser.post("/sign-in", data={"email": f"a{number}@example.org", "form_token": token}) for number in range(20)
    ]
    assert others[-1].status_code == 429
    assert int(others[-1].headers["retry-after"]) > 0
    assert count(database, Mail) <= 20


def test_limits_hold_over_several_web_processes(settings: HubSettings, database: Database) -> None:
    browsers = [TestClient(create_app(settings, database)) for _ in range(2)]
    codes = []
    for number in range(6):
        one = browsers[number % 2]
        token = form_token(one.get("/subscribe").text)
        codes.append(one.post("/subscribe", data={"email": "a@example.org", "form_token": token}).status_code)
    assert codes == [200] * 5 + [429]


def test_a_header_does_not_change_whom_limits_count(browser: TestClient) -> None:
    token = form_token(browser.get("/sign-in").text)
    for number in range(21):
        answer = browser.post(
            "/sign-in",
            data={"email": f"a{number}@example.org", "form_token": token},
            headers={"x-forwarded-for": f"10.0.0.{number}"},
        )
    assert answer.status_code == 429


# sizes and uploads


def test_files_are_refused(reader: TestClient) -> None:
    answer = reader.post(f"/papers/{KEY}/comments", files={"file": b"x"}, data={"body": "x"})
    assert answer.status_code == 415


def test_large_forms_are_refused(reader: TestClient) -> None:
    token = form_token(reader.get(f"/papers/{KEY}").text)
    answer = reader.post(f"/papers/{KEY}/comments", data={"form_token": token, "body": "x" * 100_000})
    assert answer.status_code == 413

    def stream() -> Iterator[bytes]:  # without a length
        for _ in range(100):
            yield b"body=" + b"x" * 10_000

    answer = reader.post(
        f"/papers/{KEY}/comments", content=stream(), headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 413


# what readers and sources write


EVIL = (
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "[click](javascript:alert(1))",
    '[click](https://x.example" onclick="alert(1))',
    "![picture](https://tracker.example/x.png)",
    "<javascript:alert(1)>",
    "[a](data:text/html;base64,PHNjcmlwdD4=)",
)


class Elements(HTMLParser):
    """What an HTML text would make a browser do."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("text", EVIL)
def test_comments_cannot_do_harm(reader: TestClient, text: str) -> None:
    token = form_token(reader.get(f"/papers/{KEY}").text)
    assert reader.post(f"/papers/{KEY}/comments", data={"form_token": token, "body": text}).status_code == 303
    said = reader.get(f"/papers/{KEY}").text.split('class="said">')[1].split("</div>")[0]
    for tag, attributes in Elements(said).found:
        assert tag in {"p", "a", "br"}
        assert set(attributes) <= {"href", "rel"}
        assert re.match("https?://", attributes.get("href") or "https://")


def test_comments_may_have_markdown(reader: TestClient) -> None:
    token = form_token(reader.get(f"/papers/{KEY}").text)
    reader.post(f"/papers/{KEY}/comments", data={"form_token": token, "body": "**bold** https://example.org `x < y`"})
    said = reader.get(f"/papers/{KEY}").text.split('class="said">')[1]
    assert "<strong>bold</strong>" in said
    assert 'href="https://example.org"' in said
    assert 'rel="nofollow noopener noreferrer ugc"' in said
    assert "<code>x &lt; y</code>" in said


def test_papers_of_any_source_cannot_do_harm(browser: TestClient, database: Database) -> None:
    with database.writing() as transaction:
        paper, _ = put(
            transaction,
            Entry(
                "<script>alert(1)</script>",
                "json",
                abstract="<b>bold</b>",
                authors=["<i>Anna</i>"],
                organisation='"><svg onload=alert(1)>',
                url="javascript:alert(1)",
                code_url="data:text/html,x",
                tasks=["<u>"],
                listed_on=datetime.date(2026, 1, 1),
            ),
        )
    for address in ("/day/2026-01-01", f"/papers/{paper.key}"):
        page = browser.get(address).text
        assert "<script>alert" not in page
        assert "<svg" not in page
        assert "<b>bold" not in page
        assert "<i>Anna" not in page
        assert 'href="javascript' not in page
        assert 'href="data' not in page


@pytest.mark.parametrize("name", ["<b>x</b>", "a", "x" * 60, "a\nb<", "‮evil"])
def test_names_are_checked(reader: TestClient, name: str) -> None:
    token = form_token(reader.get("/me").text)
    assert reader.post("/me", data={"form_token": token, "name": name}).status_code == 400


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example/abs/2101.00001",
        "http://169.254.169.254/latest/meta-data",
        "http://arxiv.org.evil.example/abs/2101.00001",
        "http://arxiv.org@evil.example/abs/2101.00001",
        "file:///etc/passwd",
        "gopher://arxiv.org/abs/2101.00001",
        "2101.00001\nHost: evil",
    ],
)
def test_no_address_of_a_reader_is_ever_fetched(reader: TestClient, database: Database, text: str) -> None:
    token = form_token(reader.get("/submit").text)
    assert reader.post("/submit", data={"form_token": token, "paper": text}).status_code == 400
    with database.reading() as transaction:
        assert transaction.scalars(select(Job).where(Job.kind == "submit")).all() == []


def test_a_submission_keeps_the_identifier_alone(reader: TestClient, database: Database) -> None:
    token = form_token(reader.get("/submit").text)
    answer = reader.post("/submit", data={"form_token": token, "paper": "https://arxiv.org/pdf/2101.00001v3.pdf"})
    assert answer.headers["location"] == "/submitted/2101.00001"
    assert "is being fetched" in reader.get("/submitted/2101.00001").text
    with database.reading() as transaction:
        job = transaction.scalars(select(Job).where(Job.kind == "submit")).one()
    assert job.payload == {"arxiv": "2101.00001"}


def test_going_back_never_leaves_the_hub(reader: TestClient) -> None:
    for referer in ("https://evil.example/x", "http://testserver//evil.example", "http://testserver\\@evil.example/"):
        token = form_token(reader.get(f"/papers/{KEY}").text)
        answer = reader.post(f"/papers/{KEY}/vote", data={"form_token": token}, headers={"referer": referer})
        assert re.match(r"/(?!/)", answer.headers["location"])


def test_mail_addresses_cannot_carry_headers(browser: TestClient, database: Database) -> None:
    for address in (
        "a@example.org\r\nBcc: x@example.org",
        "a@example.org, b@example.org",
        "<a@example.org>",
        "a@",
        "a b@c.org",
    ):
        token = form_token(browser.get("/sign-in").text)
        assert browser.post("/sign-in", data={"email": address, "form_token": token}).status_code == 400
    assert count(database, Mail) == 0


# the rest


def test_the_web_process_never_loads_torch() -> None:
    code = (
        "import sys, tempfile, pathlib\n"
        "from encore.hub.settings import read_settings\n"
        "from encore.hub.web.app import create_app\n"
        "from fastapi.testclient import TestClient\n"
        "app = create_app(read_settings(pathlib.Path(tempfile.mkdtemp())))\n"
        "browser = TestClient(app)\n"
        "for address in ('/', '/papers/1511.00561', '/search?q=trees', '/api/v1/papers/segnet/similar'):\n"
        "    assert browser.get(address).status_code == 200, address\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'sklearn' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    first = read_settings(tmp_path / "hub")
    assert (tmp_path / "hub" / KEY_FILE).stat().st_mode & 0o077 == 0
    assert read_settings(tmp_path / "hub").secret == first.secret
    assert first.secret not in repr(first)


def test_one_click_unsubscribes(browser: TestClient, settings: HubSettings, database: Database) -> None:
    subscriptions.ask(database, settings, "anna@example.org")
    with database.reading() as transaction:
        mail = transaction.scalars(select(Mail)).one()
        assert transaction.scalars(select(Subscription).where(Subscription.confirmed.is_not(None))).all() == []
    path = re.search(r"http://127\.0\.0\.1:8000(/confirm/\S+)", mail.text)
    assert path
    page = browser.get(path[1])
    assert browser.post(path[1], data={"form_token": form_token(page.text)}).status_code == 200
    with database.reading() as transaction:
        subscription = transaction.scalars(select(Subscription)).one()
    link = subscriptions.unsubscribe_link(settings, subscription).removeprefix(settings.base_url)
    assert browser.get(link).status_code == 200
    answer = browser.post(link, data={"List-Unsubscribe": "One-Click"})
    assert (answer.status_code, answer.text) == (200, "unsubscribed\n")
    with database.reading() as transaction:
        assert transaction.scalars(select(Subscription)).one().ended is not None
    assert browser.post("/unsubscribe/forged").status_code == 404


def test_programs_may_unsubscribe_in_parts_and_many_at_once(
    browser: TestClient, settings: HubSettings, database: Database
) -> None:
    with database.writing() as transaction:
        transaction.add_all(Subscription(email=f"r{number}@example.org", confirmed=now()) for number in range(70))
    with database.reading() as transaction:
        links = [
            subscriptions.unsubscribe_link(settings, one).removeprefix(settings.base_url)
            for one in transaction.scalars(select(Subscription))
        ]
    part = {"List-Unsubscribe": (None, "One-Click")}
    assert {browser.post(link, files=part).status_code for link in links} == {200}
    with database.reading() as transaction:
        assert transaction.scalars(select(Subscription).where(Subscription.ended.is_(None))).all() == []


@pytest.mark.parametrize(
    "address",
    ["/papers/%00", "/?task=%00", "/new.atom?task=a%00b", "/api/v1/papers?task=%00", "/search?q=a%00"],
)
def test_an_address_has_no_nul(browser: TestClient, address: str) -> None:
    assert browser.get(address).status_code == 400


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("/runs/-99999999999999999999", {}),
        ("/runs/99999999999999999999", {}),
        ("/runs/1/events?after=999999999999999999999999999999", {}),
        ("/runs/1/events", {"last-event-id": "9" * 5000}),
        ("/search.rss?q=%01seg", {}),
        ("/new/", {"host": "evil.example"}),
    ],
)
def test_odd_requests_are_no_faults(browser: TestClient, address: str, headers: dict[str, str]) -> None:
    answer = browser.get(address, headers=headers)
    assert answer.status_code < 500
    assert "evil" not in answer.headers.get("location", "")


def test_a_fault_of_ours_has_a_page_and_all_headers(
    app: FastAPI, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret reason")

    monkeypatch.setattr("encore.hub.papers.listed", broken)
    browser = TestClient(app, raise_server_exceptions=False)
    for address, kind in (("/", "text/html"), ("/api/v1/papers", "application/json")):
        answer = browser.get(address)
        assert answer.status_code == 500
        assert answer.headers["content-type"].startswith(kind)
        assert "secret reason" not in answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "the secret reason" in caplog.text


@pytest.mark.parametrize(
    ("named", "counted"),
    [
        (["6.6.6.6", "203.0.113.9"], "203.0.113.9"),
        (["6.6.6.6, 203.0.113.9:4711"], "203.0.113.9"),
        (["203.0.113.9, 127.0.0.1"], "203.0.113.9"),
        (["[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
        (["::ffff:198.51.100.7"], "198.51.100.7"),
        (["rubbish"], "rubbish"),
        ([], "127.0.0.1"),
    ],
)
def test_limits_count_whom_the_nearest_proxy_names(
    settings: HubSettings, database: Database, named: list[str], counted: str
) -> None:
    app = create_app(settings.model_copy(update={"trusted_proxies": ("127.0.0.1",)}), database)
    headers = [(b"x-forwarded-for", one.encode()) for one in named]
    request = Request({"type": "http", "headers": headers, "client": ("127.0.0.1", 1), "app": app})
    assert client_address(request) == counted


def test_forms_work_behind_a_proxy_that_changes_the_host(settings: HubSettings, database: Database) -> None:
    app = create_app(settings.model_copy(update={"base_url": "http://papers.example.org"}), database)
    browser = TestClient(app, base_url="http://127.0.0.1:8000")
    token = form_token(browser.get("/sign-in").text)
    form = {"email": "a@example.org", "form_token": token}
    assert browser.post("/sign-in", data=form, headers={"origin": "http://papers.example.org"}).status_code == 200
    assert browser.post("/sign-in", data=form, headers={"origin": "http://evil.example"}).status_code == 403


def test_own_lists_have_feeds_of_their_own(reader: TestClient, browser: TestClient) -> None:
    token = form_token(reader.get(f"/papers/{KEY}").text)
    reader.post(f"/papers/{KEY}/tags", data={"form_token": token, "tag": "mine"})
    found = re.search(r'application/feed\+json"[^>]*href="([^"]+)"', reader.get("/?tag=mine").text)
    assert found
    address = found[1].replace("&amp;", "&")
    assert [one["title"][:6] for one in browser.get(address).json()["items"]] == ["SegNet"]
    assert browser.get("/trending.json?tag=mine").status_code == 401
    assert browser.get("/trending.json?tag=mine&token=forged").status_code == 401
    assert browser.get("/for-you.atom").status_code == 401
    assert reader.get("/for-you.atom").status_code == 200


def test_what_is_asked_for_without_its_body_has_the_same_headers(browser: TestClient) -> None:
    for address in ("/", "/trending.atom", "/api/v1/claims/segnet"):
        answer = browser.head(address)
        assert answer.status_code == 200
        assert answer.content == b""
        assert answer.headers["content-length"] == browser.get(address).headers["content-length"]


def test_signing_in_leads_back_to_the_paper_and_nowhere_else(browser: TestClient, database: Database) -> None:
    token = form_token(browser.get(f"/sign-in?next=/papers/{KEY}").text)
    for wanted, reached in ((f"/papers/{KEY}", f"/papers/{KEY}"), ("//evil.example", "/"), ("/papers/../x", "/")):
        browser.post("/sign-in", data={"email": "anna@example.org", "form_token": token, "next": wanted})
        with database.reading() as transaction:
            mail = transaction.scalars(select(Mail).order_by(Mail.id.desc())).first()
        assert mail is not None
        path = re.search(r"http://127\.0\.0\.1:8000(/sign-in/\S+)", mail.text)
        assert path
        page = browser.get(path[1]).text
        following = re.search(r'name="next" value="([^"]*)"', page)
        assert following
        answer = browser.post(path[1], data={"form_token": form_token(page), "next": following[1] or wanted})
        assert answer.headers["location"] == reached
        browser.cookies.clear()
        token = form_token(browser.get("/sign-in").text)
