"""Signing in and out, and one's own page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import func, select

from encore.hub import accounts
from encore.hub.database import Paper, Subscription, Tag, Vote
from encore.hub.subscriptions import checked_address
from encore.hub.web.answers import page
from encore.hub.web.hub import hub_of, reader_of
from encore.hub.web.security import Form, SignedIn, client_address, session_cookie, set_session

router = APIRouter(include_in_schema=False)

USED_UP = "This link is no longer good: it is older than twenty minutes, or was used. Ask for another."


Next = Annotated[str, Query(max_length=100)]


@router.get("/sign-in")
def sign_in_page(request: Request, next: Next = "") -> Response:
    """Where one asks for a link."""
    if reader_of(request) is not None:
        return RedirectResponse("/me", status_code=303)
    return page(request, "sign_in.html", with_form=True, sent=False, next=next)


@router.post("/sign-in")
def ask_for_link(request: Request, form: Form) -> Response:
    """Mail a link; the answer is the same for every address."""
    hub = hub_of(request)
    address = checked_address(form.get("email", ""))
    hub.limiter.count("sign_in_client", client_address(request))
    hub.limiter.count("sign_in_address", address)
    following = form.get("next", "")
    accounts.mail_link(hub.database, hub.settings, address, following)
    return page(request, "sign_in.html", with_form=True, sent=True, next=following)


@router.get("/sign-in/{token}")
def link_page(request: Request, token: str, next: Next = "") -> Response:
    """Where a link leads: a button, so that programs that look at mails do not use it up."""
    hub = hub_of(request)
    hub.limiter.count("link_client", client_address(request))
    address = accounts.link_address(hub.database, hub.settings, token)
    if address is None:
        raise HTTPException(404, USED_UP)
    return page(request, "link.html", with_form=True, address=address, token=token, next=next)


@router.post("/sign-in/{token}")
def use_link(request: Request, token: str, form: Form) -> Response:
    """Sign in."""
    hub = hub_of(request)
    hub.limiter.count("link_client", client_address(request))
    secret = accounts.use_link(hub.database, hub.settings, token)
    if secret is None:
        raise HTTPException(404, USED_UP)
    following = form.get("next", "")
    response = RedirectResponse(following if accounts.page_of_ours(following) else "/", status_code=303)
    set_session(response, hub.settings, secret)
    return response


@router.post("/sign-out")
def sign_out(request: Request, form: Form, reader: SignedIn) -> Response:
    """Sign out here, or everywhere."""
    hub = hub_of(request)
    accounts.sign_out(hub.database, reader.secret, everywhere=form.get("everywhere") == "1")
    return _without_session(request, "/")


def _without_session(request: Request, where: str) -> Response:
    settings = hub_of(request).settings
    response = RedirectResponse(where, status_code=303)
    response.delete_cookie(session_cookie(settings), path="/", secure=settings.https, httponly=True, samesite="lax")
    return response


@router.get("/me")
def me(request: Request, reader: SignedIn) -> Response:
    """One's own page: name, votes, tags, subscription."""
    hub = hub_of(request)
    with hub.database.reading() as transaction:
        voted = transaction.scalars(
            select(Paper).join(Vote, Vote.paper_id == Paper.id).where(Vote.user_id == reader.id)
            .order_by(Vote.created.desc()).limit(30)
        ).all()  # fmt: skip
        tags = transaction.execute(
            select(Tag.tag, func.count()).where(Tag.user_id == reader.id).group_by(Tag.tag).order_by(Tag.tag)
        ).all()
        subscription = transaction.scalars(
            select(Subscription).where(Subscription.email == reader.email, Subscription.confirmed.is_not(None))
        ).first()
    return page(request, "me.html", voted_papers=voted, own_tags=tags, subscription=subscription)


@router.post("/me")
def rename(request: Request, form: Form, reader: SignedIn) -> Response:
    """Change one's name."""
    accounts.rename(hub_of(request).database, reader.id, form.get("name", ""))
    return RedirectResponse("/me", status_code=303)


@router.post("/me/delete")
def forget(request: Request, form: Form, reader: SignedIn) -> Response:
    """Delete oneself."""
    if form.get("sure") != "yes":
        raise HTTPException(400, "Tick the box to delete your account.")
    accounts.forget(hub_of(request).database, reader.id)
    return _without_session(request, "/")
