"""Subscriptions: nothing holds before the mailed link is followed, and one click ends it."""

from __future__ import annotations

import re
import time

import pytest
from sqlalchemy import select

from encore.base.errors import DataError
from encore.hub import subscriptions
from encore.hub.database import Database, Mail, Subscription, User
from encore.hub.settings import HubSettings
from encore.hub.tokens import sign
from tests.hub.mail.conftest import subscribe


def mails(database: Database) -> list[Mail]:
    with database.reading() as transaction:
        return list(transaction.scalars(select(Mail).order_by(Mail.id)))


def row(database: Database, email: str = "ada@example.org") -> Subscription:
    with database.reading() as transaction:
        return transaction.scalars(select(Subscription).where(Subscription.email == email)).one()


def mailed_token(database: Database, place: int = -1) -> str:
    found = re.search(r"/confirm/(\S+)", mails(database)[place].text)
    assert found is not None
    return found[1]


def test_a_subscription_holds_when_the_mailed_link_is_followed(database: Database, settings: HubSettings) -> None:
    subscriptions.ask(database, settings, " Ada@Example.org", frequency="weekly", kind="search", value="masked  image")
    assert row(database).confirmed is None
    (mail,) = mails(database)
    assert (mail.kind, mail.recipient, mail.subscription_id) == ("confirm", "ada@example.org", row(database).id)
    assert "every Monday" in mail.text
    assert "“masked image”" in mail.text
    confirmed = subscriptions.confirm(database, settings, mailed_token(database))
    assert confirmed is not None
    there = row(database)
    assert there.confirmed is not None
    assert (there.frequency, there.kind, there.value) == ("weekly", "search", "masked image")


def test_confirming_twice_changes_nothing(database: Database, settings: HubSettings) -> None:
    subscriptions.ask(database, settings, "ada@example.org")
    subscriptions.confirm(database, settings, mailed_token(database))
    first = row(database).confirmed
    assert subscriptions.confirm(database, settings, mailed_token(database)) is not None
    assert row(database).confirmed == first


def test_nobody_else_changes_what_holds(database: Database, settings: HubSettings) -> None:
    subscribe(database)
    subscriptions.ask(database, settings, "ada@example.org", frequency="weekly", kind="search", value="spam")
    assert (row(database).frequency, row(database).kind, row(database).value) == ("daily", "all", "")
    subscriptions.confirm(database, settings, mailed_token(database))
    assert (row(database).frequency, row(database).kind, row(database).value) == ("weekly", "search", "spam")


def test_a_known_address_is_answered_like_an_unknown_one(database: Database, settings: HubSettings) -> None:
    subscribe(database)
    subscriptions.ask(database, settings, "ada@example.org")
    subscriptions.ask(database, settings, "bob@example.org")
    known, unknown = mails(database)
    without_link = [re.sub(r"/confirm/\S+", "", mail.text) for mail in (known, unknown)]
    assert without_link[0] == without_link[1]


def test_unsubscribing_is_one_click_and_may_be_repeated(database: Database, settings: HubSettings) -> None:
    subscription = subscribe(database)
    token = subscriptions.unsubscribe_link(settings, subscription).rpartition("/")[2]
    assert subscriptions.unsubscribe(database, settings, token) is not None
    ended = row(database).ended
    assert ended is not None
    assert subscriptions.unsubscribe(database, settings, token) is not None
    assert row(database).ended == ended


def test_an_old_confirmation_does_not_undo_unsubscribing(database: Database, settings: HubSettings) -> None:
    subscriptions.ask(database, settings, "ada@example.org")
    old = mailed_token(database)
    subscriptions.confirm(database, settings, old)
    subscriptions.unsubscribe(
        database, settings, subscriptions.unsubscribe_link(settings, row(database)).rpartition("/")[2]
    )
    assert subscriptions.confirm(database, settings, old) is None
    assert row(database).ended is not None
    subscriptions.ask(database, settings, "ada@example.org")
    assert subscriptions.confirm(database, settings, mailed_token(database)) is not None
    assert row(database).ended is None


def test_a_token_serves_its_purpose_and_its_row_only(database: Database, settings: HubSettings) -> None:
    subscription = subscribe(database)
    unsubscribe = subscriptions.unsubscribe_link(settings, subscription).rpartition("/")[2]
    confirm = subscriptions.confirm_link(settings, subscription).rpartition("/")[2]
    assert subscriptions.confirm(database, settings, unsubscribe) is None
    assert subscriptions.unsubscribe(database, settings, confirm) is None
    for forged in ("", "x", unsubscribe[:-2], unsubscribe + "A"):
        assert subscriptions.unsubscribe(database, settings, forged) is None
    elsewhere = sign(settings, "unsubscribe", [subscription.id, "bob@example.org"])
    assert subscriptions.unsubscribe(database, settings, elsewhere) is None
    assert row(database).ended is None


def test_a_confirmation_ages(database: Database, settings: HubSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    subscription = subscribe(database)
    three_days_ago = int(time.time()) - 3 * 86400 - 2
    monkeypatch.setattr("itsdangerous.timed.TimestampSigner.get_timestamp", lambda self: three_days_ago)
    confirm = subscriptions.confirm_link(settings, subscription).rpartition("/")[2]
    unsubscribe = subscriptions.unsubscribe_link(settings, subscription).rpartition("/")[2]
    monkeypatch.undo()
    assert subscriptions.confirm(database, settings, confirm) is None
    assert subscriptions.unsubscribe(database, settings, unsubscribe) is not None


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"email": "nobody"}, "no e-mail address"),
        ({"frequency": "hourly"}, "daily or weekly"),
        ({"kind": "some"}, "all, tag or search"),
        ({"kind": "search", "value": "  "}, "lacks its search"),
        ({"kind": "search", "value": "x" * 201}, "too long"),
        ({"kind": "search", "value": "x\u202ey"}, "cannot be printed"),
        ({"kind": "tag", "value": "mine"}, "sign in"),
    ],
)
def test_a_wish_that_is_not_whole_is_refused(
    database: Database, settings: HubSettings, given: dict[str, str], match: str
) -> None:
    with pytest.raises(DataError, match=match):
        subscriptions.ask(database, settings, **{"email": "ada@example.org", **given})  # type: ignore[arg-type]
    assert mails(database) == []


def test_a_tag_goes_with_its_reader(database: Database, settings: HubSettings) -> None:
    user = User(email="ada@example.org", name="ada")
    with database.writing() as transaction:
        transaction.add(user)
    subscriptions.ask(database, settings, "ada@example.org", kind="tag", value="mine", user_id=user.id)
    token = mailed_token(database)
    subscriptions.confirm(database, settings, token)
    assert row(database).user_id == user.id
    with database.writing() as transaction:
        transaction.delete(transaction.get_one(User, user.id))
    assert subscriptions.confirm(database, settings, token) is not None
    assert row(database).user_id is None
