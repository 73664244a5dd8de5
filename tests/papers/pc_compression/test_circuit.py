"""Circuits of any shape: likelihoods, and coding along paths."""

import itertools

import numpy as np
import pytest
import torch

from encore.papers.pc_compression.circuit import Circuit, Node, PathCoder, circuit_of
from encore.papers.pc_compression.coder import Symbols, TreeCoder
from tests.papers.pc_compression.test_model import TREES, everything, small

pytest.importorskip("constriction")


def random_circuit(num_variables: int, num_values: int, seed: int) -> Circuit:
    """A random vtree whose nodes have two to four units and sparse products."""
    rng = np.random.default_rng(seed)
    nodes = [
        Node(variable, rng.dirichlet(np.ones(num_values), int(rng.integers(2, 5))))
        for variable in rng.permutation(num_variables).tolist()
    ]
    tops = list(range(num_variables))
    while len(tops) > 1:
        left, right = (tops.pop(int(rng.integers(len(tops)))) for _ in range(2))
        pairs = np.array(list(itertools.product(range(nodes[left].num_units), range(nodes[right].num_units))))
        pairs = pairs[rng.permutation(len(pairs))[: max(3, len(pairs) // 2)]]
        units = 1 if not tops else int(rng.integers(2, 5))
        nodes.append(Node(left=left, right=right, pairs=pairs, weights=rng.dirichlet(np.ones(len(pairs)), units)))
        tops.append(len(nodes) - 1)
    return Circuit(nodes, num_values)


class NaiveCoder(Symbols):
    """The definition: every conditional from two evaluations of the whole circuit, in floating point."""

    def __init__(self, circuit: Circuit) -> None:
        super().__init__(circuit.num_variables, circuit.num_values)
        self.circuit, self.evaluations = circuit, 0

    def _perform(self, num_samples, code):
        x = np.zeros((num_samples, self.num_variables), np.int64)
        observed = np.zeros(x.shape, bool)
        for leaf in self.circuit.order:
            variable = self.circuit.nodes[leaf].variable
            observed[:, variable] = True
            logs = []
            for value in range(self.num_values):
                x[:, variable] = value
                logs.append(self.circuit.log_likelihood(x, observed))
            self.evaluations += self.circuit.num_units
            table = np.stack(logs, 1)
            x[:, variable] = code(variable, np.exp(table - table.max(1, keepdims=True)).astype(np.float32))


@pytest.mark.parametrize("name", TREES)
def test_the_binary_form_is_the_tree(name):
    model = small(name)
    circuit = circuit_of(model)
    x = everything(model)
    np.testing.assert_allclose(circuit.log_likelihood(x.numpy()), model(x).numpy(), rtol=1e-9)
    for down in circuit.down:
        assert down.sum() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(6))
def test_random_circuits_are_distributions_and_code_their_likelihood(seed):
    circuit = random_circuit(6, 3, seed)
    x = np.array(list(itertools.product(range(3), repeat=6)))
    p = np.exp(circuit.log_likelihood(x))
    assert p.sum() == pytest.approx(1)
    rng = np.random.default_rng(seed)
    samples = x[rng.choice(len(x), 3000, p=p / p.sum())]
    coder = PathCoder(circuit)
    (stream,) = coder.encode([samples])
    assert (coder.decode([stream], [len(samples)])[0] == samples).all()
    ideal = -circuit.log_likelihood(samples).sum() / np.log(2)
    assert 32 * len(stream) == pytest.approx(ideal, rel=2e-3, abs=64)
    (naive,) = NaiveCoder(circuit).encode([samples])
    assert abs(len(naive) - len(stream)) <= 2


def test_a_path_ends_where_everything_coded_lies_below():
    circuit = random_circuit(9, 2, 1)
    below = [{node.variable} if node.variable >= 0 else set() for node in circuit.nodes]
    for place, node in enumerate(circuit.nodes):
        if node.variable < 0:
            below[place] = below[node.left] | below[node.right]
    coded = set()
    for path in circuit.paths:
        coded.add(circuit.nodes[path[0]].variable)
        assert coded <= below[path[-1]]
        assert not any(coded <= below[place] for place in path[:-1])


def test_paths_cost_less_than_passes_and_a_walk_over_the_tree_less_still():
    parents = [-1, *((child - 1) // 2 for child in range(1, 64))]
    from encore.papers.pc_compression.model import HCLT

    model = HCLT(parents, 4, 3)
    model.randomise(torch.Generator().manual_seed(0))
    circuit = circuit_of(model)
    samples = model.sample(20, torch.Generator().manual_seed(1)).numpy()
    path, naive = PathCoder(circuit), NaiveCoder(circuit)
    streams = [one.encode([samples])[0] for one in (path, naive, TreeCoder(model))]
    assert max(map(len, streams)) - min(map(len, streams)) <= 1
    assert naive.evaluations == 64 * circuit.num_units
    assert path.evaluations < 6 * circuit.num_units  # log2 of 64


def test_circuits_that_are_none_are_refused():
    leaf = Node(0, np.full((1, 2), 0.5))
    other = Node(1, np.full((1, 2), 0.5))
    pairs = np.zeros((1, 2), np.int64)
    for nodes, words in (
        ([leaf, other], "one root"),
        ([leaf, leaf, Node(left=0, right=1, pairs=pairs)], "one leaf each"),
        ([leaf, Node(left=0, right=2, pairs=pairs), other], "comes later"),
        ([leaf, other, Node(left=0, right=1, pairs=pairs + 1)], "names a unit"),
        ([leaf, other, Node(left=0, right=1, pairs=pairs, weights=np.ones((1, 2)))], "weights"),
        ([leaf, other, Node(left=0, right=1)], "has products"),
        ([Node(0, np.ones((1, 3)))], "inputs of a leaf"),
    ):
        with pytest.raises(ValueError, match=words):
            Circuit(nodes, 2)
