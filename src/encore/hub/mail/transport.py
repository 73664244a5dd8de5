"""How mails leave: over SMTP, or into a Maildir on this machine.

Whoever sends must know afterwards whether a mail has left. Over SMTP that is decided by how far the talk had come:

| what happened                                       | the mail                                  |
|-----------------------------------------------------|-------------------------------------------|
| no connection, TLS or sign-in; MAIL refused         | has not left; the server takes none today |
| RCPT, DATA or the body answered 4xx                 | has not left; may be tried again          |
| RCPT, DATA or the body answered 5xx                 | is refused                                |
| connection lost or silent before the body was begun | has not left; may be tried again          |
| connection lost or silent after that                | may have left: nobody knows               |
"""

from __future__ import annotations

import asyncio
import hashlib
import mailbox
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from email.headerregistry import Address, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.policy import Policy
from email.utils import format_datetime, parseaddr
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from aiosmtplib import SMTP, SMTPException, SMTPRecipientRefused, SMTPResponseException

from encore.base.errors import ConfigurationError, DataError
from encore.base.files import unwritable
from encore.hub.database import Mail
from encore.hub.mail.addresses import checked_address, checked_header, one_line
from encore.hub.settings import HubSettings

SECONDS = 30.0
"""For which a server may think about a command."""

ANSWER_SECONDS = 300.0
"""For which it may think about a whole mail. Long, since what is not answered is uncertain."""

LONGEST_LINE = 990
"""Characters of a header's line; SMTP takes 998."""

PORTS = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}


@dataclass(frozen=True)
class Outcome:
    """What became of a mail.

    Attributes:
        state: `sent`; `refused` for good; `later`: has not left and may be tried again; `uncertain`.
        reason: the server's words, or what went wrong.
        of_recipient: whether a refusal speaks of the recipient, not of us.
        of_server: whether other mails would meet the same.
    """

    state: Literal["sent", "refused", "later", "uncertain"]
    reason: str = ""
    of_recipient: bool = False
    of_server: bool = False


