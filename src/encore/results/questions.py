"""Questions that a paper answers: the protocol between a room's `questions.py` and the verb `ask`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encore.base.configuration import Configuration
from encore.base.progress import ProgressReporter, SilentProgress


@dataclass(frozen=True)
class QuestionContext:
    """Where and with what a question is answered.

    Attributes:
        folder: where pictures and files go; None where the user gave no `--out`, and nothing is written.
        seed: for whatever is drawn.
        device: `auto`, `cpu` or `cuda`.
        progress: told of long work.
    """

    folder: Path | None = None
    seed: int = 0
    device: str = "auto"
    progress: ProgressReporter = field(default_factory=SilentProgress)


@dataclass(frozen=True)
class Answer:
    """What a paper answers.

    Attributes:
        text: one to a few sentences.
        values: the same as JSON values, by name.
        rows: a table, one mapping of column to JSON value per row; empty where there is none.
        pictures: files that were written below the context's folder.
    """

    text: str
    values: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "text": self.text,
            "values": self.values,
            "rows": self.rows,
            "pictures": [str(path) for path in self.pictures],
        }


@dataclass(frozen=True)
class Question:
    """One question of a room; `questions.py` holds them as `QUESTIONS`, by name.

    Attributes:
        text: what is asked, one sentence that ends with a question mark.
        parameters: its keys and defaults; words without `=` on the command line fill them in order.
        answer: gives the answer; raises InputError for whatever the user can mend.
    """

    text: str
    parameters: type[Configuration]
    answer: Callable[[Any, QuestionContext], Answer]
