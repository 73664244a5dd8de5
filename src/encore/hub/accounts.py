"""Readers without passwords: a mailed link, used once, opens a session."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from urllib.parse import urlencode

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session as Transaction

from encore.base.errors import InputError
from encore.hub.database import Comment, Database, Mail, Session, Subscription, User, Vote
from encore.hub.database.connection import insert_into
from encore.hub.database.tables import now
from encore.hub.mail import messages, queue
from encore.hub.settings import HubSettings
from encore.hub.subscriptions import checked_address
from encore.hub.tokens import LINK_LIFE as LINK_LIFE
from encore.hub.tokens import digest_of, new_secret, sign, unsign
from encore.hub.trending import held, refresh_counts

SESSION_LIFE = datetime.timedelta(days=60)
"""Of a session; used within its second half it begins anew."""

NAME = re.compile(r"[\w][\w .-]{1,38}[\w.]", re.UNICODE)
"""What a reader may be called."""


@dataclass(frozen=True)
class Reader:
    """Who is signed in.

    Attributes:
        id: of the user.
        name: what others see.
        email: what others do not.
        secret: of the session, which forms are bound to.
    """

    id: int
    name: str
    email: str
    secret: str


def mail_link(database: Database, settings: HubSettings, email: str, following: str = "") -> None:
    """Queue a mail with a link that signs in; the same happens whether the address is known or not.

    Args:
        database: the hub's.
        settings: the hub's.
        email: where the link goes.
        following: the page of ours that is shown afterwards, see `page_of_ours`.

    Raises:
        InputError: it is no address.
    """
    address = checked_address(email)
    link = make_link(database, settings, address)
    if page_of_ours(following):
        link += "?" + urlencode({"next": following})
    subject, text, html = messages.sign_in(settings, link)
    with database.writing() as transaction:
        queue.put(transaction, kind="sign_in", recipient=address, subject=subject, text=text, html=html)


def page_of_ours(path: str) -> bool:
    """Whether signing in may lead to a path: a paper's or a run's page, and no other."""
    return re.fullmatch(r"/(papers|runs)/[\w.-]{1,60}", path, re.ASCII) is not None


def make_link(database: Database, settings: HubSettings, address: str) -> str:
    """A link that signs the holder in as `address`, once, within `LINK_LIFE`."""
    secret = new_secret()
    with database.writing() as transaction:
        transaction.add(Session(digest=digest_of(secret), kind="link", email=address, expires=now() + LINK_LIFE))
    return f"{settings.base_url}/sign-in/{sign(settings, 'sign-in', secret)}"


def link_address(database: Database, settings: HubSettings, token: str) -> str | None:
    """Whom a link signs in; None if it is forged, old or used."""
    secret = unsign(settings, "sign-in", token, int(LINK_LIFE.total_seconds()))
    if not isinstance(secret, str):
        return None
    with database.reading() as transaction:
        link = transaction.get(Session, digest_of(secret))
        return link.email if link is not None and link.kind == "link" and link.expires > now() else None


def use_link(database: Database, settings: HubSettings, token: str) -> str | None:
    """Open a session with a link, which is no link afterwards; a new address becomes a user.

    Returns:
        The session's secret for the browser's cookie; None if the link cannot be used, or its user is banned.
    """
    secret = unsign(settings, "sign-in", token, int(LINK_LIFE.total_seconds()))
    if not isinstance(secret, str):
        return None
    with database.writing() as transaction:
        used = transaction.execute(
            delete(Session)
            .where(Session.digest == digest_of(secret), Session.kind == "link", Session.expires > now())
            .returning(Session.email)
        ).first()
        if used is None:
            return None
        new = insert_into(transaction, User).values(email=used.email, name="reader", banned=False, created=now())
        transaction.execute(new.on_conflict_do_nothing())  # several links of one address may be used at once
        user = transaction.scalars(select(User).where(User.email == used.email)).one()
        if user.name == "reader":
            user.name = f"reader {user.id}"
        if user.banned:
            return None
        own = new_secret()
        transaction.add(Session(digest=digest_of(own), kind="session", user_id=user.id, expires=now() + SESSION_LIFE))
        return own


def reader_of(database: Database, secret: str) -> Reader | None:
    """Who holds a session's secret; None if nobody does any more."""
    with database.reading() as transaction:
        row = transaction.execute(
            select(User.id, User.name, User.email, Session.expires)
            .join(Session, Session.user_id == User.id)
            .where(Session.digest == digest_of(secret), Session.kind == "session", User.banned.is_(False))
        ).first()
    if row is None or row.expires < now():
        return None
    if row.expires - now() < SESSION_LIFE / 2:
        with database.writing() as transaction:
            session = transaction.get(Session, digest_of(secret))
            if session is not None:
                session.expires = now() + SESSION_LIFE
    return Reader(row.id, row.name, row.email, secret)


def sign_out(database: Database, secret: str, *, everywhere: bool = False) -> None:
    """End a session, or all of its user."""
    with database.writing() as transaction:
        session = transaction.get(Session, digest_of(secret))
        if session is None:
            return
        if everywhere:
            transaction.execute(delete(Session).where(Session.user_id == session.user_id))
        else:
            transaction.delete(session)


def rename(database: Database, user_id: int, name: str) -> str:
    """Change what others see of a reader.

    Raises:
        InputError: the name is too short or long, or has signs that are no letters, digits, spaces, dots or dashes.
    """
    name = " ".join(name.split())
    if not NAME.fullmatch(name):
        raise InputError(f"'{name[:40]}' cannot be a name", "take 3 to 40 letters, digits, spaces, dots or dashes")
    with database.writing() as transaction:
        user = transaction.get(User, user_id)
        assert user is not None
        user.name = name
    return name


def forget(database: Database, user_id: int) -> None:
    """Delete a reader with everything that is theirs: sessions, votes, tags, comments, mails that wait.

    Their subscription ends; its row stays, so that no digest of today is sent a second time.
    """
    with database.writing() as transaction:
        user = transaction.scalars(select(User).where(User.id == user_id).with_for_update()).first()
        if user is None:
            return
        transaction.execute(delete(Mail).where(Mail.recipient == user.email, Mail.state == "queued"))
        going_on = (Subscription.email == user.email, Subscription.ended.is_(None))
        transaction.execute(update(Subscription).where(*going_on).values(ended=now()))
        touched = papers_touched(transaction, user_id)
        held(transaction, touched)
        touched += papers_touched(transaction, user_id)  # two papers may have become one in the meantime
        transaction.delete(user)
        transaction.flush()
        refresh_counts(transaction, touched)


def papers_touched(transaction: Transaction, user_id: int) -> list[int]:
    """Papers whose counts a reader's votes and comments are in."""
    voted = transaction.scalars(select(Vote.paper_id).where(Vote.user_id == user_id))
    commented = transaction.scalars(select(Comment.paper_id).where(Comment.user_id == user_id))
    return sorted({*voted, *commented})
