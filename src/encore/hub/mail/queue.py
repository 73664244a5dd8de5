"""The queue of mails: what is put here leaves when a worker comes by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm import Session as Transaction

from encore.hub.database import Base, Mail, insert_into
from encore.hub.mail.addresses import checked_address, checked_header, one_line

Kind = Literal["sign_in", "confirm", "digest"]

BLANK: dict[str, Any] = {"text": "", "html": None, "headers": {}}
"""What is left of a mail that nobody will send any more: its links work for longer than it need be kept."""

REPLACED = "the next digest tells of its days too"
"""Why a digest that waited too long has failed."""


def put(
    transaction: Transaction,
    *,
    kind: Kind,
    recipient: str,
    subject: str,
    text: str,
    html: str | None = None,
    headers: Mapping[str, str] | None = None,
    once: str | None = None,
    subscription_id: int | None = None,
) -> bool:
    """Queue a mail.

    Args:
        transaction: writing; the mail is queued if it is committed.
        kind: what the mail is.
        recipient: one address.
        subject: one line.
        text, html: the mail in both forms.
        headers: more of them, each one line.
        once: of mails with the same word, one is queued, ever.
        subscription_id: whose refusals are counted.

    Returns:
        False if `once` is there already, whoever put it.

    Raises:
        DataError: `recipient` is no address.
        ValueError: the subject or a header has a line break.
    """
    headers = dict(headers or {})
    for name, value in headers.items():
        checked_header(name, value)
    values = {
        "kind": kind,
        "recipient": checked_address(recipient),
        "subject": one_line(subject),
        "text": text,
        "html": html,
        "headers": headers,
        "once": once,
        "subscription_id": subscription_id,
    }
    return insert_unless_there(transaction, Mail, values, Mail.once)


def insert_unless_there(
    transaction: Transaction, table: type[Base], values: Mapping[str, Any], unique: InstrumentedAttribute[Any]
) -> bool:
    """Insert a row, unless one is there with the same value of `unique`; two at once insert one.

    Returns:
        Whether it was inserted.
    """
    statement = insert_into(transaction, table).values(**values).on_conflict_do_nothing(index_elements=[unique])
    return transaction.execute(statement.returning(unique)).first() is not None
