"""Structured-decomposable circuits of any shape, and the paper's way of coding with them in O(log D · |p|).

A vtree is a binary tree over the variables; every product splits its variables as one of its nodes does. The units of a
vtree node are held together as one vector:

```text
leaf of x_i:   value_u = f_u(x_i)                              categorical inputs
inner node:    product_p = value_left[a_p] · value_right[b_p]  ;  value_u = Σ_p W[u, p] product_p
```

All values at 1 leave a variable summed out, so the value of a node is the probability of what is observed below it.
`HCLT`s are coded by `coder.TreeCoder`, which needs about one pass; here is what works for every circuit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encore.papers.pc_compression.coder import BELIEF_BITS, TABLE_BITS, Floats, Symbols, integers
from encore.papers.pc_compression.model import HCLT


@dataclass(frozen=True)
class Node:
    """One node of the vtree with its units.

    Attributes:
        variable: of a leaf; -1 of an inner node.
        inputs: (U, K) of a leaf, each row a distribution.
        left, right: of an inner node, places of its children among the circuit's nodes.
        pairs: (P, 2), for each product the units of the left and of the right child.
        weights: (U, P), each row a distribution; None where every unit is one product.
    """

    variable: int = -1
    inputs: NDArray[np.float64] | None = None
    left: int = -1
    right: int = -1
    pairs: NDArray[np.int64] | None = None
    weights: NDArray[np.float64] | None = None

    @property
    def num_units(self) -> int:
        """U."""
        if self.inputs is not None:
            return len(self.inputs)
        assert self.pairs is not None
        return len(self.pairs) if self.weights is None else len(self.weights)

    @property
    def cost(self) -> int:
        """Units that are computed for it: inputs, or products and sums."""
        if self.pairs is None:
            return self.num_units
        return len(self.pairs) + (0 if self.weights is None else len(self.weights))


class Circuit:
    """Units over a vtree.

    Args:
        nodes: children before their parents; the last is the root, with one unit.
        num_values: K.

    Raises:
        ValueError: a variable occurs in two leaves or none, a child comes after its parent or has two, or shapes do not
            fit.
    """

    def __init__(self, nodes: Sequence[Node], num_values: int) -> None:
        self.nodes, self.num_values = list(nodes), num_values
        self.parents = [-1] * len(self.nodes)
        for place, node in enumerate(self.nodes):
            if node.variable >= 0:
                if node.inputs is None or node.inputs.shape[1] != num_values:
                    raise ValueError(f"node {place}: the inputs of a leaf are (units, {num_values})")
                continue
            if node.pairs is None or not len(node.pairs):
                raise ValueError(f"node {place}: an inner node has products")
            for side, child in enumerate((node.left, node.right)):
                if not 0 <= child < place or self.parents[child] != -1:
                    raise ValueError(f"node {place}: child {child} comes later or has another parent")
                self.parents[child] = place
                if node.pairs[:, side].max() >= self.nodes[child].num_units:
                    raise ValueError(f"node {place}: a product names a unit that node {child} has not")
            if node.weights is not None and node.weights.shape[1] != len(node.pairs):
                raise ValueError(f"node {place}: weights are (units, {len(node.pairs)})")
        leaves = sorted(node.variable for node in self.nodes if node.variable >= 0)
        if leaves != list(range(len(leaves))) or self.parents.count(-1) != 1 or self.nodes[-1].num_units != 1:
            raise ValueError("variables are 0…D-1, one leaf each, below one root of one unit")
        self.num_variables = len(leaves)

    @property
    def num_units(self) -> int:
        """What one evaluation of the whole circuit computes."""
        return sum(node.cost for node in self.nodes)

    @cached_property
    def order(self) -> list[int]:
        """The leaves from left to right, as places among the nodes: the order of coding."""
        order, waiting = [], [len(self.nodes) - 1]
        while waiting:
            place = waiting.pop()
            node = self.nodes[place]
            if node.variable >= 0:
                order.append(place)
            else:
                waiting += [node.right, node.left]
        return order

    @cached_property
    def paths(self) -> list[list[int]]:
        """For each leaf in order: the nodes from it up to the lowest one above everything that is coded by then."""
        paths = []
        covered = self.order[0]  # the lowest node above everything that was coded
        for leaf in self.order:
            above = set(self._path(covered))
            path = []
            for place in self._path(leaf):
                path.append(place)
                if place in above:
                    break
            covered = path[-1]
            paths.append(path)
        return paths

    def _path(self, place: int) -> list[int]:
        path = [place]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        return path

    @cached_property
    def down(self) -> list[NDArray[np.float64]]:
        """For each node the probability that a sample is made through each of its units; each sums to 1 (appendix)."""
        down = [np.zeros(node.num_units) for node in self.nodes]
        down[-1][:] = 1
        for place in reversed(range(len(self.nodes))):
            node = self.nodes[place]
            if node.pairs is None:
                continue
            products = down[place] if node.weights is None else down[place] @ node.weights
            np.add.at(down[node.left], node.pairs[:, 0], products)
            np.add.at(down[node.right], node.pairs[:, 1], products)
        return down

    def log_likelihood(self, x: NDArray[Any], observed: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """log p of (N, D) in nats, (N,); what is not `observed` is summed out."""
        logs = np.zeros(len(x))
        values: list[NDArray[np.float64]] = []
        for node in self.nodes:
            if node.inputs is not None:
                value = node.inputs.T[x[:, node.variable]]
                if observed is not None:
                    value = np.where(observed[:, node.variable, None], value, 1.0)
            else:
                assert node.pairs is not None
                value = values[node.left][:, node.pairs[:, 0]] * values[node.right][:, node.pairs[:, 1]]
                value = value if node.weights is None else value @ node.weights.T
            largest = value.max(1, keepdims=True)
            logs += np.log(largest[:, 0])
            values.append(value / largest)
        return logs + np.log(values[-1][:, 0])


def circuit_of(model: HCLT) -> Circuit:
    """The binary form of a hidden Chow-Liu tree.

    A product of several children becomes a chain of products of two; at each the child with more variables stands left,
    so that it is coded first (official `transformations.jl`).
    """
    tree = model.tree
    emissions = model.emissions.double().numpy().transpose(0, 2, 1)
    place_of = {variable: place for place, variable in enumerate(tree.inner.tolist())}
    transitions, prior = model.transitions.double().numpy(), model.prior.double().numpy()[None]
    nodes: list[Node] = []
    made: dict[int, tuple[int, int]] = {}  # variable → the node that holds all at and below it, how many they are
    alike = np.repeat(np.arange(model.num_states)[:, None], 2, 1)
    for variable in reversed(tree.preorder):
        nodes.append(Node(variable, np.ascontiguousarray(emissions[variable])))
        parts = [(len(nodes) - 1, 1), *(made[child] for child in tree.children[variable])]
        parts.sort(key=lambda one: -one[1])
        whole = parts[0]
        for other in parts[1:]:
            larger, smaller = sorted((whole, other), key=lambda one: -one[1])
            nodes.append(Node(left=larger[0], right=smaller[0], pairs=alike))
            whole = (len(nodes) - 1, whole[1] + other[1])
        if variable in place_of:
            weights = prior if variable == tree.root else transitions[place_of[variable]]
            last = nodes[-1]
            nodes[-1] = Node(left=last.left, right=last.right, pairs=last.pairs, weights=weights)
        made[variable] = whole
    if len(tree) == 1:
        nodes[0] = Node(0, prior @ emissions[0])
    return Circuit(nodes, model.num_values)


class PathCoder(Symbols):
    """Codes with any circuit: a variable costs the units on its path, not all units (section 3 of the paper).

    Values of all other nodes are kept. The value of the path's last node, weighted by `Circuit.down`, is the
    probability of everything coded so far. It is computed for all K values of the next variable at once, so the cost is
    O(K · log D · |p|); the official coder evaluates a path twice to encode, and as often as a search over the
    cumulative distribution asks, 9 times of 256 values, to decode. Integers make the bits the same everywhere, as in
    `coder.TreeCoder`.

    Args:
        circuit: its weights are read once.

    Attributes:
        evaluations: units computed so far for each sample, a column of K values counted once.
    """

    def __init__(self, circuit: Circuit) -> None:
        super().__init__(circuit.num_variables, circuit.num_values)
        self.circuit = circuit
        widest = max((node.weights.shape[1] for node in circuit.nodes if node.weights is not None), default=1)
        bits = self.table_bits(widest)
        self._inputs = [None if one.inputs is None else integers(one.inputs, bits) for one in circuit.nodes]
        self._weights = [None if one.weights is None else integers(one.weights, bits) for one in circuit.nodes]
        self._down = [integers(one[None], TABLE_BITS)[0] for one in circuit.down]
        self.evaluations = 0

    def _perform(self, num_samples: int, code: Any) -> None:
        circuit = self.circuit
        ones = float(2 ** (BELIEF_BITS - 1))
        values = [np.full((num_samples, node.num_units), ones) for node in circuit.nodes]
        for path in circuit.paths:
            leaf = circuit.nodes[path[0]]
            inputs = self._inputs[path[0]]
            assert inputs is not None
            columns = np.broadcast_to(inputs, (num_samples, *inputs.shape))  # (N, U, K)
            along = [_scaled(columns)]
            self.evaluations += leaf.cost
            for before, place in pairwise(path):
                along.append(_scaled(self._value(place, before, along[-1], values)))
                self.evaluations += circuit.nodes[place].cost
            weights = np.einsum("u,nuk->nk", self._down[path[-1]], along[-1])
            chosen = code(leaf.variable, weights.astype(np.float32))
            for place, one in zip(path, along, strict=True):
                values[place] = _scaled(one[np.arange(num_samples), :, chosen][..., None])[..., 0]

    def _value(self, place: int, moved: int, columns: Floats, values: Sequence[Floats]) -> Floats:
        """(N, U, K) of a node, one of whose children, `moved`, has the values `columns`."""
        node, weights = self.circuit.nodes[place], self._weights[place]
        assert node.pairs is not None
        side = 0 if moved == node.left else 1
        other = values[node.right if side == 0 else node.left]
        products = columns[:, node.pairs[:, side]] * other[:, node.pairs[:, 1 - side], None]
        return products if weights is None else weights @ _scaled(products)


def _scaled(columns: Floats) -> Floats:
    """(N, U, K) → as many bits as beliefs have in each sample's largest entry, rounded down, at least 1."""
    _, exponents = np.frexp(columns.max((1, 2), keepdims=True))
    return np.maximum(np.floor(np.ldexp(columns, BELIEF_BITS - exponents)), 1.0)
