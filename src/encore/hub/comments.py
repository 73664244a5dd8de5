"""What readers say of a paper: Markdown in, harmless HTML out."""

from __future__ import annotations

from functools import cache

import nh3
from markdown_it import MarkdownIt
from sqlalchemy import select
from sqlalchemy.orm import Session as Transaction

from encore.base.errors import InputError
from encore.hub.database import Comment, Database, Paper, User
from encore.hub.database.tables import now
from encore.hub.trending import held, refresh_counts

LONGEST = 5000
"""Characters of a comment."""

_TAGS = {"p", "br", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a", "hr", "h4", "h5", "h6"}


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False, "linkify": True, "breaks": True}).enable(
        ["linkify", "strikethrough"]
    )


def rendered(body: str) -> str:
    """Markdown as HTML of a few harmless elements: no pictures, no raw HTML, links to http(s) alone.

    What Markdown leaves is cleaned again by an HTML sanitiser, so that neither has to be perfect.
    """
    html = _markdown().render(body)
    return nh3.clean(
        html,
        tags=_TAGS,
        attributes={"a": {"href"}},
        url_schemes={"http", "https"},
        link_rel="nofollow noopener noreferrer ugc",
    )


def add(database: Database, user_id: int, paper_id: int, body: str) -> Comment:
    """Add a comment.

    Raises:
        InputError: it is empty or too long.
    """
    body = body.strip().replace("\r\n", "\n").replace("\x00", "")
    if not body:
        raise InputError("the comment is empty", "write something")
    if len(body) > LONGEST:
        raise InputError(f"the comment has {len(body):,} characters", f"shorten it to {LONGEST:,}")
    with database.writing() as transaction:
        comment = Comment(paper_id=paper_id, user_id=user_id, body=body)
        transaction.add(comment)
        transaction.flush()
        refresh_counts(transaction, [paper_id])
        return comment


def remove(database: Database, comment_id: int, *, user_id: int | None = None) -> bool:
    """Hide a comment's text; of `user_id` alone, where that is given. Whether there was one to hide."""
    with database.writing() as transaction:
        comment = transaction.get(Comment, comment_id)
        if comment is not None:
            held(transaction, [comment.paper_id])  # before the comment, as where papers become one
            transaction.refresh(comment)
        if comment is None or comment.deleted or (user_id is not None and comment.user_id != user_id):
            return False
        comment.deleted, comment.body = now(), ""
        transaction.flush()
        refresh_counts(transaction, [comment.paper_id])
        return True


def of_paper(transaction: Transaction, paper: Paper) -> list[tuple[Comment, str]]:
    """A paper's comments with their authors' names, the oldest first."""
    rows = transaction.execute(
        select(Comment, User.name)
        .join(User, User.id == Comment.user_id)
        .where(Comment.paper_id == paper.id, Comment.deleted.is_(None))
        .order_by(Comment.created, Comment.id)
    )
    return [(comment, name) for comment, name in rows]