def compose(settings: HubSettings, mail: Mail) -> EmailMessage:
    """The message of a queued mail. Its Message-ID stays the same however often it is tried.

    Raises:
        ValueError: a header would hold a line break.
    """
    name, sender = parseaddr(settings.mail_from)
    beyond_ascii = not (sender + mail.recipient).isascii()
    policy = SMTP_POLICY.clone(utf8=beyond_ascii, cte_type="7bit", header_factory=_unfolded(mail.headers))
    message = EmailMessage(policy=policy)
    message["From"] = _address(name, sender)
    message["To"] = _address("", mail.recipient)
    message["Subject"] = one_line(mail.subject)
    message["Date"] = format_datetime(mail.created)
    mark = hashlib.sha256(f"{settings.secret}|mail|{mail.id}|{mail.created.isoformat()}".encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{mail.id}.{mark}@{sender.rpartition('@')[2] or 'localhost'}>"
    message["Auto-Submitted"] = "auto-generated"
    for header, value in mail.headers.items():
        message[header] = checked_header(header, value)
    message.set_content(mail.text)
    if mail.html is not None:
        message.add_alternative(mail.html, subtype="html")
    return message


class _Unfolded(UnstructuredHeader):
    """A header on one line, as it is. Python's own way encodes words that are longer than a line, such as addresses of
    pages, and then no mail program finds the one to unsubscribe at."""

    def fold(self, *, policy: Policy) -> str:
        """`Name: value`."""
        return f"{self.name}: {self}{policy.linesep}"  # type: ignore[attr-defined]


def _unfolded(headers: Mapping[str, str]) -> HeaderRegistry:
    """How a message writes its headers: some on one line, all others as usual."""
    registry = HeaderRegistry()
    for name, value in headers.items():
        if value.isascii() and len(name) + len(value) < LONGEST_LINE:
            registry.map_to_type(name, _Unfolded)  # type: ignore[arg-type]  # it adds the base class itself
    return registry


def _address(name: str, address: str) -> Address:
    local, _, domain = one_line(address).rpartition("@")
    return Address(one_line(name), local, domain)


class Transport(ABC):
    """A way out, used as a context; `send` never raises for what a server does."""

    @abstractmethod
    def send(self, message: EmailMessage) -> Outcome:
        """Send a message to the one address of its `To`."""

    def close(self) -> None:  # noqa: B027 -- a folder needs no goodbye
        """Say goodbye."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class OutboxTransport(Transport):
    """A Maildir, for machines that send no mail: every mail client can open it.

    Args:
        folder: made where it is missing.

    Raises:
        RunFolderError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._maildir = mailbox.Maildir(folder, factory=None, create=True)
        except OSError as error:
            raise unwritable(folder, error) from error

    def send(self, message: EmailMessage) -> Outcome:
        """Write it; a Maildir shows a message when it is whole."""
        try:
            self._maildir.add(message.as_bytes(policy=message.policy.clone(linesep="\n")))
        except OSError as error:
            return Outcome("later", f"the outbox cannot be written: {error.strerror or error}", of_server=True)
        return Outcome("sent")


class SmtpTransport(Transport):
    """A server; one connection carries one mail after another. Needs a thread without a running event loop.

    Args:
        host, port: of the server.
        tls: from the first byte, by STARTTLS, or none.
        user, password: for signing in; null signs in nowhere.
        seconds: for which a command may take.
        answer_seconds: for which a whole mail may.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: Literal["implicit", "starttls", "none"] = "none",
        user: str | None = None,
        password: str | None = None,
        *,
        seconds: float = SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._options = {
            "hostname": host,
            "port": port,
            "use_tls": tls == "implicit",
            "start_tls": tls == "starttls",
            "username": user,
            "password": password,
            "timeout": seconds,
        }
        self._answer_seconds = answer_seconds
        self._client: SMTP | None = None
        self._loop = asyncio.Runner()

    def send(self, message: EmailMessage) -> Outcome:
        """Send; a connection that has carried a mail and is then found closed is made anew once."""
        used = self._client is not None
        outcome = self._loop.run(self._send(message))
        if outcome.of_server and used:
            outcome = self._loop.run(self._send(message))
        return outcome

    async def _send(self, message: EmailMessage) -> Outcome:
        try:
            client = await self._connected()
        except (SMTPException, OSError, ValueError) as error:
            await self._hang_up()
            return Outcome("later", _words(error), of_server=True)
        try:
            refusal = await self._envelope(client, message)
        except (SMTPException, OSError, ValueError) as error:
            refusal = _before_body(error)
        if refusal is None:
            return await self._body(client, message)
        await self._hang_up()
        return refusal

    async def _connected(self) -> SMTP:
        if self._client is None or not self._client.is_connected:
            self._client = SMTP(**self._options)  # type: ignore[arg-type]
            await self._client.connect()
        return self._client

    async def _envelope(self, client: SMTP, message: EmailMessage) -> Outcome | None:
        """MAIL, RCPT and DATA; None if the server now waits for the body."""
        sender, recipient = (message[name].addresses[0].addr_spec for name in ("From", "To"))
        options, encoding = [], "ascii"
        if not (sender + recipient).isascii():
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()
            if not client.supports_extension("smtputf8"):
                return Outcome("refused", "the server takes no addresses beyond ASCII")
            options, encoding = ["SMTPUTF8"], "utf-8"
        await client.mail(sender, options=options, encoding=encoding)
        await client.rcpt(recipient, encoding=encoding)
        answer = await client.execute_command(b"DATA")
        return None if answer.code == 354 else _refusal(answer.code, answer.message)

    async def _body(self, client: SMTP, message: EmailMessage) -> Outcome:
        protocol = client.protocol
        if protocol is None:
            await self._hang_up()
            return Outcome("later", "the connection was lost before the mail was begun")
        body = re.sub(rb"(?m)^\.", b"..", message.as_bytes())
        try:
            protocol.write(body + (b"" if body.endswith(b"\r\n") else b"\r\n") + b".\r\n")
        except SMTPException as error:  # it was closed already, and nothing of the body was written
            await self._hang_up()
            return Outcome("later", _words(error), of_server=True)
        try:
            answer = await protocol.read_response(timeout=self._answer_seconds)
        except (SMTPException, OSError) as error:
            await self._hang_up()
            return Outcome("uncertain", f"no answer after the mail was handed over: {_words(error)}")
        if 200 <= answer.code < 300:
            return Outcome("sent", " ".join(answer.message.split()))
        await self._hang_up()
        if not 400 <= answer.code < 600:
            return Outcome("uncertain", f"an answer that means nothing: {answer.code} {answer.message}")
        return _refusal(answer.code, answer.message)

    async def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        try:
            if client.is_connected:
                await client.quit(timeout=2)
        except (SMTPException, OSError):
            pass  # it is closed either way, and every outcome is known by now
        finally:
            client.close()

    def close(self) -> None:
        """Say goodbye and end the loop."""
        self._loop.run(self._hang_up())
        self._loop.close()


def _before_body(error: Exception) -> Outcome:
    """What an error means that came before the body was begun: the mail has not left."""
    if isinstance(error, SMTPRecipientRefused):
        return _refusal(error.code, error.message)
    if isinstance(error, ValueError) and not isinstance(error, OSError):  # errors of TLS are both
        return Outcome("refused", f"the address cannot be written to a server: {error}")
    return Outcome("later", _words(error), of_server=True)


def _refusal(code: int, message: str) -> Outcome:
    """What an answer to RCPT, DATA or the body means.

    An enhanced code of class 7 (RFC 3463: security and policy) speaks of us: that we may not relay, say.
    """
    words = " ".join(f"{code} {message}".split())
    if 500 <= code < 600:
        return Outcome("refused", words, of_recipient=not re.match(r"5\.7\.", message))
    return Outcome("later", words)


def _words(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return f"{error.code} {words}" if isinstance(error, SMTPResponseException) else words


def open_transport(settings: HubSettings) -> Transport:
    """The way out that `settings.mail_url` names.

    Raises:
        ConfigurationError: it names none, or `settings.mail_from` is no sender.
        RunFolderError: the outbox cannot be written.
    """
    try:
        checked_address(parseaddr(one_line(settings.mail_from))[1])
    except (DataError, ValueError) as error:
        problem = error.problem if isinstance(error, DataError) else str(error)
        raise ConfigurationError(f"mail_from: {problem}", "write it like Name <name@example.org>") from None
    if settings.mail_url.startswith("outbox:"):
        return OutboxTransport(settings.outbox)
    remedy = "give outbox:, smtp://, smtps:// or smtp+starttls:// with [USER:PASSWORD@]HOST[:PORT]"
    try:
        parts = urlsplit(settings.mail_url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"mail_url: {error}", remedy) from None
    if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ConfigurationError(f"mail_url is no address of a mail server ({parts.scheme or 'no scheme'})", remedy)
    tls: Literal["implicit", "starttls", "none"] = "none"
    if parts.scheme != "smtp":
        tls = "implicit" if parts.scheme == "smtps" else "starttls"
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    return SmtpTransport(parts.hostname, port or PORTS[parts.scheme], tls, user, password)
