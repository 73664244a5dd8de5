"""A real mail server that can be told to misbehave."""

from __future__ import annotations

import asyncio
import email
import email.policy
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import select

from encore.hub.database import Database, Mail, Subscription
from encore.hub.database.tables import now
from encore.hub.mail import queue
from encore.hub.settings import HubSettings


@dataclass
class Behaviour:
    """How a server answers, and what it has seen.

    Attributes:
        answers: to `MAIL`, `RCPT` and `DATA` (the whole mail); it takes what is not named.
        hang_up: after which of them it closes the connection instead of answering.
        seconds: before it answers.
        at: which answer is slow.
        reached: set when the slow one has been reached.
        arrived: mails that came whole, whatever the answer was.
    """

    answers: dict[str, str] = field(default_factory=dict)
    hang_up: str = ""
    seconds: float = 0.0
    at: str = "DATA"
    reached: threading.Event = field(default_factory=threading.Event)
    arrived: list[tuple[str, EmailMessage]] = field(default_factory=list)

    async def _answer(self, server: SMTP, what: str) -> str:
        if self.seconds and self.at == what:
            self.reached.set()
            await asyncio.sleep(self.seconds)
        if self.hang_up == what:
            assert server.transport is not None
            server.transport.abort()
        return self.answers.get(what, "250 so be it")

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._answer(server, "MAIL")
        if answer.startswith("250"):
            envelope.mail_from = address
        return answer

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._answer(server, "RCPT")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.arrived += [(recipient, message) for recipient in envelope.rcpt_tos]
        return await self._answer(server, "DATA")

    @property
    def recipients(self) -> list[str]:
        return [recipient for recipient, _ in self.arrived]


class _Controller(Controller):
    options: dict[str, Any]

    def factory(self) -> SMTP:
        return SMTP(self.handler, hostname="mail.test", enable_SMTPUTF8=True, **self.options)


@pytest.fixture
def database(emptied_database: Database) -> Database:
    """An empty database of each kind."""
    return emptied_database


@pytest.fixture
def settings(tmp_path: Path, database: Database) -> HubSettings:
    """Of a hub with that database."""
    url = database.engine.url.render_as_string(hide_password=False)
    return HubSettings(folder=tmp_path, database=url, secret="s" * 40)


Start = Callable[..., tuple[Behaviour, int]]


@pytest.fixture
def start_server() -> Iterator[Start]:
    """Starts servers; each is stopped at the end."""
    started: list[_Controller] = []

    def start(behaviour: Behaviour | None = None, **options: Any) -> tuple[Behaviour, int]:
        behaviour = behaviour or Behaviour()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        ssl_context = options.pop("ssl_context", None)
        controller = _Controller(behaviour, hostname="127.0.0.1", port=port, ssl_context=ssl_context)
        controller.options = options
        controller.start()
        started.append(controller)
        return behaviour, port

    yield start
    for one in started:
        one.stop()


def mailing(settings: HubSettings, port: int, scheme: str = "smtp", login: str = "") -> HubSettings:
    """Settings that send to a server on this machine."""
    return settings.model_copy(update={"mail_url": f"{scheme}://{login}localhost:{port}"})


def queue_mail(database: Database, **given: Any) -> int:
    """Queue a mail and return its number."""
    values = {"kind": "sign_in", "recipient": "ada@example.org", "subject": "Hello", "text": "Hello.\n", **given}
    with database.writing() as transaction:
        assert queue.put(transaction, **values)
    with database.reading() as transaction:
        return max(transaction.scalars(select(Mail.id)))


def mail_of(database: Database, number: int) -> Mail:
    """A mail as the database has it now."""
    with database.reading() as transaction:
        mail = transaction.get(Mail, number)
        assert mail is not None
        return mail


def subscribe(database: Database, address: str = "ada@example.org", **given: Any) -> Subscription:
    """A subscription that is confirmed."""
    subscription = Subscription(**{"email": address, "confirmed": now(), **given})
    with database.writing() as transaction:
        transaction.add(subscription)
    return subscription


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
