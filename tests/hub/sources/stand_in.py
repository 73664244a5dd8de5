"""A stand-in for arXiv and Hugging Face on this machine: speaks as they do, and fails as they do when told to."""

from __future__ import annotations

import datetime
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from encore.hub.settings import HubSettings

Fault = Literal[
    "unavailable",  # 503, with Retry-After
    "broken",  # 500
    "too_many",  # 429, with Retry-After as a date
    "busy",  # 200, and "Rate exceeded." as text
    "not_open",  # 400
    "slow",  # nothing for a while
    "truncated",  # half of the answer
    "html",  # a page for people
    "error_entry",  # arXiv's way of refusing: an entry named Error
    "empty",  # a feed without entries, though it says that there are some
    "large",  # an answer without an end
    "elsewhere",  # a redirect to another host
    "address",  # an address instead of an answer
    "hang_up",  # the connection is closed without an answer
]


@dataclass
class StandInPaper:
    """A paper as both sources tell of it.

    Attributes:
        on: day of Hugging Face's list; null: it is not on one.
        lacks: what its entry leaves out: `title`, `id` or `date`.
    """

    arxiv: str
    title: str = "A Paper"
    abstract: str = "We show that it works."
    authors: tuple[str, ...] = ("Ada Lovelace", "Charles Babbage")
    submitted: datetime.datetime = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.UTC)
    updated: datetime.datetime | None = None
    version: int = 1
    categories: tuple[str, ...] = ("cs.CV", "cs.LG")
    comment: str | None = None
    doi: str | None = None
    on: datetime.date | None = None
    upvotes: int = 0
    github: str | None = None
    organisation: str | None = None
    lacks: str = ""


@dataclass
class StandIn:
    """What the stand-in has and was asked.

    Attributes:
        url: where it is, without a final slash.
        papers: may be changed at any time.
        requests: path and query of each request, in order.
        agents: the User-Agent of each.
        times: when each came, of `time.monotonic`.
    """

    url: str = ""
    papers: list[StandInPaper] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    faults: list[tuple[Fault, float]] = field(default_factory=list)

    @property
    def arxiv_url(self) -> str:
        """For `HubSettings`."""
        return f"{self.url}/api/query"

    def settings(self, settings: HubSettings) -> HubSettings:
        """The same settings with this stand-in for the sources."""
        return settings.model_copy(update={"arxiv_url": self.arxiv_url, "huggingface_url": self.url})

    def fail(self, fault: Fault, times: int = 1, seconds: float = 0.0) -> None:
        """Answer the next requests in another way.

        Args:
            fault: how.
            times: how many.
            seconds: of `slow`: before the answer; of `unavailable` and `too_many`: which they ask to wait.
        """
        self.faults += [(fault, seconds)] * times


@contextmanager
def stand_in(papers: list[StandInPaper] | None = None) -> Iterator[StandIn]:
    """A stand-in that answers until the end of `with`."""
    there = StandIn(papers=papers or [])

    class Handler(_Handler):
        stand_in = there

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    there.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield there
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer one request."""
        there = self.stand_in
        there.requests.append(self.path)
        there.agents.append(self.headers.get("User-Agent", ""))
        there.times.append(time.monotonic())
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        fault, seconds = there.faults.pop(0) if there.faults else ("", 0.0)
        if parts.path == "/api/query":
            kind, content = "application/atom+xml; charset=UTF-8", _atom(there.papers, query, fault)
        elif parts.path == "/api/daily_papers":
            kind, content = "application/json; charset=utf-8", _daily(there.papers, query)
        else:
            self._answer(404, b"not found", "text/plain")
            return
        self._fail_or_answer(fault, seconds, content, kind)

    def _fail_or_answer(self, fault: str, seconds: float, content: bytes, kind: str) -> None:
        later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        date = later.strftime("%a, %d %b %Y %H:%M:%S GMT")
        if fault == "unavailable":
            self._answer(503, b"Retry later", "text/plain", **{"Retry-After": str(round(seconds))})
        elif fault == "too_many":
            self._answer(429, b"Too many", "text/plain", **{"Retry-After": date})
        elif fault == "broken":
            self._answer(500, b"<html>oops</html>", "text/html")
        elif fault == "not_open":
            self._answer(400, b'{"error": "date is not open"}', "application/json")
        elif fault == "busy":
            self._answer(200, b"Rate exceeded.", "text/plain")
        elif fault == "html":
            self._answer(200, b"<!DOCTYPE html><html><body><h1>Sorry</h1><br></body></html>", "text/html")
        elif fault == "truncated":
            self._answer(200, content[: len(content) * 2 // 3], kind)
        elif fault == "elsewhere":
            self._answer(302, b"", "text/plain", Location="http://localhost:1/api/query")
        elif fault == "address":
            self._answer(200, f"{self.stand_in.url}/secret".encode(), kind)
        elif fault == "large":
            self._answer(200, b"<feed>" + b" " * 11_000_000, kind)
        elif fault == "hang_up":
            self.close_connection = True
        else:
            time.sleep(seconds if fault == "slow" else 0)
            self._answer(200, content, kind)

    def _answer(self, status: int, content: bytes, kind: str, **headers: str) -> None:
        try:
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):  # the client has had enough
            self.close_connection = True


def _atom(papers: list[StandInPaper], query: dict[str, str], fault: str) -> bytes:
    start, most = int(query.get("start", 0)), int(query.get("max_results", 10))
    found = _found(papers, query)
    entries = "".join(map(_entry, found[start : start + most]))
    total = len(found)
    if fault == "error_entry":
        total, entries = 1, _ERROR
    if fault == "empty":
        entries = ""
    return f"""<?xml version='1.0' encoding='UTF-8'?>
