"""A reader clicks through the hub, from the feed to a run that goes on, at a desk and on a phone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from email import message_from_string, policy

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.hub.browser.conftest import Served

SIZES = {"desk": (1200, 900), "phone": (390, 844)}


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, chromium: Browser, hub: Served) -> Iterator[Page]:
    """A page in a browser of its own; whatever the console complains of fails the test."""
    width, height = SIZES[request.param]
    context = chromium.new_context(viewport={"width": width, "height": height}, base_url=hub.url)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def waited(find: Callable[[], str | None], seconds: float = 15) -> str:
    """What `find` finds, as soon as it does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = find()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("it did not come")


def newest_link(hub: Served, address: str, kind: str) -> str | None:
    """The link in the newest mail to an address."""
    for mail in reversed(hub.mails(address)):
        body = message_from_string(mail, policy=policy.default).get_body(("plain",))
        found = re.search(rf"{re.escape(hub.url)}/{kind}/\S+", body.get_content() if body else "")
        if found:
            return found[0]
    return None


def sign_in(page: Page, hub: Served, address: str) -> None:
    """By the mailed link."""
    page.goto("/sign-in")
    page.get_by_label("Mail address").fill(address)
    page.get_by_role("button", name="Send the link").click()
    expect(page.get_by_role("status")).to_contain_text("a link is on its way")
    page.goto(waited(lambda: newest_link(hub, address, "sign-in")))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("link", name="Sign in")).to_have_count(0)


def assert_accessible(page: Page) -> None:
    """axe-core finds nothing to complain of."""
    results = Axe().run(page)
    found = [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in results.response["violations"]]
    assert found == [], page.url


def test_a_fresh_hub_shows_its_papers_within_ten_seconds(hub: Served) -> None:
    assert hub.seconds < 10


def test_from_the_feed_to_a_vote(page: Page, hub: Served, request: pytest.FixtureRequest) -> None:
    page.goto("/")
    expect(page.locator("[data-paper]")).to_have_count(24)
    assert_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("searchbox").fill("segmentation pooling indices")
    page.keyboard.press("Enter")
    first = page.locator("[data-paper] h2").first
    expect(first).to_contain_text("SegNet")
    assert_accessible(page)
    address = f"{request.node.callspec.params['page']}@example.org"
    sign_in(page, hub, address)
    page.goto("/papers/1511.00561")
    count = int(page.locator(".heading .count").inner_text())
    page.get_by_role("button", name="Vote for").click()
    expect(page.get_by_role("button", name="Take back the vote")).to_be_visible()  # without a new page
    expect(page.locator(".heading .count")).to_have_text(str(count + 1))
    assert_accessible(page)
    page.get_by_label("Your comment").fill("Indices **are** enough.")
    page.get_by_role("button", name="Comment").click()
    expect(page.locator(".said strong").last).to_have_text("are")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_subscribing_takes_two_steps(page: Page, hub: Served, request: pytest.FixtureRequest) -> None:
    address = f"mail-{request.node.callspec.params['page']}@example.org"
    page.goto("/subscribe")
    assert_accessible(page)
    page.get_by_label("Mail address").fill(address)
    page.get_by_label("on Mondays").check()
    page.get_by_role("button", name="Subscribe").click()
    expect(page.get_by_role("status")).to_contain_text("Nothing is sent before")
    page.goto(waited(lambda: newest_link(hub, address, "confirm")))
    page.get_by_role("button", name="Yes, send them").click()
    expect(page.get_by_role("status")).to_contain_text("Confirmed")


def test_keys_go_through_the_feed(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator(".paper.here")).to_have_count(1)
    assert page.evaluate("document.querySelectorAll('[data-paper]')[1].classList.contains('here')")
    page.keyboard.press("k")
    title = page.locator(".paper.here h2").inner_text()
    page.keyboard.press("o")
    expect(page.locator("h1")).to_have_text(title)
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    assert_accessible(page)
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_the_theme_is_kept(page: Page) -> None:
    page.goto("/")
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.get_by_role("button", name="Change between light and dark").click()
    page.goto("/papers/1511.00561")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != light
    assert_accessible(page)


def test_other_pages_are_accessible(page: Page) -> None:
    for address in ("/sign-in", "/submit", "/runs", "/about", "/day", "/month/2021-11", "/search?q=zzzz"):
        page.goto(address)
        assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address


@pytest.mark.slow
def test_a_run_streams_to_its_report(chromium: Browser, hub: Served) -> None:
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, base_url=hub.url)
    page = context.new_page()
    sign_in(page, hub, "runner@example.org")
    page.goto("/papers/1511.00561")
    page.get_by_label("Scale").select_option("smoke")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("h1")).to_have_text("Run 1")
    expect(page.locator("#stages progress").first).to_be_visible(timeout=60_000)  # while it goes on
    assert_accessible(page)
    other = context.new_page()  # a second reader comes in the middle, and sees the same
    other.goto("/runs/1")
    expect(page.get_by_role("heading", name="Claims")).to_be_visible(timeout=180_000)
    expect(page.locator("#state")).to_contain_text("done")
    expect(page.locator("#pictures img").first).to_be_visible()
    assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert_accessible(page)
    page.get_by_role("link", name="The whole report").click()
    expect(page.locator("h1")).to_contain_text("SegNet")
    page.goto("/papers/1511.00561")
    expect(page.locator("#claims")).to_contain_text("last run here")
    context.close()
