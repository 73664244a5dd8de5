"""A hub's web application for tests, and readers who are signed in."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from encore.hub import accounts
from encore.hub.database import Database
from encore.hub.settings import HubSettings
from encore.hub.web.app import create_app

Browser = TestClient


def form_token(page: str) -> str:
    """What the first form of a page carries."""
    found = re.search(r'name="form_token" value="([^"]+)"', page)
    assert found, "the page has no form"
    return found[1]


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Pages are tested on SQLite; `test_flows.py` goes through what writes on PostgreSQL too."""
    return f"sqlite:///{tmp_path / 'hub.db'}"


@pytest.fixture
def app(settings: HubSettings, database: Database) -> FastAPI:
    """The application."""
    return create_app(settings, database)


@pytest.fixture
def browser(app: FastAPI) -> Browser:
    """A browser that nobody has signed in with."""
    return TestClient(app, base_url="http://testserver", follow_redirects=False)


@pytest.fixture
def sign_in(app: FastAPI, settings: HubSettings, database: Database) -> Callable[[str], Browser]:
    """Makes a browser in which an address is signed in."""

    def signed_in(email: str) -> Browser:
        browser = TestClient(app, base_url="http://testserver", follow_redirects=False)
        path = accounts.make_link(database, settings, email).removeprefix(settings.base_url)
        page = browser.get(path).text
        assert browser.post(path, data={"form_token": form_token(page)}).status_code == 303
        return browser

    return signed_in


@pytest.fixture
def reader(sign_in: Callable[[str], Browser]) -> Browser:
    """A browser of a reader who is signed in."""
    return sign_in("anna@example.org")
