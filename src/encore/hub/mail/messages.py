"""What the hub writes: the link to sign in, the question whether a subscription is meant, the digest.

Each mail is one template as text and one as HTML, with the same content. The HTML carries its style inline, so that it
survives every mail client, and a few rules of its own for dark screens; it loads nothing from anywhere.
"""

from __future__ import annotations

import datetime
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from encore.hub.database import Subscription
from encore.hub.mail.addresses import as_one_line
from encore.hub.settings import HubSettings
from encore.hub.verdicts import Verdicts

WIDTH = 72
"""Columns of the text."""


class Rendered(NamedTuple):
    """A mail that is written."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True)
class Item:
    """A paper in a digest.

    Attributes:
        title: of the paper.
        url: its page in the hub.
        byline: authors and organisation, one line.
        summary: two or three lines.
        votes: how many here.
        elsewhere: how many its source counted.
        verdicts: where Encore performs it and something was measured.
        performed: whether Encore performs it.
        why: why it is here, where that is not plain.
    """

    title: str
    url: str
    byline: str
    summary: str
    votes: int = 0
    elsewhere: int = 0
    verdicts: Verdicts | None = None
    performed: bool = False
    why: str = ""

    @property
    def vote_words(self) -> str:
        """`12 votes, 40 elsewhere`."""
        here = _count(self.votes, "vote")
        if not self.elsewhere:
            return here
        return f"{here}, {self.elsewhere} elsewhere" if here else f"{_count(self.elsewhere, 'vote')} elsewhere"


@dataclass(frozen=True)
class NewVerdicts:
    """What a finished run found.

    Attributes:
        title: of the paper.
        url: where to read it.
        scale: of the run.
        verdicts: in numbers.
    """

    title: str
    url: str
    scale: str
    verdicts: Verdicts


class Days(NamedTuple):
    """The days that a digest tells of."""

    first: datetime.date
    last: datetime.date

    @property
    def words(self) -> str:
        """`26 November 2026`, or `20–26 November 2026`."""
        first, last = self.first, self.last
        if first == last:
            return _day(last)
        if (first.year, first.month) == (last.year, last.month):
            return f"{first.day}–{_day(last)}"
        return (_day(first) if first.year != last.year else f"{first.day} {first:%B}") + f" – {_day(last)}"


class Links(NamedTuple):
    """Where a digest's readers can go.

    Attributes:
        feed: the same days in the browser.
        unsubscribe: ends the subscription.
    """

    feed: str
    unsubscribe: str


def sign_in(settings: HubSettings, link: str) -> Rendered:
    """The mail with the link that signs in."""
    return _rendered(settings, "sign_in", f"Sign in to {settings.site_name}", link=link)


def confirm(settings: HubSettings, link: str, subscription: Subscription) -> Rendered:
    """The mail that asks whether a subscription is meant.

    Args:
        settings: of the hub.
        link: that says yes.
        subscription: as it is wished for.
    """
    subject = f"Confirm your subscription to {settings.site_name}"
    return _rendered(settings, "confirm", subject, link=link, wish=wish(subscription))


def digest(
    settings: HubSettings,
    subscription: Subscription,
    items: Sequence[Item],
    verdicts: Sequence[NewVerdicts],
    span: Days,
    links: Links,
) -> Rendered:
    """The digest.

    Args:
        settings: of the hub.
        subscription: whose it is.
        items: papers, in order.
        verdicts: what runs found.
        span: the days it tells of.
        links: for the foot.
    """
    issue = span.last + datetime.timedelta(days=1)
    lead = items[0].title if items else verdicts[0].title
    more = len(items) + len(verdicts) - 1
    subject = f"{settings.site_name}, {issue.day} {issue:%B}: {shortened(lead, 70)}" + (f" +{more}" if more else "")
    counts = [_count(len(items), "paper"), _count(len(verdicts), "new verdict")]
    return _rendered(
        settings,
        "digest",
        subject,
        issue=f"{issue:%A}, {_day(issue)}",
        counts=" · ".join(filter(None, counts)),
        of=span.words,
        lead=lead,
        items=items,
        verdicts=verdicts,
        links=links,
        wish=wish(subscription),
    )


def wish(subscription: Subscription) -> str:
    """What somebody subscribed to, in words."""
    when = {"daily": "every morning", "weekly": "every Monday"}[subscription.frequency]
    what = {
        "all": "the papers that trend and new verdicts",
        "tag": f"papers you tagged “{subscription.value}”, ones like them, and their verdicts",
        "search": f"papers that match “{subscription.value}”, and their verdicts",
    }[subscription.kind]
    return f"{when}, {what}"


def shortened(text: str, most: int) -> str:
    """The beginning of a text, on one line: whole sentences where they fill half the room, else whole words.

    Example:
        >>> shortened("One of them. Another of them.", 20)
        'One of them.'
    """
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    sentences = [one.end() for one in re.finditer(r"[.!?](?= [A-Z])", text[: most + 2]) if one.end() <= most]
    if sentences and sentences[-1] > most / 2:
        return text[: sentences[-1]]
    return text[: most - 1].rsplit(" ", 1)[0].rstrip(" ,;:–-") + "…"


def _day(day: datetime.date) -> str:
    return f"{day.day} {day:%B %Y}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number > 1 else ''}" if number else ""


def _wrapped(text: str, indent: str = "", first: str | None = None) -> str:
    """`text` in lines of `WIDTH` columns; addresses are never broken."""
    begin = indent if first is None else first
    return textwrap.fill(
        " ".join(text.split()),
        WIDTH,
        initial_indent=begin,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("encore.hub.mail"),
        autoescape=select_autoescape(("html.j2",), default_for_string=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["wrapped"] = _wrapped
    return environment


def _rendered(settings: HubSettings, name: str, subject: str, **values: Any) -> Rendered:
    subject = as_one_line(subject)
    values = {"site": settings.site_name, "base_url": settings.base_url, "subject": subject, "width": WIDTH, **values}
    text, html = (_environment().get_template(f"{name}.{form}.j2").render(values) for form in ("txt", "html"))
    return Rendered(subject, text, html)
