"""Mutual information and trees against slow and obvious forms."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from encore.papers.pc_compression.structure import Tree, chow_liu_tree, mutual_information


def test_mutual_information_is_scikit_learns():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, (500, 70))
    values[:, 3] = values[:, 66] // 2
    values[:, 5] = 1
    answer = mutual_information(values, 4, pseudocount=1e-9)
    for one, other in [*itertools.combinations(range(0, 70, 9), 2), (3, 66), (5, 6)]:
        assert answer[one, other] == pytest.approx(mutual_info_score(values[:, one], values[:, other]), abs=1e-8)
        assert answer[other, one] == answer[one, other]


def test_the_pseudocount_is_spread_over_the_cells_of_a_pair():
    values = np.array([[0, 1], [1, 1], [2, 0]])
    joint = np.full((3, 3), 0.6 / 9)
    for one, other in values:
        joint[one, other] += 1
    joint /= joint.sum()
    due = (joint * np.log(joint / np.outer(joint.sum(1), joint.sum(0)))).sum()
    assert mutual_information(values, 3, 0.6)[0, 1] == pytest.approx(due)


def test_the_tree_is_the_best_of_all():
    rng = np.random.default_rng(1)
    information = rng.random((5, 5))
    information = information + information.T
    pairs = list(itertools.combinations(range(5), 2))
    best = max(
        (edges for edges in itertools.combinations(pairs, 4) if len(reached(edges)) == 5),
        key=lambda edges: sum(information[one] for one in edges),
    )
    tree = chow_liu_tree(information)
    edges = {tuple(sorted((child, int(parent)))) for child, parent in enumerate(tree.parents) if parent >= 0}
    assert edges == set(best)


def reached(edges) -> set[int]:
    found = {0}
    for _ in range(5):
        found |= {one for edge in edges if set(edge) & found for one in edge}
    return found


def chain(length: int) -> np.ndarray:
    information = np.zeros((length, length))
    for one in range(length - 1):
        information[one, one + 1] = information[one + 1, one] = 1
    return information


def test_the_root_is_the_centre_and_balancing_makes_depth_grow_as_the_logarithm():
    directed, balanced = (chow_liu_tree(chain(63), shape) for shape in ("directed", "balanced"))
    assert directed.depths.max() == 31
    assert directed.root == 31
    assert balanced.depths.max() == 5
    assert sorted(balanced.preorder) == list(range(63))


def test_a_tree_knows_its_parts():
    tree = Tree(np.array([2, 2, -1, 0, 0]))
    assert tree.preorder == [2, 0, 3, 4, 1]
    assert tree.sizes.tolist() == [3, 1, 5, 1, 1]
    assert tree.depths.tolist() == [1, 1, 0, 2, 2]
    assert tree.inner.tolist() == [2, 0]
