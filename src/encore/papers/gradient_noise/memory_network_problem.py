"""What memory networks learn from: questions as indices of sentences, and memories with empty places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from encore.data.babi import Question, Sentence, StoryTask
from encore.data.sets.babi import hold_out_last_tenth
from encore.papers.gradient_noise.memory_network import position_bags

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class EncodedQuestions:
    """N questions.

    Attributes:
        stories: (N, L) int64, row of each statement in `Problem.bags`, newest first, 0 beyond the story's beginning.
        lengths: (N,) int64, statements of each story, at most L.
        questions: (N,) int64, row of each question in `Problem.bags`.
        answers: (N,) int64, column of the logits.
        tasks: (N,) int64, number of the task.
    """

    stories: Tensor
    lengths: Tensor
    questions: Tensor
    answers: Tensor
    tasks: Tensor

    def __len__(self) -> int:
        return len(self.answers)


@dataclass(frozen=True)
class Problem:
    """Questions that one network learns: of one task, or of several together.

    Attributes:
        name: `task_03`, or `joint`.
        tasks: their numbers.
        words: of statements, questions and answers, in alphabetical order; word 1 is the first.
        bags: (1 + sentences, 2V), `position_bags` of every sentence that occurs; row 0 is the empty memory.
        num_memories: n, places in the memory.
        parts: train, validation and test.
        texts: the test questions themselves.
    """

    name: str
    tasks: tuple[int, ...]
    words: tuple[str, ...]
    bags: Tensor
    num_memories: int
    parts: dict[str, EncodedQuestions]
    texts: tuple[Question, ...]


def make_problem(
    tasks: Sequence[StoryTask], *, memory_size: int, empty_memories: float, device: torch.device
) -> Problem:
    """Encode the questions of one task, or of several that are learnt together.

    The last tenth of each task's training questions validates, as in the authors' code (config_babi.m). The memory
    has as many places as the longest story has statements and what empty memories may be added to it, at most
    `memory_size`; the newest statements are kept.

    Args:
        tasks: at least one.
        memory_size: the most places.
        empty_memories: share of empty memories that training may add.
        device: where the tensors lie.
    """
    parts: dict[str, list[Question]] = {part: [] for part in PARTS}
    for task in tasks:
        fitted, held_out = hold_out_last_tenth(task.train)
        parts["train"] += fitted
        parts["validation"] += held_out
        parts["test"] += task.test
    everything = [one for part in parts.values() for one in part]
    sentences = sorted({sentence for one in everything for sentence in (*one.story, one.question)})
    words = tuple(sorted({word for one in sentences for word in one} | {one.answer for one in everything}))
    longest = max(max(len(one.story) for one in everything), 1)
    num_memories = min(memory_size, longest + most_empty(longest, empty_memories))
    rows = {sentence: row for row, sentence in enumerate(sentences, start=1)}
    columns = {word: column for column, word in enumerate(words)}
    return Problem(
        name="joint" if len(tasks) > 1 else f"task_{tasks[0].number:02d}",
        tasks=tuple(task.number for task in tasks),
        words=words,
        bags=position_bags(_indices(sentences, columns), len(words)).to(device),
        num_memories=num_memories,
        parts={part: _encoded(some, rows, columns, min(longest, memory_size), device) for part, some in parts.items()},
        texts=tuple(parts["test"]),
    )


def most_empty(num_statements: int, share: float) -> int:
    """The most empty memories that may come into a story: `share` of its statements, rounded up."""
    return -int(-num_statements * share // 1)


def _indices(sentences: Sequence[Sentence], columns: dict[str, int]) -> Tensor:
    """(1 + sentences, J) word indices from 1 on; the first row and the ends of the others are null words."""
    indices = torch.zeros(1 + len(sentences), max(map(len, sentences)), dtype=torch.int64)
    for row, sentence in enumerate(sentences, start=1):
        indices[row, : len(sentence)] = torch.tensor([1 + columns[word] for word in sentence])
    return indices


def _encoded(
    questions: Sequence[Question], rows: dict[Sentence, int], columns: dict[str, int], length: int, device: torch.device
) -> EncodedQuestions:
    stories = torch.zeros(len(questions), length, dtype=torch.int64)
    for at, one in enumerate(questions):
        newest = [rows[sentence] for sentence in reversed(one.story[-length:])]
        stories[at, : len(newest)] = torch.tensor(newest, dtype=torch.int64)
    return EncodedQuestions(
        stories=stories.to(device),
        lengths=(stories > 0).sum(-1).to(device),
        questions=torch.tensor([rows[one.question] for one in questions], device=device),
        answers=torch.tensor([columns[one.answer] for one in questions], device=device),
        tasks=torch.tensor([one.task for one in questions], device=device),
    )


def memories_without_gaps(stories: Tensor, num_memories: int) -> Tensor:
    """(N, L) rows of statements → (N, n), the newest first, as they are remembered after training."""
    missing = max(num_memories - stories.shape[1], 0)
    return torch.nn.functional.pad(stories, (0, missing))[:, :num_memories]


def memories_with_gaps(
    stories: Tensor, lengths: Tensor, num_memories: int, share: float, generator: torch.Generator
) -> Tensor:
    """Random noise of Sukhbaatar et al., section 4.1: empty memories among the statements, to regularise T_A.

    A story of m statements gets 0 … ⌈share · m⌉ empty memories, each number being as likely, at random places. What
    then lies beyond n is forgotten.

    Args:
        stories, lengths: see `EncodedQuestions`.
        num_memories: n.
        share: of empty memories, 0 for none.
        generator: on the CPU.

    Returns:
        (N, n) rows of statements, 0 where the memory is empty.
    """
    if share == 0:
        return memories_without_gaps(stories, num_memories)
    num_stories, longest = stories.shape
    width = longest + most_empty(longest, share)
    room = (lengths * share).ceil() + 1
    chance = torch.rand(num_stories, generator=generator).to(stories.device)
    total = lengths + (chance * room).long()
    order = torch.rand(num_stories, width, generator=generator).to(stories.device)
    order = order.masked_fill(torch.arange(width, device=stories.device) >= total[:, None], torch.inf)
    # The m places that come first in a random order of all are taken by statements, in their own order.
    taken = order.argsort(-1).argsort(-1) < lengths[:, None]
    which = (taken.cumsum(-1) - 1).clamp(0, longest - 1)
    return memories_without_gaps(stories.gather(1, which) * taken, num_memories)
