"""Runs: asked for with a button, watched while they go, kept beside earlier ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, RedirectResponse, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from encore.base import registry
from encore.hub import runs
from encore.hub.database import Run, RunEvent, User
from encore.hub.web.answers import page
from encore.hub.web.hub import Hub, hub_of
from encore.hub.web.pages.paper import Number, record_of
from encore.hub.web.security import REPORT_POLICY, Form, SignedIn

router = APIRouter(include_in_schema=False)

LOOK_EVERY = 0.7
"""Seconds between two looks for what a run has said."""

MOST_STREAMS = 300
"""That one web process keeps open."""


def found_run(hub: Hub, number: int) -> Run:
    """The run of an address.

    Raises:
        HTTPException: 404, there is none.
    """
    with hub.database.reading() as transaction:
        run = transaction.get(Run, number)
    if run is None:
        raise HTTPException(404, "There is no such run.")
    return run


@router.post("/papers/{slug}/run")
def ask(request: Request, slug: str, form: Form, reader: SignedIn) -> Response:
    """Ask for a run."""
    hub = hub_of(request)
    hub.limiter.count("run", str(reader.id))
    run = runs.ask(hub.database, hub.settings, reader.id, registry.card(slug).slug, form.get("scale", "smoke"))
    return RedirectResponse(f"/runs/{run.id}", status_code=303)


@router.get("/runs")
def newest(request: Request) -> Response:
    """Runs that go on, wait, or are over."""
    hub = hub_of(request)
    with hub.database.reading() as transaction:
        found = runs.newest(transaction, 50)
    return page(request, "runs.html", runs=found, cards=hub.catalogue.cards)


@router.get("/runs/{number}")
def show(request: Request, number: Number) -> Response:
    """A run: live while it goes, then its claims beside those of earlier ones."""
    hub = hub_of(request)
    run = found_run(hub, number)
    with hub.database.reading() as transaction:
        events = runs.events_after(transaction, run.id, 0, limit=5000)
        position = runs.position_in_queue(transaction, run) if run.state == "queued" else None
        earlier = [one for one in runs.of_paper(transaction, run.slug, 10) if one.id != run.id and one.record]
        asked_by = transaction.get(User, run.user_id) if run.user_id else None
    return page(
        request,
        "run.html",
        run=run,
        card=hub.catalogue.cards.get(run.slug),
        record=record_of(run),
        stages=_stages(events),
        messages=[one.body["text"] for one in events if one.kind == "message"][-200:],
        pictures=_pictures(run, events),
        last_seq=events[-1].seq if events else 0,
        position=position,
        earlier=[(one, record_of(one)) for one in earlier[:2]],
        asked_by=asked_by,
        report=runs.report_path(hub.settings, run.id),
        published=hub.catalogue.records.get(run.slug),
        ended=run.state in runs.ENDED,
    )


def _stages(events: list[RunEvent]) -> dict[str, dict[str, object]]:
    """The newest progress of each stage, in the order in which stages began."""
    stages: dict[str, dict[str, object]] = {}
    for event in events:
        if event.kind == "progress":
            stages[str(event.body["stage"])] = event.body
    return stages


def _pictures(run: Run, events: list[RunEvent]) -> list[tuple[str, str]]:
    """Names and captions: of the record where there is one, else those that the run has told of."""
    record = record_of(run)
    if record is not None:
        return [(one.path, one.caption) for one in record.pictures]
    told = dict.fromkeys((str(one.body["name"]), str(one.body["stage"])) for one in events if one.kind == "picture")
    return list(told)


@router.post("/runs/{number}/cancel")
def cancel(request: Request, number: Number, form: Form, reader: SignedIn) -> Response:
    """End one's own run."""
    hub = hub_of(request)
    run = found_run(hub, number)
    if run.user_id != reader.id:
        raise HTTPException(403, "Only whoever asked for a run can cancel it.")
    runs.cancel(hub.database, run.id)
    return RedirectResponse(f"/runs/{run.id}", status_code=303)


@router.get("/runs/{number}/events")
def events(
    request: Request,
    number: Number,
    after: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    last_event_id: Annotated[str | None, Header(pattern=r"^\d{1,9}$")] = None,
) -> Response:
    """What a run says, as server-sent events; `id` counts them, so that a browser that comes back misses nothing."""
    hub = hub_of(request)
    run = found_run(hub, number)
    start = int(last_event_id) if last_event_id else after
    if hub.streams >= MOST_STREAMS:
        raise HTTPException(503, "Too many watch runs just now. Reload the page in a while.")
    return EventSourceResponse(_told(hub, run.id, start), ping=15, headers={"cache-control": "no-store"})


async def _told(hub: Hub, run_id: int, seq: int) -> AsyncIterator[ServerSentEvent]:
    def look(after: int) -> tuple[list[RunEvent], str, int | None]:
        with hub.database.reading() as transaction:
            run = transaction.get_one(Run, run_id)
            position = runs.position_in_queue(transaction, run) if run.state == "queued" else None
            return runs.events_after(transaction, run_id, after), run.state, position

    hub.streams += 1
    try:
        async for event in _followed(look, seq):
            yield event
    finally:
        hub.streams -= 1


async def _followed(
    look: Callable[[int], tuple[list[RunEvent], str, int | None]], seq: int
) -> AsyncIterator[ServerSentEvent]:
    before: tuple[str, int | None] | None = None
    while True:
        found, state, position = await run_in_threadpool(look, seq)
        for event in found:
            seq = event.seq
            yield ServerSentEvent(json.dumps(event.body), event=event.kind, id=str(seq))
        if (state, position) != before:
            before = state, position
            yield ServerSentEvent(json.dumps({"state": state, "position": position}), event="state")
        if state in runs.ENDED and not found:
            yield ServerSentEvent("{}", event="end")
            return
        await asyncio.sleep(LOOK_EVERY)


@router.get("/runs/{number}/pictures/{name}")
def picture(request: Request, number: Number, name: str) -> Response:
    """A picture of a run."""
    hub = hub_of(request)
    path = runs.picture_path(hub.settings, found_run(hub, number).id, name)
    if path is None:
        raise HTTPException(404, "There is no such picture.")
    return FileResponse(path, media_type="image/png")


@router.get("/runs/{number}/report")
def report(request: Request, number: Number) -> Response:
    """The report that a run wrote."""
    hub = hub_of(request)
    path = runs.report_path(hub.settings, found_run(hub, number).id)
    if path is None:
        raise HTTPException(404, "This run has no report yet.")
    return FileResponse(path, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})
