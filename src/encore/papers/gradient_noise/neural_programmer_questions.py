"""Synthetic tables and questions of the Neural Programmer.

A table has rows of random numbers; a question names what is asked (sum, count or print), and for which rows:

    sum · count · print · greater N sum · lesser N count · greater N and lesser N print · lesser N or greater N sum ·
    sum diff count · …

With several columns every comparison and everything asked but a count is followed by the column's name.
With a column of text a question may ask for the rows in which that column has a certain word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from encore.base.errors import ConfigurationError
from encore.base.seeds import derive_seed
from encore.papers.gradient_noise.neural_ensembles import Batch, Problem
from encore.papers.gradient_noise.neural_programmer import NeuralProgrammer

WORDS = ("pad", "sum", "count", "print", "greater", "lesser", "and", "or", "diff", "equal", "number")
WORD = {word: place for place, word in enumerate(WORDS)}
RANGE = 100.0
"""Numbers are drawn from U(-100, 100)."""
MOST_NUMBERS = 2
MOST_WORDS = 10


def templates(text: bool) -> list[str]:
    """All kinds of questions; `N` stands for a number, `T` for a word of the text column."""
    first = [f"{one} N" for one in ("greater", "lesser")]
    pairs = [f"{one} {joint} {other}" for joint in ("and", "or") for one in first for other in first if one != other]
    conditions = ["", *first, *pairs]
    if text:
        conditions += ["equal T", *(f"equal T and {one}" for one in first)]
    asked = [f"{condition} {answer}".strip() for condition in conditions for answer in ("sum", "count", "print")]
    return [*asked, "sum diff count", "count diff sum"]


@dataclass(frozen=True)
class Kinds:
    """Templates taken apart, one row for each: K kinds, C = 2 conditions, A = 2 things asked, Q words.

    Attributes:
        words: (K, Q) int64; negative where a word is drawn: -1, -2, -3 the columns, `TEXT` the sought text.
        word_count: (K,).
        conditions: (K, C): 0 none, else `GREATER`, `LESSER` or `EQUAL`.
        pivots: (K, C), which number a condition compares with.
        places: (K, C), the place of the word before each number, -1 where there is none.
        either: (K,) bool, whether one of both conditions is enough.
        asked: (K, A): 0 nothing, else `SUM`, `COUNT` or `PRINT`; the second is subtracted.
    """

    words: Tensor
    word_count: Tensor
    conditions: Tensor
    pivots: Tensor
    places: Tensor
    either: Tensor
    asked: Tensor


TEXT = -9
GREATER, LESSER, EQUAL = 1, 2, 3
SUM, COUNT, PRINT = 1, 2, 3
_CONDITIONS = {"greater": GREATER, "lesser": LESSER, "equal": EQUAL}
_ASKED = {"sum": SUM, "count": COUNT, "print": PRINT}


def parse(kinds: Sequence[str], columns: int) -> Kinds:
    """Take templates apart.

    Args:
        kinds: as `templates` gives them.
        columns: of numbers; with several, their names are part of the questions.
    """
    rows = [_parse(kind.split(), columns > 1) for kind in kinds]
    return Kinds(*(torch.tensor([row[place] for row in rows]) for place in range(7)))


def _parse(kind: Sequence[str], named: bool) -> tuple[list[int], int, list[int], list[int], list[int], bool, list[int]]:
    words: list[int] = []
    conditions, asked, pivots, places, numbers = [], [], [], [-1, -1], 0
    source = iter(kind)
    for word in source:
        words.append(WORD[word])
        if word in _CONDITIONS:
            next(source)  # N or T
            conditions.append(_CONDITIONS[word])
            pivots.append(numbers % MOST_NUMBERS)
            if word == "equal":
                words.append(TEXT)
                continue
            places[numbers] = len(words) - 1
            words.append(WORD["number"])
            words += [-1 - numbers] * named
            numbers += 1
        elif word in _ASKED:
            asked.append(_ASKED[word])
            words += [-3] * (named and word != "count")
    filled = words + [0] * (MOST_WORDS - len(words))
    conditions, pivots, asked = ([*one, 0, 0][:2] for one in (conditions, pivots, asked))
    return filled, len(words), conditions, pivots, places, "or" in kind, asked


def question_samples(
    generator: torch.Generator, count: int, rows: int, columns: int, text_words: int, kinds: Kinds
) -> Batch:
    """Random tables, questions and their answers.

    Args:
        generator: of the random numbers.
        count: B.
        rows: of every table.
        columns: of numbers.
        text_words: words of the text column; 0 for tables without one.
        kinds: of questions.

    Returns:
        `table` (B, rows, columns) float32; `text` (B, rows) int64 words, or -1; `words` (B, Q) int64 and
        `word_count` (B,); `numbers` (B, 2) with `number_places` (B, 2), the place of the word before each, -1 where
        there is none; `is_scalar` (B,), `scalar` (B,) and `lookup` (B, rows, columns) float32.
    """
    table = (2 * torch.rand(count, rows, columns, generator=generator) - 1) * RANGE
    text = torch.randint(max(1, text_words), (count, rows), generator=generator)
    chosen = torch.randint(len(kinds.words), (count,), generator=generator)
    pivots = (2 * torch.rand(count, MOST_NUMBERS, generator=generator) - 1) * RANGE
    named = torch.randint(columns, (count, MOST_NUMBERS + 1), generator=generator)
    sought = torch.randint(max(1, text_words), (count, 1), generator=generator)
    first_text = len(WORDS) + columns
    words = kinds.words[chosen]
    drawn = torch.where(words == TEXT, first_text + sought, len(WORDS) + named.gather(1, (-words - 1).clamp(0, 2)))
    places = kinds.places[chosen]
    met = []
    for place in range(kinds.conditions.shape[1]):
        code, number = kinds.conditions[chosen, place, None], kinds.pivots[chosen, place, None]
        pivot = pivots.gather(1, number)
        values = _column(table, named.gather(1, number))
        holds = torch.where(code == GREATER, values > pivot, values < pivot)
        holds = torch.where(code == EQUAL, text == sought, holds)
        met.append(holds | (code == 0))
    selected = torch.where(kinds.either[chosen, None], met[0] | met[1], met[0] & met[1])
    values = _column(table, named[:, -1:])
    results = torch.stack([torch.zeros(count), (selected * values).sum(1), selected.sum(1), torch.zeros(count)], 1)
    asked = kinds.asked[chosen]
    scalars = results.gather(1, asked)
    printed = (asked[:, :1] == PRINT) & selected
    cells = torch.nn.functional.one_hot(named[:, -1], columns)
    return {
        "table": table,
        "text": first_text + text if text_words else torch.full_like(text, -1),
        "words": torch.where(words < 0, drawn, words),
        "word_count": kinds.word_count[chosen],
        "numbers": torch.where(places >= 0, pivots, 0.0),
        "number_places": places,
        "is_scalar": (asked[:, 0] != PRINT).float(),
        "scalar": scalars[:, 0] - scalars[:, 1],
        "lookup": (printed.unsqueeze(-1) * cells.unsqueeze(1)).float(),
    }


def _column(table: Tensor, column: Tensor) -> Tensor:
    """The named column (B, 1) of each table (B, rows, columns): (B, rows)."""
    return table.gather(2, column.unsqueeze(1).expand(-1, table.shape[1], 1)).squeeze(2)


class ProgrammerProblem(Problem):
    """Questions to tables, with the machine that answers them.

    Args:
        rows: of the tables.
        columns: of numbers.
        text_words: words of the text column; 0 for none.
        kinds: the first so many kinds of questions of `templates`; all if null.
        held_out: questions of each held-out part.
        model: further arguments of `NeuralProgrammer`.

    Raises:
        ConfigurationError: a table without rows or columns, no kind of question, or more kinds than there are.
    """

    def __init__(
        self, *, rows: int, columns: int, text_words: int, kinds: int | None, held_out: int, **model: Any
    ) -> None:
        if rows < 1 or columns < 1 or (kinds is not None and kinds < 1):
            raise ConfigurationError(
                f"{kinds} kinds of questions to {rows} rows of {columns} columns", "take at least one of each"
            )
        known = templates(text_words > 0)
        if kinds is not None and kinds > len(known):
            raise ConfigurationError(
                f"{kinds} kinds of questions are more than there are", f"take 1 … {len(known)}, or null for all"
            )
        self._kinds = parse(known[:kinds], columns)
        self._rows, self._columns, self._text_words = rows, columns, text_words
        self._count, self._model = held_out, model

    def model(self, seeds: Sequence[int]) -> NeuralProgrammer:
        """The untrained machines."""
        return NeuralProgrammer(
            seeds,
            vocabulary=len(WORDS) + self._columns + self._text_words,
            columns=self._columns,
            first_column_word=len(WORDS),
            text=self._text_words > 0,
            **self._model,
        )

    def samples(self, generator: torch.Generator, count: int, stage: int) -> Batch:
        """Fresh questions of all kinds."""
        return question_samples(generator, count, self._rows, self._columns, self._text_words, self._kinds)

    def held_out(self, part: str) -> Batch:
        """Questions of all kinds."""
        generator = torch.Generator().manual_seed(derive_seed("neural programmer", part))
        return self.samples(generator, self._count, 0)
