"""A paper's page, and what readers do on it: vote, comment, tag, submit another."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session as Transaction

from encore.base.errors import InputError
from encore.hub import comments, jobs, papers, runs
from encore.hub.accounts import Reader
from encore.hub.database import Database, Paper, Run, Tag, User
from encore.hub.database.connection import insert_into
from encore.hub.database.tables import now
from encore.hub.papers import arxiv_identifier
from encore.hub.web.answers import back, is_partial, page
from encore.hub.web.hub import Hub, hub_of, reader_of
from encore.hub.web.security import Form, SignedIn, form_token
from encore.results.record import ResultRecord

_log = logging.getLogger(__name__)

router = APIRouter(include_in_schema=False)

MOST_TAGS = 20
"""Of one reader on one paper."""

Number = Annotated[int, Path(ge=1, lt=2**31)]

Key = Annotated[str, Path(max_length=60)]


def found_paper(hub: Hub, key: str) -> Paper:
    """The paper that an address names.

    Raises:
        HTTPException: 404, there is none.
    """
    with hub.database.reading() as transaction:
        return _found(transaction, key)


def _found(transaction: Transaction, key: str) -> Paper:
    paper = papers.paper_of(transaction, key)
    if paper is None:
        raise HTTPException(404, f"There is no paper '{key}' here. You can submit it if it is on arXiv.")
    return paper


@router.get("/papers/{key}")
def show(request: Request, key: Key) -> Response:
    """Abstract, claims beside measurements, comments, runs."""
    hub, reader = hub_of(request), reader_of(request)
    with hub.database.reading() as transaction:
        paper = _found(transaction, key)
        if key != paper.key:
            return RedirectResponse(f"/papers/{paper.key}", status_code=308)
        said = comments.of_paper(transaction, paper)
        voted = papers.voted(transaction, reader.id, [paper]) if reader else set()
        tags = _tags(transaction, reader, paper)
        performed = _performed(hub, transaction, paper)
    return page(request, "paper.html", paper=paper, said=said, voted=voted, tags=tags, **performed)


@router.get("/papers/{key}/similar")
def similar(request: Request, key: Key) -> Response:
    """Papers like it: a part of its page that comes when it is looked at, or a page of its own."""
    hub = hub_of(request)
    paper = found_paper(hub, key)
    name = "similar.html" if is_partial(request) else "similar_page.html"
    return page(request, name, paper=paper, similar=hub.finder.similar(paper.id, 6))


def _performed(hub: Hub, transaction: Transaction, paper: Paper) -> dict[str, Any]:
    """What Encore knows of the paper: its card, the published record, the newest run here, and earlier ones."""
    card = hub.catalogue.cards.get(paper.slug or "")
    if card is None:
        return {"card": None, "published": None, "last": None, "last_record": None, "runs": [], "scales": ()}
    last = runs.latest(transaction, card.slug)
    return {
        "card": card,
        "published": hub.catalogue.records.get(card.slug),
        "last": last,
        "last_record": record_of(last),
        "runs": runs.of_paper(transaction, card.slug, 10),
        "scales": hub.settings.run_scales if card.state == "performed" else (),
    }


def record_of(run: Run | None) -> ResultRecord | None:
    """What a run measured; None where nothing was, or an Encore of another version wrote it down."""
    if run is None or run.record is None:
        return None
    try:
        return ResultRecord.model_validate(run.record)
    except ValidationError:
        _log.warning("the record of run %d is of another version of Encore", run.id)
        return None


def _tags(transaction: Transaction, reader: Reader | None, paper: Paper) -> list[str]:
    if reader is None:
        return []
    own = select(Tag.tag).where(Tag.user_id == reader.id, Tag.paper_id == paper.id).order_by(Tag.tag)
    return list(transaction.scalars(own))


# what readers do


def changed_interests(database: Database, reader: Reader) -> None:
    """Have what is recommended made anew."""
    with database.writing() as transaction:
        user = transaction.get(User, reader.id)
        if user is not None:
            user.interests_changed = now()
            jobs.put(transaction, "recommend", {"user_id": reader.id}, once=f"recommend:{reader.id}", user_id=reader.id)


@router.post("/papers/{key}/vote")
def vote(request: Request, key: Key, form: Form, reader: SignedIn) -> Response:
    """Give a vote, or take it back."""
    hub = hub_of(request)
    hub.limiter.count("vote", str(reader.id))
    paper = found_paper(hub, key)
    wanted = form.get("wanted", "1") == "1"
    try:
        paper.votes = papers.vote(hub.database, reader.id, paper.id, wanted=wanted)
    except ValueError:
        raise HTTPException(404, "This paper has just become one with another. Look for it again.") from None
    changed_interests(hub.database, reader)
    if not is_partial(request):
        return back(request, f"/papers/{paper.key}")
    voted = {paper.id} if wanted else set()
    token = form_token(request)
    return HTMLResponse(
        hub.render("vote.html", paper=paper, voted=voted, reader=reader, form_token=token, path=f"/papers/{paper.key}")
    )


@router.post("/papers/{key}/comments")
def comment(request: Request, key: Key, form: Form, reader: SignedIn) -> Response:
    """Add a comment."""
    hub = hub_of(request)
    hub.limiter.count("comment", str(reader.id))
    paper = found_paper(hub, key)
    added = comments.add(hub.database, reader.id, paper.id, form.get("body", ""))
    return RedirectResponse(f"/papers/{paper.key}#comment-{added.id}", status_code=303)


@router.post("/comments/{number}/delete")
def delete_comment(request: Request, number: Number, form: Form, reader: SignedIn) -> Response:
    """Take back one's own comment."""
    if not comments.remove(hub_of(request).database, number, user_id=reader.id):
        raise HTTPException(404, "That is no comment of yours.")
    return back(request, "/")


