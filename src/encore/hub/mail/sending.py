"""Sending what is queued, at most once.

A row goes `queued` → `sending`, and that is committed before its mail leaves. Whoever dies then leaves it at `sending`;
as nobody can know whether the mail left, it becomes `uncertain`, and only the admin's word sends it again. What a mail
said is forgotten as soon as it is `sent` or `failed`.

Of one subscription's digests one leaves a day, whatever day they were made for.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import case, or_, select, update
from sqlalchemy.orm import Session as Transaction

from encore.base.errors import DataError
from encore.hub.database import Database, Mail, Subscription
from encore.hub.database.tables import now
from encore.hub.mail.queue import BLANK
from encore.hub.mail.transport import Outcome, Transport, compose, open_transport
from encore.hub.settings import HubSettings
from encore.hub.tokens import CONFIRM_LIFE, LINK_LIFE

TRIES = 8
"""After which a mail that cannot leave has failed, about 13 hours after the first."""

BOUNCES = 3
"""Refusals in a row that end a subscription."""

LIVES: Mapping[str, datetime.timedelta] = {"sign_in": LINK_LIFE, "confirm": CONFIRM_LIFE}
"""Of the link that is all a mail is for; afterwards the mail is of no use."""

AFTER_DIGESTS = datetime.timedelta(hours=2)
"""After `digest_hour`, when the digests of a day are queued: those of the day before have been replaced by then."""

_FIRST_WAIT, _LONGEST_WAIT = datetime.timedelta(minutes=1), datetime.timedelta(hours=4)


@dataclass
class SendReport:
    """What became of the mails of one round.

    Attributes:
        sent: that the server took.
        failed: that nobody will try again.
        again: that wait for another try.
        uncertain: of which nobody knows.
        trouble: why the round ended early, if the server takes no mail at all.
    """

    sent: int = 0
    failed: int = 0
    again: int = 0
    uncertain: int = 0
    trouble: str = ""


def send_waiting(
    database: Database,
    settings: HubSettings,
    worker: str,
    limit: int = 50,
    *,
    transport: Transport | None = None,
) -> SendReport:
    """Send what waits, links to sign in before digests; at most `limit` mails.

    Args:
        database: the hub's.
        settings: the hub's.
        worker: who sends; no two rounds of one worker run at once.
        limit: mails of this round.
        transport: a way out to use instead of the one of `settings`; it stays open.

    Raises:
        ConfigurationError: `settings.mail_url` names no way out; nothing was taken from the queue.
    """
    report = SendReport()
    report.uncertain += mark_uncertain(database, [worker])  # an earlier round that broke off
    waiting = _waiting(database, limit)
    if not waiting:
        return report
    if transport is not None:
        _send_all(database, settings, worker, waiting, transport, report)
    else:
        with open_transport(settings) as own:
            _send_all(database, settings, worker, waiting, own, report)
    return report


def _waiting(database: Database, limit: int) -> list[int]:
    order = (case((Mail.kind == "digest", 1), else_=0), Mail.not_before, Mail.id)
    with database.reading() as transaction:
        query = select(Mail.id).where(Mail.state == "queued", Mail.not_before <= now())
        return list(transaction.scalars(query.order_by(*order).limit(limit)))


def _send_all(
    database: Database, settings: HubSettings, worker: str, waiting: list[int], transport: Transport, report: SendReport
) -> None:
    for mail_id in waiting:
        mail = _claim(database, settings, mail_id, worker)
        if mail is None:
            continue
        outcome = Outcome("uncertain", "sending broke off")
        try:
            outcome = _send(settings, mail, transport)
        finally:
            state = _settle(database, mail, outcome)
            report.sent += state == "sent"
            report.failed += state == "failed"
            report.again += state == "queued"
            report.uncertain += state == "uncertain"
        if outcome.of_server:
            report.trouble = outcome.reason
            return


def _send(settings: HubSettings, mail: Mail, transport: Transport) -> Outcome:
    try:
        message = compose(settings, mail)
        message.as_bytes()
    except (ValueError, UnicodeError) as error:
        return Outcome("refused", f"it cannot be written as a mail: {error}")
    return transport.send(message)


def _claim(database: Database, settings: HubSettings, mail_id: int, worker: str) -> Mail | None:
    """The mail, now `sending`; None if another worker has it, its day is not yet, or nobody wants it any more."""
    with database.writing() as transaction:
        query = select(Mail).where(Mail.id == mail_id, Mail.state == "queued").limit(1)
        mail = transaction.scalars(database.claimed(query)).first()
        if mail is None:
            return None
        useless = _useless(transaction, mail)
        if useless:
            for name, value in {"state": "failed", "error": useless, "finished": now(), **BLANK}.items():
                setattr(mail, name, value)
            return None
        if mail.kind == "digest" and mail.subscription_id is not None and _has_had_one(transaction, mail):
            tomorrow = datetime.datetime.combine(now().date(), datetime.time(settings.digest_hour), datetime.UTC)
            mail.not_before = tomorrow + datetime.timedelta(days=1) + AFTER_DIGESTS
            return None
        mail.state, mail.worker = "sending", worker
        mail.attempts += 1
        return mail


def _useless(transaction: Transaction, mail: Mail) -> str:
    """Why nobody wants a mail any more; empty if somebody does."""
    if mail.kind in LIVES and mail.created + LIVES[mail.kind] <= now():
        return "its link had ceased to work before it left"
    if mail.kind == "digest" and mail.subscription_id is not None:
        # held, so that two digests of one subscription are claimed one after the other
        query = select(Subscription).where(Subscription.id == mail.subscription_id).with_for_update()
        subscription = transaction.scalars(query).first()
        if subscription is None or subscription.ended is not None:
            return "its subscription ended before it left"
    return ""


def _has_had_one(transaction: Transaction, mail: Mail) -> bool:
    """Whether another digest of a subscription has left today, or may have."""
    today = datetime.datetime.combine(now().date(), datetime.time(), datetime.UTC)
    others = select(Mail.id).where(
        Mail.subscription_id == mail.subscription_id,
        Mail.kind == "digest",
        Mail.id != mail.id,
        or_(Mail.state == "sending", Mail.state.in_(("sent", "uncertain")) & (Mail.finished >= today)),
    )
    return transaction.scalars(others.limit(1)).first() is not None


def _settle(database: Database, mail: Mail, outcome: Outcome) -> str:
    """Write down what became of a mail that is `sending`, or that others took for uncertain in the meantime.

    Returns:
        Its new state.
    """
    state = {"sent": "sent", "refused": "failed", "later": "queued", "uncertain": "uncertain"}[outcome.state]
    again = now() + wait_after(mail.attempts)
    dead = mail.kind in LIVES and again >= mail.created + LIVES[mail.kind]
    if state == "queued" and (mail.attempts >= TRIES or dead):
        state = "failed"
    values: dict[str, object] = {"state": state, "error": outcome.reason if state != "sent" else None}
    if state == "queued":
        values |= {"not_before": again, "finished": None}
    else:
        values |= {"finished": now(), **(BLANK if state != "uncertain" else {})}
    with database.writing() as transaction:
        ours = (
            Mail.id == mail.id,
            Mail.state.in_(("sending", "uncertain")),
            Mail.worker == mail.worker,
            Mail.attempts == mail.attempts,
        )
        written = transaction.execute(update(Mail).where(*ours).values(**values).returning(Mail.id)).first()
        if written is not None and mail.subscription_id is not None:
            _count_bounce(transaction, mail.subscription_id, outcome)
    return state


def _count_bounce(transaction: Transaction, subscription_id: int, outcome: Outcome) -> None:
    ours = Subscription.id == subscription_id
    if outcome.state == "sent":
        transaction.execute(update(Subscription).where(ours, Subscription.bounces > 0).values(bounces=0))
    elif outcome.state == "refused" and outcome.of_recipient:
        transaction.execute(update(Subscription).where(ours).values(bounces=Subscription.bounces + 1))
        too_many = (ours, Subscription.bounces >= BOUNCES, Subscription.ended.is_(None))
        transaction.execute(update(Subscription).where(*too_many).values(ended=now()))


def wait_after(attempts: int) -> datetime.timedelta:
    """How long a mail waits after so many tries: a minute, then four times as long each time, four hours at most."""
    return min(_FIRST_WAIT * 4 ** max(attempts - 1, 0), _LONGEST_WAIT)


def mark_uncertain(database: Database, dead_workers: Collection[str]) -> int:
    """What dead workers were sending becomes uncertain.

    Returns:
        How many mails.
    """
    if not dead_workers:
        return 0
    left = select(Mail.id).where(Mail.state == "sending", Mail.worker.in_(dead_workers))
    with database.reading() as transaction:
        if transaction.scalars(left.limit(1)).first() is None:
            return 0
    values = {"state": "uncertain", "finished": now(), "error": "its worker died while sending it"}
    with database.writing() as transaction:
        changed = update(Mail).where(Mail.state == "sending", Mail.worker.in_(dead_workers)).values(**values)
        return len(transaction.scalars(changed.returning(Mail.id)).all())


def uncertain(database: Database) -> list[Mail]:
    """Mails of which nobody knows whether they left, the oldest first; the admin settles them."""
    with database.reading() as transaction:
        return list(transaction.scalars(select(Mail).where(Mail.state == "uncertain").order_by(Mail.id)))


def settle(database: Database, mail_id: int, sent: bool) -> None:
    """The admin's word on an uncertain mail: it was sent, or it is queued again.

    Raises:
        DataError: there is no such mail, or it is not uncertain.
    """
    values: dict[str, object] = {"state": "sent", "finished": now(), "error": None, **BLANK}
    if not sent:
        values = {
            "state": "queued",
            "finished": None,
            "error": None,
            "not_before": now(),
            "attempts": 0,
            "worker": None,
        }
    with database.writing() as transaction:
        changed = update(Mail).where(Mail.id == mail_id, Mail.state == "uncertain").values(**values)
        if transaction.execute(changed.returning(Mail.id)).first() is None:
            raise DataError(f"mail {mail_id} is not uncertain", "list those that are; each is settled once")
