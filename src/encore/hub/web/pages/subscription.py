"""The morning mail: asking for it, confirming, ending it."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import PlainTextResponse, Response

from encore.base.errors import InputError
from encore.hub import subscriptions
from encore.hub.web.answers import page
from encore.hub.web.hub import hub_of, reader_of
from encore.hub.web.security import Form, client_address

router = APIRouter(include_in_schema=False)


@router.get("/subscribe")
def subscribe_page(request: Request, q: str = "") -> Response:
    """Where one asks for it."""
    return page(request, "subscribe.html", with_form=True, state="", text=q[:200])


@router.post("/subscribe")
def subscribe(request: Request, form: Form) -> Response:
    """Mail a link that confirms; the answer is the same for every address."""
    hub, reader = hub_of(request), reader_of(request)
    address = subscriptions.checked_address(form.get("email", ""))
    kind = form.get("kind", "all")
    if kind == "tag" and (reader is None or reader.email != address):
        raise InputError(
            "tags are those of whoever is signed in", "sign in with this address, or subscribe to a search"
        )
    hub.limiter.count("subscribe_client", client_address(request))
    hub.limiter.count("subscribe_address", address)
    subscriptions.ask(
        hub.database,
        hub.settings,
        address,
        frequency=form.get("frequency", "daily"),
        kind=kind,
        value=form.get(kind, "") if kind != "all" else "",
        user_id=reader.id if reader is not None and reader.email == address else None,
    )
    return page(request, "subscribe.html", with_form=True, state="asked", text="")


@router.get("/confirm/{token}")
def confirm_page(request: Request, token: str) -> Response:
    """Where the mailed link leads."""
    return page(request, "confirm.html", with_form=True, token=token, what="confirm")


@router.post("/confirm/{token}")
def confirm(request: Request, token: str, form: Form) -> Response:
    """Begin a subscription."""
    hub = hub_of(request)
    hub.limiter.count("link_client", client_address(request))
    if not subscriptions.confirm(hub.database, hub.settings, token):
        raise HTTPException(404, "This link is no longer good: it is older than three days. Subscribe again.")
    return page(request, "subscribe.html", with_form=True, state="confirmed", text="")


@router.get("/unsubscribe/{token}")
def unsubscribe_page(request: Request, token: str) -> Response:
    """Where the link in a digest leads."""
    return page(request, "confirm.html", with_form=True, token=token, what="unsubscribe")


@router.post("/unsubscribe/{token}")
def unsubscribe(request: Request, token: str) -> Response:
    """End a subscription, in one click.

    Mail programs send this by themselves (RFC 8058), from no page of ours, so that the token in the address is all
    that is asked for: only the receiver of the digest has it.
    """
    hub = hub_of(request)
    if not subscriptions.unsubscribe(hub.database, hub.settings, token):
        # only what is wrong is counted: a mail provider ends subscriptions of many from one address
        hub.limiter.count("link_client", client_address(request))
        raise HTTPException(404, "This link is none of ours.")
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse("unsubscribed\n")
    return page(request, "subscribe.html", with_form=True, state="ended", text="")