@router.post("/papers/{key}/tags")
def tag(request: Request, key: Key, form: Form, reader: SignedIn) -> Response:
    """Add a tag, or take it off."""
    hub = hub_of(request)
    hub.limiter.count("tag", str(reader.id))
    paper = found_paper(hub, key)
    word = " ".join(form.get("tag", "").lower().split())
    if not 1 <= len(word) <= 40 or not word.isprintable():
        raise InputError("a tag has 1 to 40 characters", "write a word or two")
    with hub.database.writing() as transaction:
        if form.get("wanted", "1") != "1":
            transaction.execute(delete(Tag).where(Tag.user_id == reader.id, Tag.paper_id == paper.id, Tag.tag == word))
        elif word not in (own := _tags(transaction, reader, paper)):
            if len(own) >= MOST_TAGS:
                raise InputError(f"a paper can have {MOST_TAGS} of your tags", "take one off first")
            added = insert_into(transaction, Tag).values(user_id=reader.id, paper_id=paper.id, tag=word, created=now())
            transaction.execute(added.on_conflict_do_nothing())
    changed_interests(hub.database, reader)
    return RedirectResponse(f"/papers/{paper.key}#tags", status_code=303)


@router.get("/submit")
def submit_page(request: Request) -> Response:
    """Where a paper is submitted."""
    return page(request, "submit.html", text="", waiting=None)


@router.post("/submit")
def submit(request: Request, form: Form, reader: SignedIn) -> Response:
    """Ask for a paper of arXiv; a worker fetches it from there."""
    hub = hub_of(request)
    text = form.get("paper", "")[:300]
    found = arxiv_identifier(text)
    if found is None:
        raise InputError(
            f"'{text[:80]}' is no arXiv identifier", "give one like 2111.11632, or an address of arxiv.org"
        )
    identifier = found[0]
    with hub.database.reading() as transaction:
        known = transaction.scalars(select(Paper).where(Paper.arxiv == identifier)).first()
    if known is not None:
        return RedirectResponse(f"/papers/{known.key}", status_code=303)
    hub.limiter.count("submit", str(reader.id))
    with hub.database.writing() as transaction:
        jobs.put(transaction, "submit", {"arxiv": identifier}, once=f"submit:{identifier}", user_id=reader.id)
    return RedirectResponse(f"/submitted/{identifier}", status_code=303)


@router.get("/submitted/{identifier:path}")
def submitted(request: Request, identifier: str) -> Response:
    """How far a submission is."""
    hub = hub_of(request)
    found = arxiv_identifier(identifier)
    if found is None:
        raise HTTPException(404, "That is no arXiv identifier.")
    with hub.database.reading() as transaction:
        known = transaction.scalars(select(Paper).where(Paper.arxiv == found[0])).first()
        job = jobs.newest(transaction, "submit", {"arxiv": found[0]})
    if known is not None:
        return RedirectResponse(f"/papers/{known.key}", status_code=303)
    if job is None:
        raise HTTPException(404, "Nobody has submitted that paper.")
    return page(request, "submit.html", text=found[0], waiting=job)
