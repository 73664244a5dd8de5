"""Sending: what each thing a server can do makes of a mail, and that a kill sends nothing twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import func, select, update

from encore.base.errors import DataError
from encore.hub.database import Database, Mail, Subscription
from encore.hub.database.tables import now
from encore.hub.mail import queue, sending
from encore.hub.mail.transport import SmtpTransport
from encore.hub.settings import HubSettings
from tests.hub.mail.conftest import Behaviour, Start, mail_of, mailing, queue_mail, subscribe, wait_until


def test_a_mail_that_the_server_took_is_sent(database: Database, settings: HubSettings, start_server: Start) -> None:
    server, port = start_server()
    number = queue_mail(database)
    report = sending.send_waiting(database, mailing(settings, port), "w")
    assert (report.sent, report.trouble) == (1, "")
    mail = mail_of(database, number)
    assert (mail.state, mail.attempts, mail.worker, mail.error) == ("sent", 1, "w", None)
    assert mail.finished is not None
    assert server.recipients == ["ada@example.org"]
    assert sending.send_waiting(database, mailing(settings, port), "w").sent == 0


def test_many_mails_go_through_one_connection(database: Database, settings: HubSettings, start_server: Start) -> None:
    server, port = start_server()
    for index in range(5):
        queue_mail(database, recipient=f"reader{index}@example.org")
    assert sending.send_waiting(database, mailing(settings, port), "w", limit=3).sent == 3
    assert sending.send_waiting(database, mailing(settings, port), "w").sent == 2
    assert server.recipients == [f"reader{index}@example.org" for index in range(5)]


def test_links_to_sign_in_go_before_digests(database: Database, settings: HubSettings, start_server: Start) -> None:
    server, port = start_server()
    queue_mail(database, kind="digest", recipient="digest@example.org")
    queue_mail(database, kind="sign_in", recipient="link@example.org")
    sending.send_waiting(database, mailing(settings, port), "w")
    assert server.recipients == ["link@example.org", "digest@example.org"]


def test_a_mail_that_was_refused_is_a_bounce(database: Database, settings: HubSettings, start_server: Start) -> None:
    server, port = start_server(Behaviour(answers={"RCPT": "550 5.1.1 nobody of that name"}))
    subscription = subscribe(database)
    numbers = []
    for _ in range(sending.BOUNCES):
        with database.reading() as transaction:
            assert transaction.get_one(Subscription, subscription.id).ended is None
        numbers.append(queue_mail(database, kind="digest", subscription_id=subscription.id))
        assert sending.send_waiting(database, mailing(settings, port), "w").failed == 1
    assert {mail_of(database, number).state for number in numbers} == {"failed"}
    assert "nobody of that name" in (mail_of(database, numbers[0]).error or "")
    with database.reading() as transaction:
        there = transaction.get_one(Subscription, subscription.id)
    assert there.bounces == 3
    assert there.ended is not None
    assert server.arrived == []


def test_a_mail_that_arrives_clears_earlier_bounces(
    database: Database, settings: HubSettings, start_server: Start
) -> None:
    _, port = start_server()
    subscription = subscribe(database, bounces=2)
    queue_mail(database, kind="digest", subscription_id=subscription.id)
    sending.send_waiting(database, mailing(settings, port), "w")
    with database.reading() as transaction:
        assert transaction.get_one(Subscription, subscription.id).bounces == 0


@pytest.mark.parametrize(
    ("answers", "bounces"),
    [
        ({"DATA": "554 we dislike it"}, 1),
        ({"DATA": "550 5.7.1 your machine is on a list"}, 0),
        ({"RCPT": "550 5.7.1 we do not relay"}, 0),
    ],
)
def test_a_refusal_that_speaks_of_us_is_no_bounce(
    database: Database, settings: HubSettings, start_server: Start, answers: dict[str, str], bounces: int
) -> None:
    _, port = start_server(Behaviour(answers=answers))
    subscription = subscribe(database)
    number = queue_mail(database, kind="digest", subscription_id=subscription.id)
    sending.send_waiting(database, mailing(settings, port), "w")
    assert mail_of(database, number).state == "failed"
    with database.reading() as transaction:
        assert transaction.get_one(Subscription, subscription.id).bounces == bounces


@pytest.mark.parametrize("at", ["RCPT", "DATA"])
def test_a_server_that_says_later_is_asked_again_later(
    database: Database, settings: HubSettings, start_server: Start, at: str
) -> None:
    server, port = start_server(Behaviour(answers={at: "451 4.7.1 greylisted"}))
    number = queue_mail(database)
    before = now()
    assert sending.send_waiting(database, mailing(settings, port), "w").again == 1
    mail = mail_of(database, number)
    assert (mail.state, mail.attempts) == ("queued", 1)
    assert timedelta(seconds=55) < mail.not_before - before < timedelta(seconds=90)
    assert sending.send_waiting(database, mailing(settings, port), "w").again == 0
    _let_wait_end(database)
    server.answers.clear()
    server.arrived.clear()
    assert sending.send_waiting(database, mailing(settings, port), "w").sent == 1
    assert server.recipients == ["ada@example.org"]


def test_after_the_last_try_a_mail_has_failed(database: Database, settings: HubSettings) -> None:
    number = queue_mail(database, kind="digest")
    for attempt in range(1, sending.TRIES + 1):
        report = sending.send_waiting(database, mailing(settings, 1), "w")
        assert report.trouble
        mail = mail_of(database, number)
        assert (mail.state, mail.attempts) == ("queued" if attempt < sending.TRIES else "failed", attempt)
        _let_wait_end(database)
    assert sending.send_waiting(database, mailing(settings, 1), "w").trouble == ""


def test_a_link_that_will_be_dead_is_not_sent(database: Database, settings: HubSettings, start_server: Start) -> None:
    number = queue_mail(database, text="http://127.0.0.1/sign-in/x")
    for attempt in range(1, 5):
        sending.send_waiting(database, mailing(settings, 1), "w")
        assert mail_of(database, number).state == ("queued" if attempt < 4 else "failed")  # 1, 4, 16, 64 minutes
        _let_wait_end(database)
    _, port = start_server()
    late = [queue_mail(database, kind=kind) for kind in ("sign_in", "confirm", "digest")]
    with database.writing() as transaction:
        transaction.execute(update(Mail).where(Mail.id.in_(late)).values(created=now() - timedelta(minutes=21)))
    sending.send_waiting(database, mailing(settings, port), "w")
    assert [mail_of(database, number).state for number in late] == ["failed", "sent", "sent"]
    assert mail_of(database, late[0]).error == "its link had ceased to work before it left"


def test_what_a_mail_said_is_forgotten_when_nobody_will_send_it_any_more(
    database: Database, settings: HubSettings, start_server: Start
) -> None:
    server, port = start_server(Behaviour(hang_up="DATA"))
    given = {"html": "<p>link", "headers": {"List-Unsubscribe": "<http://x>"}}
    uncertain = queue_mail(database, **given)
    sending.send_waiting(database, mailing(settings, port), "w")
    assert mail_of(database, uncertain).html == "<p>link"
    sending.settle(database, uncertain, sent=True)
    server.hang_up = ""
    sent = queue_mail(database, **given)
    sending.send_waiting(database, mailing(settings, port), "w")
    server.answers = {"RCPT": "550 5.1.1 nobody of that name"}
    refused = queue_mail(database, **given)
    sending.send_waiting(database, mailing(settings, port), "w")
    for number in (uncertain, sent, refused):
        mail = mail_of(database, number)
        assert (mail.text, mail.html, mail.headers) == ("", None, {})
    assert server.arrived[-1][1]["List-Unsubscribe"] == "<http://x>"


def test_of_a_subscription_one_digest_leaves_a_day_whatever_day_it_is_of(
    database: Database, settings: HubSettings, start_server: Start
) -> None:
    server, port = start_server()
    one, other = subscribe(database), subscribe(database, "bob@example.org")
    given = {"kind": "digest", "subscription_id": one.id}
    late = queue_mail(database, once=f"digest:{one.id}:2026-11-26", **given)
    assert sending.send_waiting(database, mailing(settings, port), "w").sent == 1
    due = queue_mail(database, once=f"digest:{one.id}:2026-11-27", **given)
    queue_mail(database, kind="digest", subscription_id=other.id, recipient="bob@example.org")
    assert sending.send_waiting(database, mailing(settings, port), "w").sent == 1
    mail = mail_of(database, due)
    assert (mail.state, mail.attempts) == ("queued", 0)
    assert mail.not_before.date() == now().date() + timedelta(1)
    assert mail.not_before.hour == settings.digest_hour + 2
    with database.writing() as transaction:  # the next day
        transaction.execute(update(Mail).where(Mail.id == late).values(finished=now() - timedelta(1)))
        transaction.execute(update(Mail).where(Mail.id == due).values(not_before=now()))
    assert sending.send_waiting(database, mailing(settings, port), "w").sent == 1
    assert server.recipients == ["ada@example.org", "bob@example.org", "ada@example.org"]


def test_two_digests_of_a_subscription_that_are_claimed_at_once_are_one(
    database: Database, settings: HubSettings, start_server: Start
) -> None:
    server, port = start_server(Behaviour(seconds=0.3))
    subscription = subscribe(database)
    for _ in range(4):
        queue_mail(database, kind="digest", subscription_id=subscription.id)
    workers = [
        threading.Thread(target=sending.send_waiting, args=(database, mailing(settings, port), f"w{index}"))
        for index in range(4)
    ]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    assert len(server.arrived) == 1


def test_waits_grow_to_hours() -> None:
    waits = [sending.wait_after(attempt).total_seconds() for attempt in range(1, 8)]
    assert waits == [60, 240, 960, 3840, 14400, 14400, 14400]


def test_a_server_that_takes_nothing_ends_the_round(
    database: Database, settings: HubSettings, start_server: Start
) -> None:
    _, port = start_server(Behaviour(answers={"MAIL": "530 sign in first"}))
    numbers = [queue_mail(database), queue_mail(database)]
    report = sending.send_waiting(database, mailing(settings, port), "w")
    assert (report.again, report.failed) == (1, 0)
    assert "530" in report.trouble
    assert [mail_of(database, number).attempts for number in numbers] == [1, 0]


@pytest.mark.parametrize(("at", "state"), [("MAIL", "queued"), ("RCPT", "queued"), ("DATA", "uncertain")])
def test_a_lost_connection_is_uncertain_only_after_the_body(
    database: Database, settings: HubSettings, start_server: Start, at: str, state: str
) -> None:
    _, port = start_server(Behaviour(hang_up=at))
    number = queue_mail(database)
    sending.send_waiting(database, mailing(settings, port), "w")
    assert mail_of(database, number).state == state
    assert [mail.id for mail in sending.uncertain(database)] == ([number] if state == "uncertain" else [])


@pytest.mark.parametrize(("at", "state"), [("RCPT", "queued"), ("DATA", "uncertain")])
def test_a_silent_server_is_uncertain_only_after_the_body(
    database: Database, settings: HubSettings, start_server: Start, at: str, state: str
) -> None:
    _, port = start_server(Behaviour(seconds=1.5, at=at))
    number = queue_mail(database)
    with SmtpTransport("127.0.0.1", port, seconds=0.4, answer_seconds=0.4) as transport:
        sending.send_waiting(database, settings, "w", transport=transport)
    assert mail_of(database, number).state == state


def test_a_connection_that_went_stale_is_made_anew(
    database: Database, settings: HubSettings, start_server: Start
) -> None:
    server, port = start_server(timeout=0.2)
    with SmtpTransport("127.0.0.1", port) as transport:
        queue_mail(database)
        assert sending.send_waiting(database, settings, "w", transport=transport).sent == 1
        threading.Event().wait(0.5)
        queue_mail(database)
        assert sending.send_waiting(database, settings, "w", transport=transport).sent == 1
    assert len(server.arrived) == 2


def test_a_digest_whose_subscription_ended_does_not_leave(
    database: Database, settings: HubSettings, start_server: Start
) -> None:
    server, port = start_server()
    subscription = subscribe(database)
    number = queue_mail(database, kind="digest", subscription_id=subscription.id)
    with database.writing() as transaction:
        transaction.get_one(Subscription, subscription.id).ended = now()
    sending.send_waiting(database, mailing(settings, port), "w")
    assert mail_of(database, number).state == "failed"
    assert server.arrived == []


def test_once_is_once_however_many_put_it(database: Database) -> None:
    put: list[bool] = []

    def work() -> None:
        with database.writing() as transaction:
            values = {"kind": "digest", "recipient": "ada@example.org", "subject": "s", "text": "t"}
            put.append(queue.put(transaction, once="digest:1:2026-11-27", **values))  # type: ignore[arg-type]

    threads = [threading.Thread(target=work) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(put) == [False] * 7 + [True]
    with database.reading() as transaction:
        assert transaction.scalar(select(func.count(Mail.id))) == 1


def test_two_workers_send_every_mail_once(database: Database, settings: HubSettings, start_server: Start) -> None:
    server, port = start_server()
    expected = sorted(f"reader{index}@example.org" for index in range(20))
    for address in expected:
        queue_mail(database, recipient=address)
    workers = [
        threading.Thread(target=sending.send_waiting, args=(database, mailing(settings, port), f"w{index}"))
        for index in range(3)
    ]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    assert sorted(server.recipients) == expected


# kills

_SENDER = """
import sys
from encore.hub.database import Database
from encore.hub.mail.sending import send_waiting
from encore.hub.settings import HubSettings
settings = HubSettings.model_validate_json(sys.argv[1])
database = Database(settings.database_url)
while True:
    send_waiting(database, settings, sys.argv[2], limit=5)
    with database.reading() as transaction:
        from sqlalchemy import text
        if not transaction.scalar(text("SELECT count(*) FROM mails WHERE state = 'queued'")):
            break
