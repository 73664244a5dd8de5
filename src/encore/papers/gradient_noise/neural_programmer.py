"""Neural Programmer (arXiv 1511.04834): a recurrent network that answers questions to a table by calling operations.

    words → question RNN → q (d)
    T times:  (q, history) → softmax over operations and over columns → their results, mixed
              → scalar answer, answer in the table (lookup), rows selected so far
              → history RNN
    the last step's scalar or lookup is the answer

In training all operations are mixed by their probabilities; at test the likeliest is called alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from encore.papers.gradient_noise.neural_ensembles import Batch, Draws, EnsembleModel, linear

OPERATIONS = ("sum", "count", "difference", "greater", "lesser", "and", "or", "assign", "reset", "text_match")
"""The operations; the last is left out for tables without text."""
CLOSE = 1e-3
"""A scalar is right if it is off by less than this share of itself, or by less than this."""
SMALLEST = 1e-6


@dataclass(frozen=True)
class Answer:
    """What a program leaves.

    Attributes:
        scalar: (E, B).
        lookup: (E, B, rows, columns), probability that a cell belongs to the answer.
        operations: (E, B, T, operations), probabilities of each step.
        columns: (E, B, T, columns).
    """

    scalar: Tensor
    lookup: Tensor
    operations: Tensor
    columns: Tensor


class NeuralProgrammer(EnsembleModel):
    """The machine, one for each seed.

    Args:
        seeds: of the members.
        vocabulary: words of the questions, names of columns and entries of the text column included.
        columns: of numbers.
        first_column_word: the word that names the first column; the others follow.
        text: whether the tables have a column of text.
        width: d of words and recurrent networks.
        timesteps: T, operations of a program.
        huber: δ, from which on the loss of a scalar grows linearly.
        lookup_weight: λ of the loss of answers in the table.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        *,
        vocabulary: int,
        columns: int = 1,
        first_column_word: int = 0,
        text: bool = False,
        width: int = 256,
        timesteps: int = 4,
        huber: float = 10.0,
        lookup_weight: float = 50.0,
    ) -> None:
        super().__init__(seeds)
        d, self.timesteps, self.huber, self.lookup_weight = width, timesteps, huber, lookup_weight
        self.operations = OPERATIONS if text else OPERATIONS[:-1]
        self.column_words = (first_column_word, first_column_word + columns)
        bound = 1 / math.sqrt(d)
        self.words = self.uniform("words", vocabulary, d, bound=math.sqrt(3) * bound * 4)
        self.operation_vectors = self.uniform("operation_vectors", len(self.operations), d, bound=math.sqrt(3) * bound)
        self.question_weight = self.uniform("question_weight", 2 * d, d, bound=bound)
        self.history_weight = self.uniform("history_weight", 3 * d, d, bound=bound)
        self.operation_weight = self.uniform("operation_weight", 2 * d, d, bound=bound)
        self.column_weight = self.uniform("column_weight", 2 * d, d, bound=bound)
        self.text_weight = self.uniform("text_weight", d, d, bound=bound) if text else None

    def run(self, batch: Batch, *, hard: bool = False, draws: Draws | None = None) -> Answer:
        """Answer the questions of a batch.

        Args:
            batch: see `question_samples`, with a leading dimension for the members.
            hard: call the likeliest operation and column alone.
            draws: dropout masks, in training.
        """
        q, hidden = self._question(batch, draws)
        E, B, _ = q.shape
        table = batch["table"]
        rows = table.shape[2]
        P = self.words[:, self.column_words[0] : self.column_words[1]]
        greater, lesser = self._comparisons(batch, hidden)
        matches = self._text_matches(batch, hidden)
        history = torch.zeros_like(q)
        selected = [torch.ones(E, B, rows, device=q.device)] * 2
        scalars = [torch.zeros(E, B, device=q.device)] * 3
        lookup = torch.zeros_like(table)
        called, looked_at = [], []
        for _ in range(self.timesteps):
            context = torch.cat([q, history], -1)
            operation = self._choice(context, self.operation_weight, self.operation_vectors, hard)
            column = self._choice(context, self.column_weight, P, hard)
            of = dict(zip(self.operations, operation.unbind(-1), strict=True))
            last, before = selected[-1], selected[-2]
            sums = (last.unsqueeze(-1) * table).sum(2)
            scalar = (
                of["sum"] * (column * sums).sum(-1)
                + of["count"] * last.sum(-1)
                + of["difference"] * (scalars[-3] - scalars[-1])
            )
            lookup = (of["assign"].unsqueeze(-1) * column).unsqueeze(2) * last.unsqueeze(-1)
            picked = (column.unsqueeze(2) * greater).sum(-1) * of["greater"].unsqueeze(-1)
            picked = picked + (column.unsqueeze(2) * lesser).sum(-1) * of["lesser"].unsqueeze(-1)
            picked = picked + of["and"].unsqueeze(-1) * torch.minimum(last, before)
            picked = picked + of["or"].unsqueeze(-1) * torch.maximum(last, before)
            picked = picked + of["reset"].unsqueeze(-1)
            if matches is not None:
                picked = picked + of["text_match"].unsqueeze(-1) * matches
            selected.append(picked)
            scalars.append(scalar)
            seen = torch.cat([linear(operation, self.operation_vectors), linear(column, P), history], -1)
            history = torch.tanh(linear(seen, self.history_weight))
            called.append(operation)
            looked_at.append(column)
        return Answer(scalars[-1], lookup, torch.stack(called, 2), torch.stack(looked_at, 2))

    def loss(self, batch: Batch, stages: Tensor, step: int, draws: Draws) -> tuple[Tensor, Tensor]:
        """Huber loss of scalars and cross-entropy of every cell of lookups, averaged over the questions."""
        answer = self.run(batch, draws=draws)
        scalar = nn.functional.huber_loss(answer.scalar, batch["scalar"], reduction="none", delta=self.huber)
        chance = SMALLEST + (1 - 2 * SMALLEST) * answer.lookup.clamp(0, 1)
        lookup = nn.functional.binary_cross_entropy(chance, batch["lookup"], reduction="none").mean((2, 3))
        is_scalar = batch["is_scalar"]
        cost = (is_scalar * scalar + (1 - is_scalar) * self.lookup_weight * lookup).mean(1)
        return cost, cost

    def errors(self, batch: Batch) -> Tensor:
        """Shares of wrong answers with hard choices."""
        answer = self.run(batch, hard=True)
        tolerance = CLOSE * batch["scalar"].abs().clamp_min(1)
        scalar = (answer.scalar - batch["scalar"]).abs() < tolerance
        lookup = ((answer.lookup > 0.5) == (batch["lookup"] > 0.5)).flatten(2).all(-1)
        right = torch.where(batch["is_scalar"] > 0, scalar, lookup)
        return 1 - right.float().mean(-1)

    def _question(self, batch: Batch, draws: Draws | None) -> tuple[Tensor, Tensor]:
        """q (E, B, d), and the hidden vector after every word (E, B, Q, d)."""
        words, count = batch["words"], batch["word_count"]
        E, B, Q = words.shape
        Q = int(count.max())
        member = torch.arange(E, device=words.device)[:, None, None]
        embedded = self.words[member, words[..., :Q]]
        kept = draws.keep(Q, B, embedded.shape[-1]) if draws else None
        embedded = embedded if kept is None else embedded * kept.transpose(1, 2)
        z = torch.zeros_like(embedded[:, :, 0])
        hidden = []
        for place in range(Q):
            new = torch.tanh(linear(torch.cat([z, embedded[:, :, place]], -1), self.question_weight))
            z = torch.where((place < count).unsqueeze(-1), new, z)
            hidden.append(z)
        return z, torch.stack(hidden, 2)

    def _choice(self, context: Tensor, weight: Tensor, vectors: Tensor, hard: bool) -> Tensor:
        """Softmax over `vectors` (E, K, d) of their products with tanh(W context): (E, B, K)."""
        chance = torch.bmm(torch.tanh(linear(context, weight)), vectors.mT).softmax(-1)
        return nn.functional.one_hot(chance.argmax(-1), chance.shape[-1]).float() if hard else chance

    def _comparisons(self, batch: Batch, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each cell is greater, and lesser, than the operation's pivot: (E, B, rows, columns) each.

        A pivot is a mean of the question's numbers, weighted by what the word before each has in common with the
        operation. As in the paper no gradient passes the comparison: the weights follow from what is learnt elsewhere.
        """
        places = batch["number_places"]
        there = places >= 0
        index = places.clamp(0, hidden.shape[2] - 1).unsqueeze(-1).expand(*places.shape, hidden.shape[-1])
        z = hidden.gather(2, index)
        found = []
        for name in ("greater", "lesser"):
            vector = self.operation_vectors[:, self.operations.index(name)]
            logits = torch.einsum("ebnd,ed->ebn", z, vector).masked_fill(~there, -1e9)
            pivot = (logits.softmax(-1) * batch["numbers"]).sum(-1)[..., None, None]
            found.append((batch["table"] > pivot if name == "greater" else batch["table"] < pivot).float())
        return found[0], found[1]

    def _text_matches(self, batch: Batch, hidden: Tensor) -> Tensor | None:
        """How well each row's text fits the question: (E, B, rows), or None for tables without text."""
        if self.text_weight is None:
            return None
        words, text = batch["words"][..., : hidden.shape[2]], batch["text"]
        member = torch.arange(len(text), device=text.device)[:, None, None]
        vector = self.operation_vectors[:, self.operations.index("text_match")]
        inside = torch.arange(words.shape[-1], device=words.device) < batch["word_count"].unsqueeze(-1)
        logits = torch.einsum("ebqd,ed->ebq", hidden, vector).masked_fill(~inside, -1e9)
        sought = torch.einsum("ebq,ebqd->ebd", logits.softmax(-1), self.words[member, words])
        entries = self.words[member, text]
        return torch.sigmoid(torch.einsum("ebrd,ebd->ebr", entries, linear(sought, self.text_weight)))
