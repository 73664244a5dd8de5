"""What can be asked of a hidden Chow-Liu tree beside likelihoods: conditionals, samples, most probable completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from encore.papers.pc_compression.structure import Tree


@dataclass(frozen=True)
class Level:
    """The inner nodes of one depth, which lie side by side in every array.

    Attributes:
        start, stop: their places among `Tree.inner`.
        slots: the s-th entry has, of each node with more than s children, the s-th child, as a row of the layout; they
            are the first nodes of the level.
        above: (n,) their parents, as places among `Tree.inner`; empty at the root.
    """

    start: int
    stop: int
    slots: tuple[Tensor, ...]
    above: Tensor

    @property
    def here(self) -> slice:
        """Their places."""
        return slice(self.start, self.stop)


@dataclass
class Evidence:
    """What the upward pass leaves for a downward one.

    Attributes:
        log_likelihood: (N,) log p of what was observed, in nats.
        products: (inner, N, H), the P of inner nodes, each of sum 1.
        messages: (D, N, H), the M of all nodes but the root, in the order of the layout.
    """

    log_likelihood: Tensor
    products: Tensor
    messages: Tensor


class Queries:
    """Mixin of the tree, which has the passes up and down that these are made of."""

    prior: Tensor
    transitions: Tensor
    emissions: Tensor
    tree: Tree
    num_variables: int
    num_values: int
    num_states: int

    if TYPE_CHECKING:

        @property
        def layout(self) -> NDArray[np.int64]: ...

        @property
        def states_of(self) -> Tensor: ...

        @property
        def _levels(self) -> list[Level]: ...

        def upward(self, x: Tensor, observed: Tensor | None = None) -> Evidence: ...

        def posteriors(self, evidence: Evidence) -> Tensor: ...

        def _checked(self, x: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor | None]: ...

    @torch.no_grad()
    def conditionals(self, x: Tensor, observed: Tensor) -> Tensor:
        """p(x_i = k | what was observed) of every variable, (N, D, K); one at their value for observed ones.

        Args:
            x, observed: see `log_likelihood`.

        Raises:
            ValueError: see `log_likelihood`.
        """
        states = self.posteriors(self.upward(x, observed))[self.states_of]
        answer = torch.bmm(states, self.emissions.transpose(1, 2)).transpose(0, 1)
        known = F.one_hot(x.long().clamp(0, self.num_values - 1), self.num_values).to(answer.dtype)
        return torch.where(observed.expand(x.shape).unsqueeze(2), known, answer)

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        generator: torch.Generator,
        x: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> Tensor:
        """Draw from p(x), or from p(x | what was observed).

        Args:
            num_samples: N.
            generator: of the random numbers, on the model's device.
            x, observed: see `log_likelihood`; N samples, or none.

        Returns:
            (N, D) int64.

        Raises:
            ValueError: see `log_likelihood`.
        """
        D = self.num_variables
        if x is None or observed is None:
            x = torch.zeros(num_samples, D, dtype=torch.long, device=self.prior.device)
            observed = torch.zeros_like(x, dtype=torch.bool)
        states = self.sample_states(num_samples, generator, self.upward(x, observed))
        drawn = [
            _draw(self.emissions[variable].T[states[place]], generator)
            for variable, place in enumerate(self.states_of.tolist())
        ]
        return torch.where(observed.expand(x.shape), x.long(), torch.stack(drawn, 1))

    @torch.no_grad()
    def sample_states(self, num_samples: int, generator: torch.Generator, evidence: Evidence | None = None) -> Tensor:
        """Draw the hidden states, given the evidence of as many samples where there is some; (inner, num_samples)."""
        states = torch.zeros(len(self.tree.inner), num_samples, dtype=torch.long, device=self.prior.device)
        top = self.prior.expand(num_samples, -1)
        states[0] = _draw(top if evidence is None else evidence.products[0] * top, generator)
        for level in self._levels[1:]:
            for child, parent in zip(range(level.start, level.stop), level.above.tolist(), strict=True):
                rows = self.transitions[child][states[parent]]
                states[child] = _draw(rows if evidence is None else rows * evidence.products[child], generator)
        return states

    @torch.no_grad()
    def most_probable(self, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """The most probable values and hidden states together, given what was observed (MPE).

        The most probable values alone, hidden states summed out, cannot be found exactly in reasonable time.

        Args:
            x, observed: see `log_likelihood`.

        Returns:
            Values (N, D) int64, and log p(values, states) in nats, (N,).

        Raises:
            ValueError: see `log_likelihood`.
        """
        index, seen = self._checked(x, observed)
        assert seen is not None
        N, D = x.shape
        table = self.emissions.log()
        best, choice = table.max(1)  # (D, H)
        messages = F.embedding(index, table.flatten(0, 1))
        messages = torch.where(seen.unsqueeze(2), messages, best[self.layout].unsqueeze(1))
        transitions = self.transitions.log()
        inner = len(self.tree.inner)
        picks = torch.zeros(inner, N, self.num_states, dtype=torch.long, device=x.device)
        for level in reversed(self._levels):
            product = messages[level.here]
            for children in level.slots:
                product[: len(children)] += messages[children]
            for place in range(max(level.start, 1), level.stop):
                paths = transitions[place].unsqueeze(0) + messages[place].unsqueeze(1)
                messages[place], picks[place] = paths.max(2)
        states = torch.zeros(inner, N, dtype=torch.long, device=x.device)
        value, states[0] = (messages[0] + self.prior.log()).max(1)
        for level in self._levels[1:]:
            for child, parent in zip(range(level.start, level.stop), level.above.tolist(), strict=True):
                states[child] = picks[child].gather(1, states[parent].unsqueeze(1))[:, 0]
        chosen = torch.stack([choice[d][states[place]] for d, place in enumerate(self.states_of.tolist())], 1)
        return torch.where(observed.expand(N, D), x.long(), chosen), value


def _draw(weights: Tensor, generator: torch.Generator) -> Tensor:
    """(N, M) weights → (N,) indices."""
    return torch.multinomial(weights, 1, generator=generator)[:, 0]
