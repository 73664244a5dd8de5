"""The way out: requests to arXiv and Hugging Face, and to nobody else.

No address that a reader gives is ever fetched, and no redirect leads to another host. Requests wait for each other as
long as arXiv asks for, and those that fail are tried again, later each time.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TypeVar

import httpx

import encore
from encore.base.errors import InputError
from encore.hub.settings import HubSettings

LARGEST = 10_000_000
"""Bytes of an answer."""

LONGEST = 120.0
"""Seconds that one answer may take as a whole."""

REDIRECTS = 3

_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}

Content = TypeVar("Content")


class SourceError(InputError):
    """A source that does not answer, or not as it should.

    Args:
        problem, remedy: as for `InputError`.
        status: of the answer, if there was one.
    """

    def __init__(self, problem: str, remedy: str = "try again later", *, status: int | None = None) -> None:
        super().__init__(problem, remedy)
        self.status = status


class UnreadableError(ValueError):
    """An answer that came and is not what was asked for; it is asked for again."""


@dataclass(frozen=True)
class Patience:
    """How often and how long to wait for a source.

    Attributes:
        tries: requests before giving up.
        first_wait: seconds before the second try; doubled each time.
        longest_wait: seconds beyond which no source is waited for, even if it asks for it.
        timeout: seconds without a byte.
    """

    tries: int = 4
    first_wait: float = 2.0
    longest_wait: float = 60.0
    timeout: float = 30.0


class _Pace:
    """When each host was last asked; shared by all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}

    def wait(self, host: str, seconds: float) -> None:
        """Sleep until `seconds` after the request before this one."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next.get(host, now))
            self._next[host] = turn + seconds
        time.sleep(turn - now)


_PACE = _Pace()


class _PassingError(Exception):
    """A failure that may pass. `wait`: seconds that the source asks for."""

    def __init__(self, reason: str, wait: float | None = None, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.wait, self.status = reason, wait, status


class Outside:
    """A client of the hosts that the settings name; closes at the end of `with`.

    Args:
        settings: the hosts, and arXiv's pace.
        patience: see there.
    """

    def __init__(self, settings: HubSettings, patience: Patience | None = None) -> None:
        self.settings = settings
        self._patience = patience or Patience()
        self._arxiv = httpx.URL(settings.arxiv_url)
        self._allowed = (self._arxiv, httpx.URL(settings.huggingface_url))
        self._client = httpx.Client(
            timeout=self._patience.timeout,
            headers={"User-Agent": f"Encore/{encore.__version__} (Daily Papers; +{settings.base_url})"},
            follow_redirects=False,
        )

    def __enter__(self) -> Outside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def get(self, url: str, parameters: Mapping[str, str], read: Callable[[bytes], Content]) -> Content:
        """Ask for something and read the answer.

        Args:
            url: on a host that is allowed.
            parameters: of the query.
            read: makes something of the answer; `UnreadableError` has it asked for again.

        Raises:
            SourceError: the host is not allowed, does not answer, refuses, or answers what cannot be read.
        """
        address = httpx.URL(url, params=parameters)
        wait = self._patience.first_wait
        for tried in range(1, self._patience.tries + 1):
            try:
                return read(self._followed(address))
            except UnreadableError as error:
                failure = _PassingError(str(error))
            except _PassingError as error:
                failure = error
            asked = failure.wait or 0.0
            if tried == self._patience.tries or asked > self._patience.longest_wait:
                break
            time.sleep(min(max(wait, asked), self._patience.longest_wait))
            wait *= 2
        later = f"try again in {round(failure.wait)} seconds" if failure.wait else "try again later"
        raise SourceError(f"{address.host}: {failure.reason}", later, status=failure.status)

    def _followed(self, address: httpx.URL) -> bytes:
        for _ in range(REDIRECTS + 1):
            self._check(address)
            if address.host == self._arxiv.host and address.path == self._arxiv.path:
                _PACE.wait(f"{address.host}:{address.port}", self.settings.arxiv_seconds)
            content, location = self._answer(address)
            if location is None:
                return content
            try:
                further = address.join(location)
            except httpx.InvalidURL:
                break
            if address.scheme == "https" and further.scheme != "https":
                raise SourceError(f"{address.host} redirects to {further}, which is not encrypted")
            address = further
        raise SourceError(f"{address.host} redirects without an end")

    def _check(self, address: httpx.URL) -> None:
        ports = {None, *(one.port for one in self._allowed if one.host == address.host)}
        hosts = {one.host for one in self._allowed}
        if address.scheme not in {"http", "https"} or address.host not in hosts or address.port not in ports:
            raise SourceError(
                f"{address.scheme}://{address.host} is not a source", "only the hosts in the settings are asked"
            )

    def _answer(self, address: httpx.URL) -> tuple[bytes, str | None]:
        """The answer's content, or where it redirects to."""
        try:
            with self._client.stream("GET", address) as answer:
                if answer.is_redirect:
                    return b"", answer.headers.get("location", "")
                if answer.status_code in _WORTH_ANOTHER_TRY:
                    raise _PassingError(f"answers {answer.status_code}", _asked_wait(answer), answer.status_code)
                if answer.status_code != 200:
                    raise SourceError(
                        f"{address.host} answers {answer.status_code}",
                        "check what was asked for",
                        status=answer.status_code,
                    )
                return _content(answer), None
        except httpx.TimeoutException as error:
            raise _PassingError("does not answer in time") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _PassingError(f"cannot be reached ({error or type(error).__name__})") from error


def _content(answer: httpx.Response) -> bytes:
    content = bytearray()
    end = time.monotonic() + LONGEST
    for piece in answer.iter_bytes():
        content += piece
        if len(content) > LARGEST:
            raise SourceError(
                f"{answer.url.host} answers with more than {LARGEST // 1_000_000} MB", "check what was asked for"
            )
        if time.monotonic() > end:
            raise _PassingError("does not answer in time")
    return bytes(content)


def _asked_wait(answer: httpx.Response) -> float | None:
    """The seconds of `Retry-After`, which are a number or a date."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())
