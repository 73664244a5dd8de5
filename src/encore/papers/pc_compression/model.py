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
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import csc_matrix
from torch import Tensor

from encore.base.registry import register_model
from encore.nn.model import EncoreModel
from encore.papers.pc_compression.form import OfForm, SampleForm
from encore.papers.pc_compression.queries import Evidence, Level, Queries
from encore.papers.pc_compression.structure import Tree

_TINY = 1e-37
"""What divides nothing by zero: the smallest numbers of float32. Three factors are multiplied before a sum is divided
out, each at least the share of a pseudocount in a large set, some 1e-10."""


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


@register_model("hclt")
class HCLT(Queries, OfForm, EncoreModel):
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
        H, inner = self.num_states, len(self.tree.inner)
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

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """As in every module; what is kept of the structure on the old device is found again on the new one."""
        for name in ("layout_index", "_levels", "states_of"):
            self.__dict__.pop(name, None)
        return super()._apply(fn, recurse)

    @cached_property
    def layout(self) -> NDArray[np.int64]:
        """The order of variables in arrays of a batch: `Tree.inner`, then those without a state of their own."""
        inner = self.tree.inner
        return np.concatenate([inner, np.setdiff1d(np.arange(self.num_variables), inner)])

    @cached_property
    def layout_index(self) -> Tensor:
        """`layout` on the device of the parameters."""
        return torch.from_numpy(self.layout).to(self.prior.device)

    @cached_property
    def _levels(self) -> list[Level]:
        """From the root's to the deepest."""
        tree, device = self.tree, self.prior.device
        rows = np.argsort(self.layout)
        depths = tree.depths[tree.inner]
        levels = []
        for depth in range(int(depths[-1]) + 1):
            start, stop = np.searchsorted(depths, [depth, depth + 1]).tolist()
            nodes = tree.inner[start:stop].tolist()
            children = [tree.children[node] for node in nodes]
            slots = [
                torch.from_numpy(rows[[one[slot] for one in children if len(one) > slot]]).to(device)
                for slot in range(max(map(len, children)))
            ]
            above = rows[tree.parents[nodes]] if depth else np.zeros(0, np.int64)
            levels.append(Level(start, stop, tuple(slots), torch.from_numpy(above).to(device)))
        return levels

    @cached_property
    def states_of(self) -> Tensor:
        """(D,) the inner node whose state each variable's values depend on, as a place among `Tree.inner`."""
        inner = self.tree.inner
        rows = np.argsort(self.layout)
        own = rows < len(inner)
        return torch.from_numpy(np.where(own, rows, rows[self.tree.parents])).to(self.prior.device)

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
        return self.ascend(messages)

    def ascend(self, messages: Tensor) -> Evidence:
        """The pass from the leaves to the root, from what each variable says of the state that it depends on.

        Args:
            messages: (D, N, H), in the order of `layout`; p(x_i | state) up to a factor. It is written over.
        """
        N = messages.shape[1]
        products = messages.new_empty(len(self.tree.inner), N, self.num_states)
        total = torch.zeros(N, dtype=torch.float64, device=messages.device)
        for level in reversed(self._levels):
            product = products[level.here]
            if level.slots:
                torch.mul(messages[level.here], messages[level.slots[0]], out=product)
            else:
                product.copy_(messages[level.here])
            for number, children in enumerate(level.slots[1:], start=2):
                product[: len(children)] *= messages[children]
                if number % 2 == 0:
                    total += self._normalise(product)
            total += self._normalise(product)
            if level.start:
                torch.bmm(product, self.transitions[level.here].transpose(1, 2), out=messages[level.here])
        total += (products[0] @ self.prior).double().log()
        return Evidence(total, products, messages)

    @staticmethod
    def _normalise(product: Tensor) -> Tensor:
        """Divide (n, N, H) by its sums over H, in place; the sum of their logarithms over n, (N,) float64."""
        sums = product.sum(2).clamp_(min=_TINY)
        product /= sums.unsqueeze(2)
        return sums.log().sum(0, dtype=torch.float64)

    def _checked(self, x: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(D, N) rows of the flat emissions, and (D, N) what is observed, both in the order of the layout."""
        if x.ndim != 2 or x.shape[1] != self.num_variables or x.is_floating_point():
            raise ValueError(f"x is {tuple(x.shape)} {x.dtype}; the tree takes (N, {self.num_variables}) integers")
        layout = self.layout_index
        values = x.T[layout].long()
        seen = None
        if observed is not None:
            seen = observed.to(x.device).expand(x.shape).T[layout]
            values = values.masked_fill(~seen, 0)
        if values.numel() and (int(values.min()) < 0 or int(values.max()) >= self.num_values):
            raise ValueError(
                f"values from {int(values.min())} to {int(values.max())}; the tree knows 0…{self.num_values - 1}"
            )
        return values.add_(layout.unsqueeze(1) * self.num_values), seen

    # downwards

    @torch.no_grad()
    def posteriors(self, evidence: Evidence) -> Tensor:
        """p(z_i | what was observed) of every inner node, (inner, N, H), from the root downwards."""
        posterior = torch.empty_like(evidence.products)
        self._descend(evidence, posterior, None)
        return posterior

    def expected(self, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """p(z_i | what was observed), (inner, N, H), and how often each transition was made, (inner, H, H)."""
        posterior = torch.empty_like(evidence.products)
        transitions = torch.zeros_like(self.transitions)
        self._descend(evidence, posterior, transitions)
        return posterior, transitions

    def _descend(self, evidence: Evidence, posterior: Tensor, transitions: Tensor | None) -> None:
        """Fill `posterior`, and, where wanted, the expected counts of transitions."""
        top = evidence.products[0] * self.prior
        posterior[0] = top / top.sum(1, keepdim=True).clamp(min=_TINY)
        for level in self._levels[1:]:
            here = level.here
            ratio = posterior[level.above]
            ratio /= evidence.messages[here].clamp_(min=_TINY)
            product, table = evidence.products[here], self.transitions[here]
            if transitions is not None:
                torch.bmm(ratio.transpose(1, 2), product, out=transitions[here])
                transitions[here] *= table
            torch.bmm(ratio, table, out=posterior[here])
            posterior[here] *= product

    @torch.no_grad()
    def flows(self, x: Tensor) -> Flows:
        """The expected counts of fully observed samples.

        Args:
            x: (N, D) integers 0…K-1.

        Raises:
            ValueError: see `log_likelihood`.
        """
        index, _ = self._checked(x, None)
        evidence = self.ascend(F.embedding(index, self.emissions.flatten(0, 1)))
        posterior, transitions = self.expected(evidence)
        emissions = self._sums_by_value(posterior, index)
        return Flows(float(evidence.log_likelihood.sum()), posterior[0].sum(0), transitions, emissions)

    def _sums_by_value(self, posterior: Tensor, index: Tensor) -> Tensor:
        """Posteriors (inner, N, H) of the states, added up by the values that depend on them: (D, K, H)."""
        N, H = posterior.shape[1:]
        size = self.num_variables * self.num_values
        owners = self.states_of[self.layout_index]
        if posterior.device.type != "cpu":
            total = torch.zeros(size, H, device=posterior.device, dtype=posterior.dtype)
            total.index_add_(0, index.flatten(), posterior[owners].flatten(0, 1))
            return total.view(self.num_variables, self.num_values, H)
        # One product with a sparse matrix of ones, a column for each row of `posterior`: on a CPU three times as fast
        # as index_add_ or scatter_add_.
        counts = torch.bincount(owners)
        starts = (counts.cumsum(0) - counts) * N
        order = owners.argsort(stable=True)
        ranks = torch.empty_like(owners)
        ranks[order] = torch.arange(len(owners)) - (counts.cumsum(0) - counts)[owners[order]]
        samples = torch.arange(N)
        places = (starts[owners] + ranks).unsqueeze(1) + counts[owners].unsqueeze(1) * samples
        indices = torch.empty(self.num_variables * N, dtype=torch.long)
        indices[places.flatten()] = index.flatten()
        pointers = torch.cat(
            [(starts.unsqueeze(1) + counts.unsqueeze(1) * samples).flatten(), torch.tensor([len(indices)])]
        )
        rows = posterior.flatten(0, 1).numpy()
        ones = np.ones(len(indices), rows.dtype)
        matrix = csc_matrix((ones, indices.numpy(), pointers.numpy()), shape=(size, len(rows)))
        return torch.from_numpy(matrix @ rows).view(self.num_variables, self.num_values, H)


def step_towards(distribution: Tensor, counts: Tensor, axis: int, pseudocount: float, inertia: float) -> None:
    """θ ← ι·θ + (1 - ι)·(F + α / fan-in) / (Σ F + α) along an axis, in place."""
    smoothed = counts + pseudocount / counts.shape[axis]
    smoothed /= smoothed.sum(axis, keepdim=True)
    distribution.lerp_(smoothed.to(distribution.dtype), 1 - inertia)