<feed xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/" xmlns:arxiv="http://arxiv.org/schemas/atom"
 xmlns="http://www.w3.org/2005/Atom">
  <id>https://arxiv.org/api/abc</id>
  <title>arXiv Query: {escape(str(query))}</title>
  <updated>2026-11-27T00:00:00Z</updated>
  <link href="https://arxiv.org/api/query" type="application/atom+xml"/>
  <opensearch:itemsPerPage>{most}</opensearch:itemsPerPage>
  <opensearch:totalResults>{total}</opensearch:totalResults>
  <opensearch:startIndex>{start}</opensearch:startIndex>{entries}
</feed>
""".encode()


_ERROR = """
  <entry>
    <id>https://arxiv.org/api/errors#incorrect_id_format_for_abc</id>
    <title>Error</title>
    <summary>incorrect id format for abc</summary>
    <updated>2026-11-27T00:00:00Z</updated>
    <author><name>arXiv api core</name></author>
  </entry>"""


def _found(papers: list[StandInPaper], query: dict[str, str]) -> list[StandInPaper]:
    if "id_list" in query:
        names = query["id_list"].split(",")
        return [paper for name in names for paper in papers if paper.arxiv == name]
    wanted = query["search_query"]
    categories = set(re.findall(r"cat:([\w.-]+)", wanted))
    until = re.search(r"submittedDate:\[\d{12} TO (\d{12})\]", wanted)
    found = [paper for paper in papers if categories & set(paper.categories)]
    if until:
        found = [paper for paper in found if paper.submitted.strftime("%Y%m%d%H%M") <= until[1]]
    return sorted(found, key=lambda paper: paper.submitted, reverse=True)


def _entry(paper: StandInPaper) -> str:
    def moment(value: datetime.datetime) -> str:
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")

    name = "" if paper.lacks == "id" else f"http://arxiv.org/abs/{paper.arxiv}v{paper.version}"
    title = "" if paper.lacks == "title" else f"<title>{escape(paper.title)}</title>"
    date = "" if paper.lacks == "date" else f"<published>{moment(paper.submitted)}</published>"
    extra = f"<arxiv:comment>{escape(paper.comment)}</arxiv:comment>" if paper.comment else ""
    if paper.doi:
        extra += f'<arxiv:doi>{escape(paper.doi)}</arxiv:doi><link href="https://doi.org/{paper.doi}" rel="related"/>'
    return f"""
  <entry>
    <id>{name}</id>
    {title}
    <updated>{moment(paper.updated or paper.submitted)}</updated>
    <link href="https://arxiv.org/abs/{paper.arxiv}v{paper.version}" rel="alternate" type="text/html"/>
    <link href="https://arxiv.org/pdf/{paper.arxiv}v{paper.version}" rel="related" type="application/pdf" title="pdf"/>
    <summary>{escape(paper.abstract)}</summary>
    {"".join(f'<category term="{one}" scheme="http://arxiv.org/schemas/atom"/>' for one in paper.categories)}
    {date}
    {extra}
    <arxiv:primary_category term="{paper.categories[0]}"/>
    {"".join(f"<author><name>{escape(one)}</name></author>" for one in paper.authors)}
  </entry>"""


def _daily(papers: list[StandInPaper], query: dict[str, str]) -> bytes:
    listed = [paper for paper in papers if paper.on is not None and paper.on.isoformat() == query.get("date")]
    return json.dumps([_item(paper) for paper in listed]).encode()


def _item(paper: StandInPaper) -> dict[str, Any]:
    published = paper.submitted.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert paper.on is not None
    told: dict[str, Any] = {
        "id": "" if paper.lacks == "id" else paper.arxiv,
        "authors": [{"_id": "68a", "name": one, "hidden": False} for one in paper.authors],
        "publishedAt": "soon" if paper.lacks == "date" else published,
        "submittedOnDailyAt": f"{paper.on}T00:00:00.000Z",
        "title": paper.title,
        "summary": paper.abstract,
        "upvotes": paper.upvotes,
        "discussionId": "68b",
        "ai_summary": "A summary.",
        "ai_keywords": ["one", "two"],
    }
    if paper.lacks == "title":
        del told["title"]
    if paper.github:
        told |= {"githubRepo": paper.github, "githubStars": 12}
    if paper.organisation:
        told["organization"] = {"_id": "68c", "name": paper.organisation.lower(), "fullname": paper.organisation}
    return {"paper": told, "publishedAt": published, "title": paper.title, "numComments": 2, "submittedBy": {}}
