"""A hub that is killed in the middle of its work loses nothing that it said was done."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from encore.hub import accounts
from encore.hub.database import Paper, User, Vote, open_database
from encore.hub.settings import read_settings
from tests.hub.browser.conftest import serving
from tests.hub.conftest import empty_database
from tests.hub.web.conftest import form_token


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    with empty_database(request.param, request, tmp_path) as url:
        yield url


def test_no_vote_is_lost_when_the_web_process_is_killed(database_url: str, tmp_path: Path) -> None:
    acknowledged: set[tuple[str, str]] = set()
    trouble: list[str] = []
    with serving(tmp_path, ENCORE_HUB_DATABASE=database_url) as served:
        settings = read_settings(tmp_path, database=database_url, base_url=served.url)
        database = open_database(settings.database_url)
        with database.reading() as transaction:
            keys = list(transaction.scalars(select(Paper.key).order_by(Paper.id)))
        stop = threading.Event()

        def vote(email: str) -> None:
            browser = httpx.Client(base_url=served.url, timeout=20)
            path = accounts.make_link(database, settings, email).removeprefix(settings.base_url)
            browser.post(path, data={"form_token": form_token(browser.get(path).text)})
            token = form_token(browser.get("/me").text)
            while not stop.is_set():
                for key in keys:
                    try:
                        answer = browser.post(f"/papers/{key}/vote", data={"form_token": token, "wanted": "1"})
                    except httpx.HTTPError:
                        return  # it was killed
                    if answer.status_code == 303:
                        acknowledged.add((email, key))
                    elif answer.status_code != 429:
                        trouble.append(f"{answer.status_code}: {answer.text[:200]}")

        voters = [threading.Thread(target=vote, args=(f"reader{number}@example.org",)) for number in range(4)]
        for one in voters:
            one.start()
        end = time.monotonic() + 20
        while len(acknowledged) < 30 and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(served.process.pid, signal.SIGKILL)
        stop.set()
        for one in voters:
            one.join()
    assert trouble == []
    assert len(acknowledged) >= 30
    with database.reading() as transaction:
        kept = {
            (email, key)
            for email, key in transaction.execute(
                select(User.email, Paper.key).join(Vote, Vote.user_id == User.id).join(Paper, Paper.id == Vote.paper_id)
            )
        }
        counted = {paper.key: paper.votes for paper in transaction.scalars(select(Paper))}
    assert acknowledged <= kept
    for key in keys:
        assert counted[key] == sum(one == key for _, one in kept)
    database.close()
    with serving(tmp_path, ENCORE_HUB_DATABASE=database_url) as served:
        first = httpx.get(f"{served.url}/api/v1/papers/{keys[0]}").json()
        assert first["votes"] == counted[keys[0]]
