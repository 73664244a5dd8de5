"""What a hub is told once: where its data lies, how it is reached, how it sends mail, what it may run."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from encore.base.errors import ConfigurationError
from encore.base.files import unwritable

PREFIX = "ENCORE_HUB_"
"""Of environment variables: `ENCORE_HUB_MAIL_URL` sets `mail_url`."""

KEY_FILE = "secret.key"


class HubSettings(BaseModel):
    """Settings of the web process, the workers and the `encore hub` commands.

    Attributes:
        folder: holds the database file, the secret key, the outbox and the runs.
        database: an SQLAlchemy URL, `sqlite:///…` or `postgresql://…`; null is `hub.db` in `folder`.
        base_url: how browsers and mails reach the hub, without a final slash. Cookies are `Secure` where it is https.
        site_name: what pages and mails call it.
        secret: signs links and forms; at least 32 characters.
        mail_url: `outbox:` (a Maildir in `folder`), `smtp://[user:password@]host[:port]`, `smtps://…` or
            `smtp+starttls://…`.
        mail_from: sender of mails.
        digest_hour: hour of the day, UTC, from which digests go out.
        embedding_model: a sentence-transformers model, by name or path, for search by meaning; null: by words alone.
        runs_at_once: runs that one worker performs side by side.
        run_scales: what the Run button offers.
        runs_per_user: runs that one reader may have waiting or running.
        runs_per_day: runs that one reader may start within 24 hours.
        arxiv_url: the arXiv API.
        arxiv_seconds: between two requests to it; arXiv asks for three.
        huggingface_url: the host of the daily papers.
        arxiv_categories: of the daily import; empty imports nothing by itself.
        daily_imports: sources that the worker reads every morning: `arxiv`, `huggingface`.
        trusted_proxies: addresses whose `X-Forwarded-For` is believed, for rate limits.
        page_size: papers on a page of the feed.
        remember_seconds: how old pages may be that those who are not signed in see; 0 makes each anew.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path
    database: str | None = None
    base_url: str = "http://127.0.0.1:8000"
    site_name: str = "Daily Papers"
    secret: str = Field(min_length=32, repr=False)
    mail_url: str = "outbox:"
    mail_from: str = "Daily Papers <papers@localhost>"
    digest_hour: int = Field(default=6, ge=0, le=23)
    embedding_model: str | None = None
    runs_at_once: int = Field(default=1, ge=1)
    run_scales: tuple[str, ...] = ("smoke", "laptop")
    runs_per_user: int = Field(default=3, ge=1)
    runs_per_day: int = Field(default=20, ge=1)
    arxiv_url: str = "https://export.arxiv.org/api/query"
    arxiv_seconds: float = Field(default=3.0, ge=0)
    huggingface_url: str = "https://huggingface.co"
    arxiv_categories: tuple[str, ...] = ()
    daily_imports: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    page_size: int = Field(default=30, ge=5, le=200)
    remember_seconds: float = Field(default=3.0, ge=0, le=60)

    @field_validator("base_url", "huggingface_url", "arxiv_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("is an address such as https://papers.example.org")
        return value.rstrip("/")

    @field_validator("mail_url")
    @classmethod
    def _is_a_way_to_mail(cls, value: str) -> str:
        if not re.match(r"outbox:|(smtp|smtps|smtp\+starttls)://[^/]", value):
            raise ValueError("is outbox:, or smtp://HOST, smtps://HOST or smtp+starttls://HOST")
        return value

    @field_validator("run_scales")
    @classmethod
    def _are_scales(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not set(value) <= {"smoke", "laptop", "paper"}:
            raise ValueError("are some of smoke, laptop, paper")
        return value

    @field_validator("daily_imports")
    @classmethod
    def _are_sources(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not set(value) <= {"arxiv", "huggingface"}:
            raise ValueError("are some of arxiv, huggingface")
        return value

    @property
    def database_url(self) -> str:
        """The database, with the driver that Encore uses for PostgreSQL."""
        if self.database is None:
            return f"sqlite:///{self.folder.resolve() / 'hub.db'}"
        scheme, separator, rest = self.database.partition("://")
        return f"postgresql+psycopg://{rest}" if separator and scheme in {"postgresql", "postgres"} else self.database

    @property
    def https(self) -> bool:
        """Whether browsers come by https."""
        return self.base_url.startswith("https:")

    @property
    def outbox(self) -> Path:
        """The Maildir of mails that no server takes."""
        named = self.mail_url.partition(":")[2]
        return Path(named) if self.mail_url.startswith("outbox:") and named else self.folder / "outbox"

    @property
    def runs_folder(self) -> Path:
        """Where runs lie, one folder each, named by the run's number."""
        return self.folder / "runs"


def default_folder() -> Path:
    """`$ENCORE_HUB_FOLDER`, else `encore/hub` below `$XDG_DATA_HOME` or `~/.local/share`."""
    named = os.environ.get(PREFIX + "FOLDER")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "encore" / "hub"


def read_settings(folder: Path | None = None, **given: Any) -> HubSettings:
    """Settings from what is given, then from the environment, then the defaults.

    A secret that is given nowhere is made once and kept in `secret.key`, readable by its owner alone.

    Args:
        folder: see `HubSettings`; null takes `default_folder`.
        given: fields of `HubSettings`; those that are None are not given.

    Raises:
        ConfigurationError: a value does not fit; the message names it and where it came from.
        RunFolderError: the folder cannot be written.
    """
    folder = folder or default_folder()
    values: dict[str, Any] = {"folder": folder}
    origin: dict[str, str] = {}
    for name in HubSettings.model_fields:
        variable = PREFIX + name.upper()
        if name != "folder" and os.environ.get(variable):
            text = os.environ[variable]
            values[name] = tuple(filter(None, text.replace(",", " ").split())) if _is_list(name) else text
            origin[name] = variable
    for name, value in given.items():
        if value is not None:
            values[name], origin[name] = value, name
    if "secret" not in values:
        values["secret"] = _kept_secret(folder)
    try:
        return HubSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise ConfigurationError(
            f"{origin.get(name, name)}: {first['msg'].removeprefix('Value error, ')}",
            "see 'encore serve --help' and the hub's page in the docs",
        ) from None


def _is_list(name: str) -> bool:
    return "tuple" in str(HubSettings.model_fields[name].annotation)


def _kept_secret(folder: Path) -> str:
    path = folder / KEY_FILE
    if not path.is_file():
        temporary = folder / f".{KEY_FILE}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
                file.write(secrets.token_urlsafe(48) + "\n")
            with suppress(FileExistsError):  # another process was first: its key is the key
                os.link(temporary, path)
        except OSError as error:
            raise unwritable(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)
    return path.read_text(encoding="utf-8").strip()
