"""Hidden Chow-Liu tree (Liu, Mandt, Van den Broeck; arXiv 2111.11632): a circuit that knows every probability exactly.

```text
p(x) = Σ_z  p(z_root) · Π_i p(z_i | z_pa(i)) · Π_i p(x_i | z_i)        z_i in 1…H, along a tree of the variables
```

Upwards, P_i[h] = p(x_i | z_i = h) · Π_{children c} M_c[h] and M_i[j] = Σ_h p(z_i = h | z_pa = j) P_i[h]. A variable
without children has no state of its own: its values depend on its parent's (as in both official codes), so M_i[j] =
p(x_i | z_pa = j). Every vector is kept with sum 1, and the logarithms of what was divided out are added up; products
of probabilities never leave the range of float32.

Arrays of a batch are (variables, N, H): one product of matrices serves all nodes of a depth and all samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import csc_matrix
from torch import Tensor

from encore.base.registry import register_model
from encore.nn.model import EncoreModel
from encore.papers.pc_compression.form import SampleForm
from encore.papers.pc_compression.structure import Tree

_TINY = 1e-30
"""What divides nothing by zero; messages of float32 are either far above it or no message at all."""


@dataclass(frozen=True)
class Level:
    """The inner nodes of one depth, by their places among all inner nodes.

    Attributes:
        nodes: (n,) variables.
        places: (n,) their places among `Tree.inner`.
        slots: the s-th entry pairs the nodes that have more than s children, as places within this level, with the
            s-th child of each, a variable.
        below: (m,) the inner children, as places among `Tree.inner`, and (m,) their parents as places in this level.
    """

    nodes: Tensor
    places: Tensor
    slots: tuple[tuple[Tensor, Tensor], ...]
    below: tuple[Tensor, Tensor]


@dataclass
class Flows:
    """Expected counts of a batch: how often each choice of each distribution was made (the E step).

    Attributes:
        log_likelihood: Σ log p(x), in nats.
        prior: (H,) of the root's states.
        transitions: (inner, H, H), of a node's state (last axis) given its parent's; zero at the root.
        emissions: (D, K, H), of a variable's values given the state that it depends on.
    """

    log_likelihood: float
    prior: Tensor
    transitions: Tensor
    emissions: Tensor

    def __iadd__(self, other: Flows) -> Flows:
        self.log_likelihood += other.log_likelihood
        for own, more in zip(
            (self.prior, self.transitions, self.emissions),
            (other.prior, other.transitions, other.emissions),
            strict=True,
        ):
            own += more
        return self


@dataclass
class Evidence:
    """What the upward pass leaves for a downward one.

    Attributes:
        log_likelihood: (N,) log p of what was observed, in nats.
        products: (inner, N, H), the P of inner nodes, each of sum 1.
        messages: (D, N, H), the M of all nodes but the root, up to a factor.
    """

    log_likelihood: Tensor
    products: Tensor
    messages: Tensor


@register_model("hclt")
class HCLT(EncoreModel):
    """A hidden Chow-Liu tree of categorical variables.

    Probabilities are buffers: they are learnt by expectation maximisation (`method.py`), not by gradients.

    Args:
        parents: the parent of each of the D variables in the tree; -1 at its root.
        num_values: K, how many values a variable has.
        num_states: H, how many a hidden variable has.
        sample_shape: of what is coded, D values in all; (D,) where it is not said.
        lowest: the value that is category 0.
        tiles: whether samples are tiles of larger pictures.

    Raises:
        ValueError: `parents` are no tree, a number is below 1, or the shape has another number of values.

    Example:
        >>> model = HCLT(parents=[-1, 0, 0], num_values=4, num_states=2)
        >>> model(torch.zeros(5, 3, dtype=torch.long)).shape
        torch.Size([5])
    """

    prior: Tensor
    transitions: Tensor
    emissions: Tensor

    def __init__(
        self,
        parents: Sequence[int] = (-1,),
        num_values: int = 256,
        num_states: int = 16,
        sample_shape: Sequence[int] | None = None,
        lowest: int = 0,
        tiles: bool = False,
    ) -> None:
        super().__init__()
        if num_values < 1 or num_states < 1:
            raise ValueError(f"num_values is {num_values} and num_states {num_states}; both are at least 1")
        self.tree = Tree(np.asarray(parents, np.int64))
        self.num_variables, self.num_values, self.num_states = len(self.tree), num_values, num_states
        shape = (self.num_variables,) if sample_shape is None else tuple(sample_shape)
        self.form = SampleForm(shape, num_values, lowest, tiles)
        if self.form.num_variables != self.num_variables:
            raise ValueError(f"samples of {shape} have other than {self.num_variables} values")
        H = num_states
        self.register_buffer("prior", torch.full((H,), 1 / H))
        self.register_buffer("transitions", torch.full((len(self.tree.inner), H, H), 1 / H))
        self.register_buffer("emissions", torch.full((len(self.tree), num_values, H), 1 / num_values))

    @property
    def num_free_parameters(self) -> int:
        """Probabilities that the others do not determine."""
        H, inner = self.num_states, max(len(self.tree.inner), 1)
        return self.num_variables * H * (self.num_values - 1) + (inner - 1) * H * (H - 1) + H - 1

    def randomise(self, generator: torch.Generator, perturbation: float = 0.4) -> None:
        """Start every distribution near the uniform one, which is itself a place where learning stands still.

        Each is proportional to 1 - p + 2p·U(0, 1), p the perturbation (official code).
        """
        for buffer, axis in ((self.prior, 0), (self.transitions, 2), (self.emissions, 1)):
            noise = torch.rand(buffer.shape, generator=generator)
            drawn = 1 - perturbation + 2 * perturbation * noise
            buffer.copy_(drawn / drawn.sum(axis, keepdim=True))

    # what every model of the task does

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return self.form.shape

    @property
    def takes_tiles(self) -> bool:
        """Whether samples are tiles of larger pictures."""
        return self.form.tiles

    def refusal(self, shape: Sequence[int], low: int, high: int) -> str | None:
        """Why samples of this shape with values low…high are none of the model's; None if they are."""
        return self.form.refusal(shape, low, high)

    def bits(self, samples: Tensor) -> Tensor:
        """(N, *sample_shape) integers → the bits that each ideally takes, (N,) float64.

        Raises:
            ValueError: see `log_likelihood`.
        """
        variables = torch.from_numpy(self.form.variables(samples.cpu().numpy())).to(self.prior.device)
        return self.log_likelihood(variables) / -math.log(2)

    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Random samples, (num_samples, *sample_shape) int64."""
        return torch.from_numpy(self.form.samples(self.sample(num_samples, generator).cpu().numpy()))

    # structure

    @cached_property
    def _levels(self) -> list[Level]:
        """From the root's to the deepest."""
        tree = self.tree
        place_of = {variable: place for place, variable in enumerate(tree.inner.tolist())}
        depths = tree.depths[tree.inner]
        levels = []
        for depth in range(int(depths.max(initial=-1)) + 1):
            nodes = tree.inner[depths == depth].tolist()
            at = {node: index for index, node in enumerate(nodes)}
            most = max(len(tree.children[node]) for node in nodes)
            slots = []
            for slot in range(most):
                having = [node for node in nodes if len(tree.children[node]) > slot]
                slots.append(
                    (
                        torch.tensor([at[node] for node in having]),
                        torch.tensor([tree.children[node][slot] for node in having]),
                    )
                )
            below = [
                (place_of[child], at[node]) for node in nodes for child in tree.children[node] if child in place_of
            ]
            levels.append(
                Level(
                    torch.tensor(nodes),
                    torch.tensor([place_of[node] for node in nodes]),
                    tuple(slots),
                    (
                        torch.tensor([child for child, _ in below], dtype=torch.long),
                        torch.tensor([parent for _, parent in below], dtype=torch.long),
                    ),
                )
            )
        return levels

    @cached_property
    def _states_of(self) -> Tensor:
        """(D,) the inner node whose state each variable's values depend on, as a place among `Tree.inner`."""
        place_of = {variable: place for place, variable in enumerate(self.tree.inner.tolist())}
        owners = [
            place_of.get(variable, place_of.get(int(parent), 0)) for variable, parent in enumerate(self.tree.parents)
        ]
        return torch.tensor(owners)

    # upwards

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) integers 0…K-1 → log p(x) in nats, (N,)."""
        return self.log_likelihood(x)

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """log p of the observed values, all others summed out.

        Args:
            x: (N, D) integers 0…K-1; what is not observed is not looked at.
            observed: (N, D) or (D,) bool; None for all.

        Returns:
            (N,) float64, in nats.

        Raises:
            ValueError: x is of another shape, or an observed value is none of the K.
        """
        return self.upward(x, observed).log_likelihood

    @torch.no_grad()
    def upward(self, x: Tensor, observed: Tensor | None = None) -> Evidence:
        """The pass from the leaves to the root. Arguments and errors: see `log_likelihood`."""
        index, seen = self._checked(x, observed)
        messages = F.embedding(index, self.emissions.flatten(0, 1))
        if seen is not None:
            messages.masked_fill_(~seen.unsqueeze(2), 1.0)
        N, H = len(x), self.num_states
        products = messages.new_empty(len(self.tree.inner), N, H)
        total = torch.zeros(N, dtype=torch.float64, device=x.device)
        for level in reversed(self._levels):
            product = messages[level.nodes]
            for slot, (nodes, children) in enumerate(level.slots):
                if len(nodes) == len(product):
                    product *= messages[children]
                else:
                    product[nodes] *= messages[children]
                if slot % 4 == 3:
                    total += self._normalise(product)
            total += self._normalise(product)
            products[level.places] = product
            if level is not self._levels[0]:
                messages[level.nodes] = torch.bmm(product, self.transitions[level.places].transpose(1, 2))
        root = self._levels[0].places[0] if self._levels else None
        top = products[root] if root is not None else messages[0]
        likelihood = top @ self.prior
        total += likelihood.double().log()
        return Evidence(total, products, messages)

    @staticmethod
    def _normalise(product: Tensor) -> Tensor:
        """Divide (n, N, H) by its sums over H, in place; the sum of their logarithms over n, (N,) float64."""
        sums = product.sum(2)
        product /= sums.clamp(min=_TINY).unsqueeze(2)
        return sums.log().sum(0, dtype=torch.float64)

    def _checked(self, x: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(D, N) rows of the flat emissions, and (D, N) what is observed."""
        if x.ndim != 2 or x.shape[1] != self.num_variables or x.is_floating_point():
            raise ValueError(f"x is {tuple(x.shape)} {x.dtype}; the tree takes (N, {self.num_variables}) integers")
        values = x.T.long()
        seen = None
        if observed is not None:
            seen = observed.to(x.device).expand(x.shape).T
            values = values.masked_fill(~seen, 0)
        if values.numel() and (int(values.min()) < 0 or int(values.max()) >= self.num_values):
            raise ValueError(
                f"values from {int(values.min())} to {int(values.max())}; the tree knows 0…{self.num_values - 1}"
            )
        offsets = torch.arange(self.num_variables, device=x.device).unsqueeze(1) * self.num_values
        return values + offsets, seen

    # downwards

    @torch.no_grad()
    def posteriors(self, evidence: Evidence) -> Tensor:
        """p(z_i | what was observed) of every inner node, (inner, N, H), from the root downwards."""
        posterior = torch.empty_like(evidence.products)
        self._descend(evidence, posterior, None)
        return posterior

    def _descend(self, evidence: Evidence, posterior: Tensor, transitions: Tensor | None) -> None:
        """Fill `posterior`, and, where wanted, the expected counts of transitions."""
        for depth, level in enumerate(self._levels):
            if depth == 0:
                root = evidence.products[level.places] * self.prior
                posterior[level.places] = root / root.sum(2, keepdim=True).clamp(min=_TINY)
            children, parents = level.below
            if not len(children):
                continue
            nodes = torch.from_numpy(self.tree.inner)[children]
            ratio = posterior[level.places[parents]]
            ratio /= evidence.messages[nodes].clamp_(min=_TINY)
            product, table = evidence.products[children], self.transitions[children]
            if transitions is not None:
                transitions[children] = table * torch.bmm(ratio.transpose(1, 2), product)
            posterior[children] = torch.bmm(ratio, table).mul_(product)

    @torch.no_grad()
    def flows(self, x: Tensor) -> Flows:
        """The expected counts of fully observed samples.

        Args:
            x: (N, D) integers 0…K-1.

        Raises:
            ValueError: see `log_likelihood`.
        """
        evidence = self.upward(x)
        posterior = torch.empty_like(evidence.products)
        transitions = torch.zeros_like(self.transitions)
        self._descend(evidence, posterior, transitions)
        if not self._levels:
            top = evidence.messages * self.prior
            posterior = top / top.sum(2, keepdim=True)
        index, _ = self._checked(x, None)
        emissions = _sum_of_rows(posterior[self._states_of], index, self.num_values)
        prior = posterior[self._levels[0].places[0] if self._levels else 0].sum(0)
        return Flows(float(evidence.log_likelihood.sum()), prior, transitions, emissions)

    @torch.no_grad()
    def conditionals(self, x: Tensor, observed: Tensor) -> Tensor:
        """p(x_i = k | what was observed) of every variable, (N, D, K); one at their value for observed ones.

        Args:
            x, observed: see `log_likelihood`.

        Raises:
            ValueError: see `log_likelihood`.
        """
        evidence = self.upward(x, observed)
        states = self._state_distributions(evidence)
        answer = torch.bmm(states, self.emissions.transpose(1, 2)).transpose(0, 1)
        known = F.one_hot(x.long().clamp(0, self.num_values - 1), self.num_values).to(answer.dtype)
        return torch.where(observed.expand(x.shape).unsqueeze(2), known, answer)

    def _state_distributions(self, evidence: Evidence) -> Tensor:
        """(D, N, H) of the state that each variable's values depend on."""
        if not self._levels:
            return self.prior.expand_as(evidence.messages)
        return self.posteriors(evidence)[self._states_of]

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
        evidence = self.upward(x, observed)
        states = torch.zeros(max(len(self.tree.inner), 1), num_samples, dtype=torch.long, device=x.device)
        for depth, level in enumerate(self._levels):
            if depth == 0:
                states[level.places[0]] = _draw(evidence.products[level.places[0]] * self.prior, generator)
            for child, parent in zip(*(one.tolist() for one in level.below), strict=True):
                rows = self.transitions[child][states[level.places[parent]]]
                states[child] = _draw(rows * evidence.products[child], generator)
        if not self._levels:
            states[0] = _draw(self.prior.expand(num_samples, -1), generator)
        drawn = [
            _draw(self.emissions[variable].T[states[place]], generator)
            for variable, place in enumerate(self._states_of.tolist())
        ]
        return torch.where(observed.expand(x.shape), x.long(), torch.stack(drawn, 1))

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
        messages = torch.where(seen.unsqueeze(2), messages, best.unsqueeze(1))
        transitions = self.transitions.log()
        picks = torch.zeros(max(len(self.tree.inner), 1), N, self.num_states, dtype=torch.long, device=x.device)
        for level in reversed(self._levels):
            product = messages[level.nodes]
            for nodes, children in level.slots:
                product[nodes] += messages[children]
            messages[level.nodes] = product
            if level is not self._levels[0]:
                for place, node in zip(level.places.tolist(), level.nodes.tolist(), strict=True):
                    value, pick = (transitions[place].unsqueeze(0) + messages[node].unsqueeze(1)).max(2)
                    messages[node], picks[place] = value, pick
        root = self.tree.root
        value, pick = (messages[root] + self.prior.log()).max(1)
        states = torch.zeros(max(len(self.tree.inner), 1), N, dtype=torch.long, device=x.device)
        if self._levels:
            states[self._levels[0].places[0]] = pick
        else:
            states[0] = pick
        for level in self._levels:
            for child, parent in zip(*(one.tolist() for one in level.below), strict=True):
                states[child] = picks[child].gather(1, states[level.places[parent]].unsqueeze(1))[:, 0]
        chosen = torch.stack([choice[d][states[place]] for d, place in enumerate(self._states_of.tolist())], 1)
        return torch.where(observed.expand(N, D), x.long(), chosen), value


def _draw(weights: Tensor, generator: torch.Generator) -> Tensor:
    """(N, M) weights → (N,) indices."""
    return torch.multinomial(weights, 1, generator=generator)[:, 0]


def _sum_of_rows(rows: Tensor, index: Tensor, num_values: int) -> Tensor:
    """(D, N, H) added up by the values of each variable: (D, K, H); `index` (D, N) counts through D·K."""
    D, N, H = rows.shape
    flat = rows.reshape(D * N, H)
    if rows.device.type != "cpu":
        total = torch.zeros(D * num_values, H, device=rows.device).index_add_(0, index.flatten(), flat)
        return total.view(D, num_values, H)
    # One product with a sparse matrix of ones: three times as fast as index_add_ or scatter_add_ on a CPU.
    ones: NDArray[np.float32] = np.ones(D * N, np.float32)
    places = csc_matrix((ones, index.flatten().numpy(), np.arange(D * N + 1)), shape=(D * num_values, D * N))
    return torch.from_numpy(places @ flat.numpy()).view(D, num_values, H)