"""


def _sender(settings: HubSettings, worker: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _SENDER, settings.model_dump_json(), worker])


@pytest.mark.parametrize("at", ["RCPT", "DATA"])
def test_a_mail_whose_sender_was_killed_is_never_sent_again_by_itself(
    database: Database, settings: HubSettings, start_server: Start, at: str
) -> None:
    server, port = start_server(Behaviour(seconds=1.0, at=at))
    number = queue_mail(database)
    process = _sender(mailing(settings, port), "first")
    assert server.reached.wait(20)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert mail_of(database, number).state == "sending"
    server.seconds = 0
    assert sending.send_waiting(database, mailing(settings, port), "second").sent == 0
    assert mail_of(database, number).state == "sending"
    assert sending.mark_uncertain(database, ["first"]) == 1
    assert sending.mark_uncertain(database, ["first"]) == 0
    assert [mail.id for mail in sending.uncertain(database)] == [number]
    assert sending.send_waiting(database, mailing(settings, port), "second").sent == 0
    assert len(server.arrived) == (1 if at == "DATA" else 0)


def test_a_worker_that_was_thought_dead_still_tells_the_truth(
    database: Database, settings: HubSettings, start_server: Start
) -> None:
    server, port = start_server(Behaviour(seconds=0.5))
    number = queue_mail(database)
    worker = threading.Thread(target=sending.send_waiting, args=(database, mailing(settings, port), "slow"))
    worker.start()
    assert server.reached.wait(10)
    assert sending.mark_uncertain(database, ["slow"]) == 1
    worker.join()
    assert mail_of(database, number).state == "sent"


def test_kills_at_any_moment_lose_nothing_and_send_nothing_twice(
    database: Database, settings: HubSettings, start_server: Start
) -> None:
    server, port = start_server(Behaviour(seconds=0.01))
    expected = {f"reader{index}@example.org" for index in range(25)}
    for address in sorted(expected):
        queue_mail(database, recipient=address)
    for round_ in range(2):
        process = _sender(mailing(settings, port), f"w{round_}")
        wait_until(partial(_have_arrived, server, len(server.arrived) + 5 + round_))
        process.send_signal(signal.SIGKILL)
        process.wait()
        sending.mark_uncertain(database, [f"w{round_}"])
    sending.send_waiting(database, mailing(settings, port), "last")
    assert len(server.recipients) == len(set(server.recipients))
    unknown = {mail.recipient for mail in sending.uncertain(database)}
    assert len(unknown) <= 2
    assert set(server.recipients) | unknown == expected
    with database.reading() as transaction:
        assert set(transaction.scalars(select(Mail.state))) <= {"sent", "uncertain"}


def test_the_admins_word_settles_an_uncertain_mail(
    database: Database, settings: HubSettings, start_server: Start
) -> None:
    server, port = start_server(Behaviour(hang_up="DATA"))
    first, second = queue_mail(database), queue_mail(database)
    assert sending.send_waiting(database, mailing(settings, port), "w").uncertain == 2
    server.hang_up = ""
    server.arrived.clear()
    sending.settle(database, first, sent=True)
    sending.settle(database, second, sent=False)
    assert [mail_of(database, number).state for number in (first, second)] == ["sent", "queued"]
    assert sending.send_waiting(database, mailing(settings, port), "w").sent == 1
    assert len(server.arrived) == 1
    with pytest.raises(DataError, match="not uncertain"):
        sending.settle(database, second, sent=False)


def _have_arrived(server: Behaviour, count: int) -> bool:
    return len(server.arrived) >= count


def _let_wait_end(database: Database) -> None:
    with database.writing() as transaction:
        transaction.execute(update(Mail).values(not_before=now()))
