"""The JSON API: what pages show, to be read by programs. It changes nothing, so that it needs no key."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from pydantic import BaseModel, ConfigDict

from encore.hub import runs as hub_runs
from encore.hub.database import Paper, Run
from encore.hub.papers import decayed_votes
from encore.hub.verdicts import Verdicts
from encore.hub.web import views
from encore.hub.web.hub import Hub, hub_of
from encore.hub.web.pages.paper import found_paper, record_of
from encore.hub.web.pages.runs import found_run
from encore.hub.web.views import Made, View

_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorOut"}}}}
    for code, text in (
        (400, "an address with NUL"),
        (401, "a tag, and nobody says whose"),
        (404, "there is none"),
        (422, "a value does not fit"),
        (429, "too often"),
    )
}

router = APIRouter(prefix="/api/v1", tags=["papers"], responses=_ERRORS)


class ErrorOut(BaseModel):
    """What went wrong, in one line."""

    detail: str


class VerdictsOut(BaseModel):
    """How many claims hold, do not, and are open."""

    hold: int
    broken: int
    open: int


class PaperOut(BaseModel):
    """A paper. `score` is its decayed votes at this moment; lists of trending papers are in its order."""

    model_config = ConfigDict(from_attributes=True)

    key: str
    title: str
    abstract: str
    authors: list[str]
    num_authors: int | None
    organisation: str | None
    arxiv: str | None
    doi: str | None
    url: str | None
    code_url: str | None
    listed_on: datetime.date
    published: datetime.date | None
    updated: datetime.date | None
    version: int | None
    tasks: list[str]
    votes: int
    outside_votes: int
    comments: int
    score: float
    slug: str | None
    performed: bool
    verdicts: VerdictsOut | None


class PapersOut(BaseModel):
    """One page of a list; `next` is the address of the following one."""

    title: str
    page: int
    papers: list[PaperOut]
    next: str | None
    total: int | None


class RunOut(BaseModel):
    """A run; `record` is its `result.json`."""

    id: int
    slug: str
    scale: str
    state: str
    created: datetime.datetime
    started: datetime.datetime | None
    finished: datetime.datetime | None
    exit_code: int | None
    error: str | None
    verdicts: VerdictsOut | None
    record: dict[str, Any] | None = None


def _paper(hub: Hub, paper: Paper) -> PaperOut:
    found = hub.catalogue.verdicts.get(paper.slug or "")
    fields = {name: getattr(paper, name) for name in PaperOut.model_fields if hasattr(paper, name)}
    return PaperOut(
        **fields,
        score=decayed_votes(paper.trend),
        performed=paper.slug in hub.catalogue.performed,
        verdicts=_verdicts(found),
    )


def _verdicts(found: Verdicts | None) -> VerdictsOut | None:
    return VerdictsOut(hold=found.hold, broken=found.broken, open=found.open) if found else None


def _run(run: Run, *, whole: bool) -> RunOut:
    record = record_of(run)
    fields = {name: getattr(run, name) for name in RunOut.model_fields if hasattr(run, name) and name != "record"}
    return RunOut(
        **fields,
        verdicts=_verdicts(Verdicts.of(record.claims)) if record else None,
        record=run.record if whole else None,
    )


def _list(request: Request, view: View, where: str) -> PapersOut:
    hub = hub_of(request)
    following = f"{hub.settings.base_url}/api/v1{where}{_query(view)}" if view.more else None
    return PapersOut(
        title=view.title,
        page=view.page,
        papers=[_paper(hub, one) for one in view.papers],
        next=following,
        total=view.total,
    )


def _query(view: View) -> str:
    return view.link(page=view.page + 1)[len(view.address) :]


@router.get("/papers", summary="Papers that trend")
def trending(request: Request, view: Annotated[Made, Depends(views.trending)]) -> PapersOut:
    """All papers, those with the most votes of late first."""
    return _list(request, view(), "/papers")


@router.get("/new", summary="New papers")
def new(request: Request, view: Annotated[Made, Depends(views.new)]) -> PapersOut:
    """All papers, the newest first."""
    return _list(request, view(), "/new")


@router.get("/search", summary="Search by words and by meaning")
def search(request: Request, view: Annotated[Made, Depends(views.search)]) -> PapersOut:
    """Papers that have the words, or mean the same."""
    return _list(request, view(), "/search")


@router.get("/day/{text}", summary="Papers of a day")
def day(request: Request, view: Annotated[Made, Depends(views.of_span("day"))]) -> PapersOut:
    """`text` is written 2026-11-27."""
    return _list(request, made := view(), made.address)


@router.get("/week/{text}", summary="Papers of a week")
def week(request: Request, view: Annotated[Made, Depends(views.of_span("week"))]) -> PapersOut:
    """`text` is written 2026-W48."""
    return _list(request, made := view(), made.address)


@router.get("/month/{text}", summary="Papers of a month")
def month(request: Request, view: Annotated[Made, Depends(views.of_span("month"))]) -> PapersOut:
    """`text` is written 2026-11."""
    return _list(request, made := view(), made.address)


_Key = Annotated[str, Path(max_length=60, description="arXiv identifier, Encore's slug, or the key of a list")]


@router.get("/papers/{key}", summary="One paper")
def paper(request: Request, key: _Key) -> PaperOut:
    """By its key."""
    hub = hub_of(request)
    return _paper(hub, found_paper(hub, key))


@router.get("/papers/{key}/similar", summary="Similar papers")
def similar(request: Request, key: _Key, limit: Annotated[int, Query(ge=1, le=50)] = 6) -> list[PaperOut]:
    """The most similar first."""
    hub = hub_of(request)
    return [_paper(hub, one) for one in hub.finder.similar(found_paper(hub, key).id, limit)]


@router.get("/papers/{key}/runs", summary="Runs of a paper", tags=["runs"])
def runs_of(request: Request, key: _Key, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[RunOut]:
    """The newest first, without their records."""
    hub = hub_of(request)
    paper = found_paper(hub, key)
    with hub.database.reading() as transaction:
        found = hub_runs.of_paper(transaction, paper.slug, limit) if paper.slug else []
    return [_run(one, whole=False) for one in found]


@router.get("/runs/{number}", summary="One run", tags=["runs"])
def run(request: Request, number: Annotated[int, Path(ge=1, lt=2**31)]) -> RunOut:
    """With its record."""
    return _run(found_run(hub_of(request), number), whole=True)


@router.get("/claims/{slug}", summary="A paper's claims and what was measured", tags=["runs"])
def claims(request: Request, slug: _Key) -> dict[str, Any]:
    """The card, and the record that comes with Encore; null where the paper is planned."""
    hub = hub_of(request)
    card = hub.catalogue.cards.get(slug)
    if card is None:
        raise HTTPException(404, f"Encore has no card '{slug}'.")
    record = hub.catalogue.records.get(slug)
    return {"card": card.model_dump(mode="json"), "record": record.model_dump(mode="json") if record else None}
