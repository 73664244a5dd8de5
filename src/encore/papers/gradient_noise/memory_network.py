"""End-to-end memory networks (Sukhbaatar et al., arXiv 1503.08895), the second experiment on gradient noise.

    story ─ words of n sentences ─ position encoding ─┬─ A^1 + T_A^1 ── m_i ┐   ┌─ C^1 + T_C^1 ── c_i
                                                      │  p = softmax(u·m_i) ┴───┴─ o = Σ p_i c_i
    question ─ position encoding ─ B ────────── u^1 ──┴────────── u^2 = u^1 + o^1 ── … K hops … ── W u^(K+1) → answer

Adjacent weight tying: A^(k+1) = C^k, B = A^1, Wᵀ = C^K, and the same for the time encodings; so K + 1 tables of words
and K + 1 of times are all there is.

Position encoding (section 4.1): m_i = Σ_j l_j ∘ A x_ij, l_kj = (1 − j/J) − (k/d)(1 − 2j/J). The authors' code
(facebook/MemNN, MemN2N-babi-matlab, build_model.m) has twice that, centred: l_kj = 1 + 4 (k − (d + 1)/2)
(j − (J + 1)/2) / (dJ). So it is done here, since the paper on gradient noise keeps to the original recipe, and since
with embeddings of half the length the linear stage takes four times as long to understand tasks of several facts. J is
the sentence's own length, as in the paper; in that code it is the length of the task's longest sentence.

The encoding is linear in two bags of words, Σ_j x_ij and Σ_j (j − (J + 1)/2)/J x_ij, which do not change while the
network learns. So a sentence is these two bags, u·m_i is taken in the space of words, and no sentence is ever
embedded: many networks then learn on the same stories at little more than the cost of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from encore.base.errors import ConfigurationError, DataError

NULL = 0
"""Index of the null word, which fills up sentences and stories; its embedding is zero and is not stored."""

INITIAL_STD = 0.1
"""Standard deviation of all weights at the beginning."""


@dataclass(frozen=True)
class Answers:
    """What networks say.

    Attributes:
        logits: (S, R, B, V), of every word to be the answer.
        attention: (K, S, R, B, n), how each hop weighs the memories; while it is linear they need not sum to 1.
    """

    logits: Tensor
    attention: Tensor


def position_bags(words: Tensor, num_words: int) -> Tensor:
    """Sentences as the two weighted bags of words of position encoding.

    Args:
        words: (…, J) int64, word indices 1…V, filled up with `NULL` at the end.
        num_words: V.

    Returns:
        (…, 2V) float32: how often each word occurs, then Σ_j (j − (J + 1)/2)/J over its places, J being the sentence's
        own length. An empty sentence is zero.
    """
    real = (words != NULL).float()
    length = real.sum(-1, keepdim=True).clamp_min(1)
    places = torch.arange(1, words.shape[-1] + 1, device=words.device)
    centred = (places - (length + 1) / 2) / length
    bags = torch.zeros(*words.shape[:-1], 2, num_words + 1, device=words.device)
    bags[..., 0, :].scatter_add_(-1, words, real)
    bags[..., 1, :].scatter_add_(-1, words, centred * real)
    return bags[..., 1:].flatten(-2)


def respond(words: Tensor, times: Tensor, memories: Tensor, questions: Tensor, linear: Tensor | None = None) -> Answers:
    """Ask S · R networks: S groups of R, of which each group has its own questions.

    Args:
        words: (K + 1, S, R, V, d), the tables A^1, C^1 = A^2, …, C^K.
        times: (K + 1, S, R, n, d), the tables T_A^1, T_C^1 = T_A^2, …; place 0 is the newest memory.
        memories: (S, B, n, 2V), bags of the statements, newest first; a memory of zeros is empty.
        questions: (S, B, 2V), bags.
        linear: (S, R) bool, the networks whose hops have no softmax yet; none by default.
    """
    embed_dim = words.shape[-1]
    places = torch.arange(1, embed_dim + 1, device=words.device)
    centred = 4 * (places - (embed_dim + 1) / 2) / embed_dim
    tables = torch.cat([words, centred * words], -2).unbind(0)  # bags (2V) → d
    clocks = times.unbind(0)
    # An empty memory has neither words nor time: it gets the score 0 and gives nothing.
    occupied = memories.any(-1).unsqueeze(1).to(words.dtype)
    inward = memories.mT
    state = questions.unsqueeze(1) @ tables[0]  # u^1 = B q
    weights = []
    for hop in range(len(tables) - 1):
        asked = (state @ tables[hop].mT).transpose(1, 2)  # (S, B, R, 2V)
        scores = (asked @ inward).transpose(1, 2) + occupied * (state @ clocks[hop].mT)  # u · m_i, (S, R, B, n)
        attention = scores.softmax(-1)
        if linear is not None:
            attention = torch.where(linear[..., None, None], scores, attention)
        found = (attention.transpose(1, 2) @ memories).transpose(1, 2)
        state = state + found @ tables[hop + 1] + (attention * occupied) @ clocks[hop + 1]  # u + o
        weights.append(attention)
    return Answers(state @ words[-1].mT, torch.stack(weights))


class MemN2N(nn.Module):
    """One end-to-end memory network with adjacent weight tying.

    Args:
        num_words: V, without the null word; the answers are among them.
        num_memories: n, the most statements that it remembers.
        embed_dim: d; 20 for one task, 50 for all together.
        num_hops: K.

    Attributes:
        words: (K + 1, V, d) tables of words.
        times: (K + 1, n, d) tables of times.
        linear: while true, the hops have no softmax (linear start).

    Raises:
        ConfigurationError: one of the sizes is below 1.

    Example:
        >>> network = MemN2N(num_words=19, num_memories=10)
        >>> network(torch.randint(1, 20, (2, 10, 6)), torch.randint(1, 20, (2, 3))).shape
        torch.Size([2, 19])
    """

    def __init__(self, num_words: int, num_memories: int = 50, embed_dim: int = 20, num_hops: int = 3) -> None:
        super().__init__()
        sizes = {"num_words": num_words, "num_memories": num_memories, "embed_dim": embed_dim, "num_hops": num_hops}
        for name, size in sizes.items():
            if size < 1:
                raise ConfigurationError(f"{name} is {size}", "give 1 or more")
        self.words = nn.Parameter(torch.randn(num_hops + 1, num_words, embed_dim) * INITIAL_STD)
        self.times = nn.Parameter(torch.randn(num_hops + 1, num_memories, embed_dim) * INITIAL_STD)
        self.linear = False

    def forward(self, statements: Tensor, questions: Tensor) -> Tensor:
        """Logits of the answers.

        Args:
            statements: (B, n, J) int64 word indices, newest first, filled up with `NULL`.
            questions: (B, J) int64.

        Returns:
            (B, V); column v is of word v + 1.

        Raises:
            DataError: another number of memories, or a word that is not known.
        """
        return self.answers(statements, questions).logits[0, 0]

    def answers(self, statements: Tensor, questions: Tensor) -> Answers:
        """As `forward`, with the attention of each hop; S and R are 1."""
        num_words, num_memories = self.words.shape[1], self.times.shape[1]
        if statements.ndim != 3 or statements.shape[1] != num_memories:
            raise DataError(f"statements are of shape {tuple(statements.shape)}", f"due is (B, {num_memories}, J)")
        highest = int(max(statements.max(), questions.max()))
        if highest > num_words:
            raise DataError(f"word {highest} is not known", f"give words up to {num_words}")
        return respond(
            self.words[:, None, None],
            self.times[:, None, None],
            position_bags(statements, num_words)[None],
            position_bags(questions, num_words)[None],
            torch.full((1, 1), self.linear, device=self.words.device),
        )
