"""Transports: messages as the world's mail programs read them, and nothing smuggled into a header."""

from __future__ import annotations

import email
import email.policy
import mailbox
import ssl
import subprocess
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from encore.base.errors import ConfigurationError, DataError
from encore.hub.database import Database, Mail
from encore.hub.database.tables import now
from encore.hub.mail import sending
from encore.hub.mail.addresses import checked_address
from encore.hub.mail.transport import OutboxTransport, SmtpTransport, compose, open_transport
from encore.hub.settings import HubSettings
from tests.hub.mail.conftest import Behaviour, Start, mail_of, mailing, queue_mail

MAIL = {"kind": "digest", "recipient": "ada@example.org", "subject": "Hello", "text": "Hello.\n", "headers": {}}


@pytest.fixture
def settings(tmp_path: Path) -> HubSettings:
    """Of a hub on SQLite; the transports do not know the database."""
    return HubSettings(folder=tmp_path, secret="s" * 40)


def mail(**given: object) -> Mail:
    return Mail(**{**MAIL, "id": 7, "created": now(), **given})


def reread(message: EmailMessage) -> EmailMessage:
    read = email.message_from_string(message.as_bytes().decode(), policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    return read


def test_the_outbox_is_a_maildir_that_mail_programs_read(tmp_path: Path, database: Database) -> None:
    settings = HubSettings(folder=tmp_path, secret="s" * 40)
    queue_mail(database, subject="Grüße – 論文", text="Zeile eins\n.punkt\nfrom ∑\n", html="<p>∑</p>")
    assert sending.send_waiting(database, settings, "w").sent == 1
    (stored,) = mailbox.Maildir(settings.outbox, factory=None)
    message = email.message_from_bytes(stored.as_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message["Subject"] == "Grüße – 論文"
    assert message["To"] == "ada@example.org"
    assert message["From"] == "Daily Papers <papers@localhost>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime is not None
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content() == "Zeile eins\n.punkt\nfrom ∑\n"
    assert html.get_content().strip() == "<p>∑</p>"


def test_the_body_arrives_over_smtp_as_it_was_written(settings: HubSettings, start_server: Start) -> None:
    server, port = start_server()
    body = ".\n..dots\n.\n\n" + "long " * 400 + "\nend\n"
    with SmtpTransport("127.0.0.1", port) as transport:
        assert transport.send(compose(settings, mail(text=body))).state == "sent"
    assert server.arrived[0][1].get_content().replace("\r\n", "\n") == body


def test_a_long_link_to_unsubscribe_stays_readable_for_mail_programs(
    settings: HubSettings, start_server: Start
) -> None:
    link = f"<https://papers.example.org/unsubscribe/{'x-_.' * 100}>"
    message = compose(settings, mail(headers={"List-Unsubscribe": link}))
    assert f"\r\nList-Unsubscribe: {link}\r\n".encode() in message.as_bytes()
    server, port = start_server()
    with SmtpTransport("127.0.0.1", port) as transport:
        assert transport.send(message).state == "sent"
    assert server.arrived[0][1]["List-Unsubscribe"] == link
    with OutboxTransport(settings.outbox) as transport:
        transport.send(message)
    (stored,) = (settings.outbox / "new").iterdir()
    assert f"\nList-Unsubscribe: {link}\n".encode() in stored.read_bytes()


def test_the_message_id_stays_the_same_over_tries(settings: HubSettings) -> None:
    one = mail()
    again = mail(created=one.created)
    assert compose(settings, one)["Message-ID"] == compose(settings, again)["Message-ID"]
    assert compose(settings, one)["Message-ID"] != compose(settings, mail(id=8, created=one.created))["Message-ID"]


@pytest.mark.parametrize(
    "given",
    [
        {"subject": "Hello\r\nBcc: all@example.org"},
        {"subject": "Hello\nBcc: all@example.org"},
        {"recipient": "ada@example.org\r\nBcc: all@example.org"},
        {"headers": {"List-Id": "x\r\nBcc: all@example.org"}},
        {"headers": {"X\r\nBcc": "all@example.org"}},
        {"headers": {"Bcc: all@example.org\r\nX": "y"}},
    ],
)
def test_no_header_can_be_smuggled_in(settings: HubSettings, database: Database, given: dict[str, object]) -> None:
    with pytest.raises((ValueError, DataError)):
        queue_mail(database, **given)
    with pytest.raises(ValueError):
        compose(settings, mail(**given)).as_bytes()


@pytest.mark.parametrize("address", ["ünï@exämple.org", "a" * 60 + "@" + "b" * 60 + "." + "c" * 60 + ".example.org"])
def test_addresses_beyond_ascii_and_long_ones_arrive(settings: HubSettings, start_server: Start, address: str) -> None:
    server, port = start_server()
    with SmtpTransport("127.0.0.1", port) as transport:
        assert transport.send(compose(settings, mail(recipient=address))).state == "sent"
    assert server.recipients == [address]
    assert reread(compose(settings, mail(recipient=address)))["To"].addresses[0].addr_spec == address


def test_a_server_without_smtputf8_refuses_an_address_beyond_ascii(settings: HubSettings, start_server: Start) -> None:
    server, port = start_server(decode_data=False)
    with SmtpTransport("127.0.0.1", port) as transport:
        transport.send(compose(settings, mail()))
        transport._client.esmtp_extensions.pop("smtputf8")  # type: ignore[union-attr]
        outcome = transport.send(compose(settings, mail(recipient="ünï@example.org")))
    assert outcome.state == "refused"
    assert len(server.arrived) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of `localhost` with its key."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", path, "-out", f"{path}.crt",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


class _Accounts:
    def __call__(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
        good = isinstance(data, LoginPassword) and data.login == b"me@x" and data.password == b"p:ss/w"
        return AuthResult(success=good, handled=good)


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # the server does not see that smtps is TLS
@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_tls_with_a_name_and_a_password(
    settings: HubSettings, start_server: Start, certificate: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    tls = {"ssl_context": context} if scheme == "smtps" else {"tls_context": context, "require_starttls": True}
    server, port = start_server(
        authenticator=_Accounts(), auth_required=True, auth_require_tls=scheme != "smtps", **tls
    )
    login = "me%40x:p%3Ass%2Fw@"
    with open_transport(mailing(settings, port, scheme, login)) as transport:
        unknown = transport.send(compose(settings, mail()))
    assert (unknown.state, unknown.of_server) == ("later", True)
    assert "certificate" in unknown.reason.lower()
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    with open_transport(mailing(settings, port, scheme, login)) as transport:
        assert transport.send(compose(settings, mail())).state == "sent"
    with open_transport(mailing(settings, port, scheme, "me%40x:wrong@")) as transport:
        outcome = transport.send(compose(settings, mail()))
    assert (outcome.state, outcome.of_server) == ("later", True)
    assert server.recipients == ["ada@example.org"]


def test_starttls_is_never_left_out(settings: HubSettings, start_server: Start) -> None:
    server, port = start_server(Behaviour())
    with open_transport(mailing(settings, port, "smtp+starttls")) as transport:
        assert transport.send(compose(settings, mail())).state == "later"
    assert server.arrived == []


@pytest.mark.parametrize("url", ["http://x", "smtp://", "smtp://host:port", "smtp://host/path", "nonsense", ""])
def test_a_mail_url_that_is_none_is_named(settings: HubSettings, url: str) -> None:
    with pytest.raises(ConfigurationError, match="mail_url"):
        open_transport(settings.model_copy(update={"mail_url": url}))


@pytest.mark.parametrize("sender", ["papers", "Papers <papers>", "Papers\n <x@example.org>\nBcc: y@example.org", ""])
def test_a_sender_that_is_none_is_named(settings: HubSettings, sender: str) -> None:
    with pytest.raises(ConfigurationError, match="mail_from"):
        open_transport(settings.model_copy(update={"mail_from": sender}))


def test_a_password_is_not_in_the_error(settings: HubSettings) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_transport(settings.model_copy(update={"mail_url": "imap://me:hidden@host"}))
    assert "hidden" not in str(caught.value)


def test_an_outbox_that_cannot_be_written_is_tried_later(settings: HubSettings) -> None:
    transport = OutboxTransport(settings.outbox)
    for name in ("tmp", "new", "cur"):
        (settings.outbox / name).rmdir()
    settings.outbox.rmdir()
    assert transport.send(compose(settings, mail())).state == "later"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" Ada@Example.ORG ", "ada@example.org"),
        ("first.last+tag@sub.example.co.uk", "first.last+tag@sub.example.co.uk"),
        ("o'brien@example.org", "o'brien@example.org"),
        ("me@localhost", "me@localhost"),
        ("jörg@müller.example", "jörg@müller.example"),
    ],
)
def test_addresses_are_kept_in_lower_case(text: str, address: str) -> None:
    assert checked_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "ada", "@example.org", "ada@", "a b@example.org", "ada@example", "ada@@example.org", "ada@-x.org",
        "ada@x..org", ".ada@example.org", "ada.@example.org", "a..b@example.org", '"a b"@example.org',
        "ada@example.org\nBcc: x@y.org", "ada@exam\r\nple.org", "ada@example.org,bob@example.org",
        "<ada@example.org>", "ada@[127.0.0.1]", "a" * 65 + "@example.org", "a@" + "b." * 130 + "org",
        "ada@exa_mple.org", "ada@example.org\x00",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="is no e-mail address"):
        checked_address(text)


def test_settings_of_a_mail_are_those_of_its_row(database: Database) -> None:
    number = queue_mail(database, headers={"List-Id": "<digest.localhost>"})
    assert mail_of(database, number).headers == {"List-Id": "<digest.localhost>"}
