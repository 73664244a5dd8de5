"""The Neural Programmer: questions against a slow reading, and programs called by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from encore.base.errors import ConfigurationError
from encore.papers.gradient_noise.neural_ensembles import Batch, Draws, Member
from encore.papers.gradient_noise.neural_programmer import OPERATIONS, NeuralProgrammer
from encore.papers.gradient_noise.neural_programmer_questions import (
    WORD,
    WORDS,
    ProgrammerProblem,
    parse,
    question_samples,
    templates,
)


def draw(kinds: list[str], *, columns: int = 1, text_words: int = 0, count: int = 64, rows: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(len(kinds) + columns)
    return question_samples(generator, count, rows, columns, text_words, parse(kinds, columns))


def read(batch: Batch, place: int, columns: int) -> tuple[str, Tensor | float]:
    """Answer one question word by word, as a person would."""
    words = batch["words"][place, : int(batch["word_count"][place])].tolist()
    numbers = iter(batch["numbers"][place].tolist())
    table = batch["table"][place]
    rows: list[bool] | None = None
    joint, answers, kind = "and", [], "scalar"
    lookup = torch.zeros_like(table)

    def column() -> int:
        return words.pop(0) - len(WORDS) if columns > 1 else 0

    def join(met: list[bool]) -> list[bool]:
        if rows is None:
            return met
        return [(a or b) if joint == "or" else (a and b) for a, b in zip(rows, met, strict=True)]

    while words:
        word = words.pop(0)
        name = WORDS[word]
        if name in ("greater", "lesser"):
            assert WORDS[words.pop(0)] == "number"
            pivot, place_of = next(numbers), column()
            rows = join([(v > pivot) if name == "greater" else (v < pivot) for v in table[:, place_of].tolist()])
        elif name == "equal":
            sought = words.pop(0)
            rows = join([entry == sought for entry in batch["text"][place].tolist()])
        elif name in ("and", "or"):
            joint = name
        elif name in ("sum", "print", "count"):
            chosen = torch.tensor(rows if rows is not None else [True] * len(table))
            if name == "count":
                answers.append(float(chosen.sum()))
                continue
            place_of = column()
            if name == "sum":
                answers.append(float(table[chosen, place_of].sum()))
            else:
                kind = "lookup"
                lookup[chosen, place_of] = 1
    return (kind, lookup) if kind == "lookup" else (kind, answers[0] - sum(answers[1:]))


@pytest.mark.parametrize(("columns", "text_words"), [(1, 0), (3, 0), (1, 4), (5, 4)])
def test_answers_are_what_the_words_ask_for(columns: int, text_words: int):
    kinds = templates(text_words > 0)
    batch = draw(kinds, columns=columns, text_words=text_words, count=300)
    for place in range(300):
        kind, answer = read(batch, place, columns)
        assert bool(batch["is_scalar"][place]) == (kind == "scalar")
        if kind == "scalar":
            assert float(batch["scalar"][place]) == pytest.approx(answer, abs=1e-3)
        else:
            assert torch.equal(batch["lookup"][place], answer)


def test_there_are_twenty_three_kinds_of_questions_to_numbers():
    assert len(templates(text=False)) == len(set(templates(text=False))) == 23
    assert len(templates(text=True)) == 32


class CalledByHand(NeuralProgrammer):
    """Calls a given operation at each step on the first column, and knows which number belongs to which word."""

    program: list[str]
    calls: int

    def _choice(self, context: Tensor, weight: Tensor, vectors: Tensor, hard: bool) -> Tensor:
        chosen = torch.zeros(*context.shape[:2], vectors.shape[1])
        operation = vectors is self.operation_vectors
        chosen[..., self.operations.index(self.program[self.calls]) if operation else 0] = 1
        self.calls += not operation  # the column is chosen after the operation
        return chosen

    def _question(self, batch: Batch, draws: Draws | None) -> tuple[Tensor, Tensor]:
        q, hidden = super()._question(batch, draws)
        return q, 30 * torch.nn.functional.one_hot(batch["words"][..., : hidden.shape[2]], self.words.shape[2]).float()

    def _text_matches(self, batch: Batch, hidden: Tensor) -> Tensor | None:
        return (batch["text"].unsqueeze(-1) == batch["words"].unsqueeze(-2)).any(-1).float()


def by_hand(kind: str) -> list[str]:
    """Four operations that answer a kind of question."""
    if "diff" in kind:
        first, _, second = kind.split()
        return [first, "reset", second, "difference"]
    *conditions, answer = kind.split()
    calls = [{"equal": "text_match"}.get(word, word) for word in conditions if word in ("greater", "lesser", "equal")]
    calls += [word for word in conditions if word in ("and", "or")]
    return ["reset"] * (3 - len(calls)) + [*calls, {"print": "assign"}.get(answer, answer)]


@pytest.mark.parametrize("kind", templates(text=True))
def test_every_kind_of_question_has_a_program_of_four_operations(kind: str):
    batch = draw([kind], text_words=3, count=20)
    model = CalledByHand([0], vocabulary=len(WORDS) + 4, first_column_word=len(WORDS), text=True, width=32)
    with torch.no_grad():
        model.operation_vectors.zero_()
        for name in ("greater", "lesser"):
            model.operation_vectors[:, OPERATIONS.index(name), WORD[name]] = 30
    model.program, model.calls = by_hand(kind), 0
    assert float(model.errors({name: value[None] for name, value in batch.items()}).detach()) == pytest.approx(0)


def test_soft_choices_sum_to_one_and_hard_ones_are_certain():
    problem = ProgrammerProblem(rows=5, columns=3, text_words=2, kinds=None, held_out=8, width=12)
    model = problem.model([0, 1])
    batch = {name: value.expand(2, *value.shape) for name, value in problem.held_out("val").items()}
    soft, hard = model.run(batch), model.run(batch, hard=True)
    assert soft.operations.shape == (2, 8, 4, 10)
    assert soft.columns.shape == (2, 8, 4, 3)
    assert torch.allclose(soft.operations.sum(-1), torch.ones(2, 8, 4))
    assert torch.equal(hard.operations, hard.operations.round())
    assert soft.lookup.shape == (2, 8, 5, 3)


def test_the_single_column_machine_has_so_many_parameters():
    d = 256
    problem = ProgrammerProblem(rows=30, columns=1, text_words=0, kinds=None, held_out=8)
    count = sum(one[0].numel() for one in problem.model([0]).parameters())
    assert count == (len(WORDS) + 1) * d + 9 * d + 2 * d * d + 3 * d * d + 2 * 2 * d * d


def test_the_loss_is_hubers_for_scalars():
    problem = ProgrammerProblem(rows=4, columns=1, text_words=0, kinds=2, held_out=16, width=8, huber=10.0)
    model = problem.model([0])
    batch = {name: value[None] for name, value in problem.held_out("val").items()}
    off = (model.run(batch).scalar - batch["scalar"]).abs()
    expected = torch.where(off <= 10, off**2 / 2, 10 * off - 50).mean()
    draws = Draws([Member(0)], 0, torch.device("cpu"))
    assert torch.allclose(model.loss(batch, torch.zeros(1, dtype=torch.int64), 0, draws)[0], expected)


def test_words_after_the_question_change_nothing():
    problem = ProgrammerProblem(rows=4, columns=1, text_words=0, kinds=None, held_out=16, width=8)
    model = problem.model([0])
    batch = {name: value[None].clone() for name, value in problem.held_out("val").items()}
    before = model.run(batch).scalar
    places = torch.arange(batch["words"].shape[-1])
    batch["words"][places >= batch["word_count"].unsqueeze(-1)] = 3
    assert torch.equal(model.run(batch).scalar, before)


def test_more_kinds_of_questions_than_there_are_are_refused():
    with pytest.raises(ConfigurationError, match="take 1 … 23"):
        ProgrammerProblem(rows=4, columns=1, text_words=0, kinds=24, held_out=8)


def test_tables_without_rows_are_refused():
    with pytest.raises(ConfigurationError, match="at least one of each"):
        ProgrammerProblem(rows=0, columns=1, text_words=0, kinds=None, held_out=8)
