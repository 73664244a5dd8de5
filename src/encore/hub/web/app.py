"""The web application."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy import text
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import encore
from encore.base import registry
from encore.hub import jobs, merging, papers
from encore.hub.database import Database, open_database
from encore.hub.search.finding import Finder
from encore.hub.settings import HubSettings, read_settings
from encore.hub.web.answers import add_error_pages, fault
from encore.hub.web.hub import WEB, Hub
from encore.hub.web.pages import account, api, feed, paper, runs, subscription
from encore.hub.web.remembering import Remembering
from encore.hub.web.security import Guard

THREADS = 12
"""In which one web process makes pages."""


class _Kept(StaticFiles):
    """Files that come with the hub; addresses with their version may be kept for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if b"v=" in scope.get("query_string", b"") and response.status_code == 200:
            response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def create_app(settings: HubSettings, database: Database | None = None) -> FastAPI:
    """The application, with its database up to date and the cards in it.

    Args:
        settings: of the hub.
        database: open; null opens that of the settings.
    """
    database = database or open_database(settings.database_url)
    hub = Hub(settings, database, Finder(database, settings))
    _add_cards(database)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # few threads and quick turns: a page waits less for others' than for the processor
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        sys.setswitchinterval(0.0005)
        hub.finder.start()
        yield
        hub.finder.close()
        database.close()

    app = FastAPI(
        title=settings.site_name,
        version=encore.__version__,
        description="Papers of the feed, and what Encore measured of those that it performs.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,  # it would lead to whatever Host was sent
    )
    app.state.hub = hub
    add_error_pages(app)
    app.mount("/static", _Kept(directory=WEB / "static"), name="static")
    for part in (feed, paper, api, runs, account, subscription):  # what is asked for most comes first
        app.include_router(part.router)

    @app.get("/healthz", include_in_schema=False)
    def healthy(request: Request) -> Response:
        """Whether the hub works: 200, and the database answers."""
        with database.reading() as transaction:
            transaction.execute(text("SELECT 1"))
        return JSONResponse({"status": "well"})

    app.add_middleware(Remembering, seconds=settings.remember_seconds)
    app.add_middleware(Guard, hub=hub, fault=fault)  # the outer one
    return app


def _add_cards(database: Database) -> None:
    """The papers of the cards, so that a fresh hub shows a page at once."""
    entries = papers.entries_of_cards(registry.cards().values())
    with merging.telling(database) as transaction:
        outcomes = [merging.told(transaction, entry)[1] for entry in entries]
        if set(outcomes) - {"same"}:
            jobs.put(transaction, "index", once="index")


def application() -> FastAPI:
    """For servers that start several web processes: settings come from the environment."""
    return create_app(read_settings())
