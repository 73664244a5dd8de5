"""Subscriptions: asked for on a page, meant only when the mailed link is followed, ended by one click."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session as Transaction

from encore.base.errors import DataError
from encore.hub.database import Database, Subscription, User
from encore.hub.database.tables import now
from encore.hub.mail import messages, queue
from encore.hub.mail.addresses import checked_address
from encore.hub.settings import HubSettings
from encore.hub.tokens import CONFIRM_LIFE, sign, unsign

__all__ = [
    "Frequency",
    "Kind",
    "ask",
    "checked_address",
    "confirm",
    "confirm_link",
    "headers",
    "unsubscribe",
    "unsubscribe_link",
]

Frequency = Literal["daily", "weekly"]
Kind = Literal["all", "tag", "search"]

LONGEST_VALUE = 200
"""Characters of a search; a tag has 40."""


def ask(
    database: Database,
    settings: HubSettings,
    email: str,
    *,
    frequency: str = "daily",
    kind: str = "all",
    value: str = "",
    user_id: int | None = None,
) -> None:
    """Mail a link that begins a subscription, or changes the one there is.

    What is wished for travels in the link: nothing of a subscription changes before it is followed, and nobody learns
    here whether there is one.

    Args:
        database: the hub's.
        settings: the hub's.
        email: where the digest shall go.
        frequency: `daily` or `weekly`.
        kind: `all`, `tag` or `search`.
        value: the tag or the search.
        user_id: who is signed in; a tag is somebody's.

    Raises:
        DataError: the address is none, or the wish is not whole.
    """
    address = checked_address(email)
    wished = {**_checked_wish(frequency, kind, value, user_id), "email": address}
    row = {**wished, "created": now()}
    with database.writing() as transaction:
        queue.insert_unless_there(transaction, Subscription, row, Subscription.email)
        query = select(Subscription).where(Subscription.email == address).with_for_update()
        subscription = transaction.scalars(query).one()
        if subscription.confirmed is None:
            for name, content in wished.items():
                setattr(subscription, name, content)
        link = confirm_link(settings, subscription, wished)
        subject, text, html = messages.confirm(settings, link, Subscription(**wished))
        queue.put(
            transaction,
            kind="confirm",
            recipient=address,
            subject=subject,
            text=text,
            html=html,
            subscription_id=subscription.id,
        )


def _checked_wish(frequency: str, kind: str, value: str, user_id: int | None) -> dict[str, Any]:
    if frequency not in {"daily", "weekly"}:
        raise DataError(f"a digest does not come '{frequency[:20]}'", "choose daily or weekly")
    if kind not in {"all", "tag", "search"}:
        raise DataError(f"there is no digest of kind '{kind[:20]}'", "choose all, tag or search")
    value = "" if kind == "all" else " ".join(value.split())
    if kind != "all" and not value:
        raise DataError(f"a digest by {kind} lacks its {kind}", f"say which {kind}")
    longest = 40 if kind == "tag" else LONGEST_VALUE
    if len(value) > longest or not value.isprintable():
        raise DataError(f"the {kind} is too long or cannot be printed", f"take at most {longest} characters")
    if kind == "tag" and user_id is None:
        raise DataError("tags belong to a reader", "sign in first")
    return {"frequency": frequency, "kind": kind, "value": value, "user_id": user_id}


def confirm_link(settings: HubSettings, subscription: Subscription, wished: dict[str, Any] | None = None) -> str:
    """The link that makes a wish hold; without `wished` it is what the row says."""
    fields = {name: getattr(subscription, name) for name in ("email", "frequency", "kind", "value", "user_id")}
    ended = subscription.ended.isoformat() if subscription.ended else None
    content = {**fields, **(wished or {}), "id": subscription.id, "ended": ended}
    return f"{settings.base_url}/confirm/{sign(settings, 'confirm', content)}"


def unsubscribe_link(settings: HubSettings, subscription: Subscription) -> str:
    """The link that ends a subscription, for as long as mails are kept."""
    token = sign(settings, "unsubscribe", [subscription.id, subscription.email])
    return f"{settings.base_url}/unsubscribe/{token}"


def headers(settings: HubSettings, subscription: Subscription, link: str | None = None) -> dict[str, str]:
    """What a digest says to mail programs: how to unsubscribe by one click (RFC 8058), and which list it is."""
    domain = settings.mail_from.rpartition("@")[2].strip("> ") or "localhost"
    return {
        "List-Unsubscribe": f"<{link or unsubscribe_link(settings, subscription)}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Id": f"<digest.{domain}>",
    }


def confirm(database: Database, settings: HubSettings, token: str) -> Subscription | None:
    """Make a wish hold; doing so twice changes nothing.

    A link that was mailed before the subscription was ended does not begin it again.

    Returns:
        The subscription; None if the token is forged or old, or the subscription was ended since.
    """
    content = unsign(settings, "confirm", token, int(CONFIRM_LIFE.total_seconds()))
    if not isinstance(content, dict):
        return None
    with database.writing() as transaction:
        query = select(Subscription).where(Subscription.id == content["id"], Subscription.email == content["email"])
        subscription = transaction.scalars(query.with_for_update()).first()
        if subscription is None:
            return None
        if subscription.ended is not None and subscription.ended.isoformat() != content["ended"]:
            return None
        user_id = content["user_id"]
        subscription.frequency, subscription.kind = content["frequency"], content["kind"]
        subscription.value = content["value"]
        subscription.user_id = user_id if user_id is not None and _is_there(transaction, user_id) else None
        if subscription.confirmed is None or subscription.ended is not None:
            subscription.confirmed, subscription.last_day = now(), None
        subscription.ended, subscription.bounces = None, 0
        return subscription


def _is_there(transaction: Transaction, user_id: int) -> bool:
    return transaction.scalar(select(User.id).where(User.id == user_id)) is not None


def unsubscribe(database: Database, settings: HubSettings, token: str) -> Subscription | None:
    """End a subscription; doing so twice changes nothing. Digests that wait for it do not leave.

    Returns:
        The subscription; None if the token is forged or the row is gone.
    """
    with database.writing() as transaction:
        subscription = _of_unsubscribe(transaction, settings, token)
        if subscription is not None and subscription.ended is None:
            subscription.ended = now()
        return subscription


def _of_unsubscribe(transaction: Transaction, settings: HubSettings, token: str) -> Subscription | None:
    content = unsign(settings, "unsubscribe", token, None)
    if not isinstance(content, list) or len(content) != 2:
        return None
    query = select(Subscription).where(Subscription.id == content[0], Subscription.email == content[1])
    return transaction.scalars(query).first()
