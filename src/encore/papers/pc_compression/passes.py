"""What needs no learning: parameters of the paper's tree, and how many units coding evaluates."""

from __future__ import annotations

import math

import numpy as np

from encore.base.cards import Claim
from encore.base.runtime import Scale
from encore.data.contracts import DataSplits
from encore.data.exact import Integers, values_of
from encore.papers.pc_compression.circuit import Circuit, circuit_of
from encore.papers.pc_compression.model import HCLT
from encore.papers.pc_compression.structure import LEVELS, chow_liu_tree, mutual_information
from encore.results.record import ClaimRecord, exact_record

PAPERS_TREE = (589, 195)
"""Variables with and without children of the official notebook's tree of MNIST, read off its number of parameters."""


def model_size(claim: Claim) -> ClaimRecord:
    """Free parameters of a tree like the official one."""
    inner, leaves = PAPERS_TREE
    model = HCLT([-1, *range(inner - 1), *([inner - 1] * leaves)], 256, 32)
    assert claim.paper is not None
    return exact_record(
        claim,
        model.num_free_parameters,
        holds=model.num_free_parameters == claim.paper.value,
        note=f"Of a tree with {inner} variables that have children and {leaves} that have none, as the official one",
    )


def path_units(circuit: Circuit) -> int:
    """Units that coding along paths evaluates for one picture."""
    return sum(circuit.nodes[place].cost for path in circuit.paths for place in path)


def passes_of(claim: Claim, circuit: Circuit) -> ClaimRecord:
    """Coding along paths beside a pass for each pixel, and beside the walk over the tree."""
    units, naive = path_units(circuit), circuit.num_variables * circuit.num_units
    return exact_record(
        claim,
        units,
        holds=units < naive / 10,
        baselines={"pass_per_pixel": naive},
        note=(
            f"On the learnt tree of {circuit.num_variables} pixels, which is not balanced: "
            f"{units / circuit.num_units:.1f} passes along paths, {circuit.num_variables} by the definition; "
            "evaluations of all values of a pixel together count once. Files are written by the walk over the tree, "
            "which needs about one pass"
        ),
    )


def logarithmic_growth(claim: Claim, splits: DataSplits, scale: Scale) -> ClaimRecord:
    """Passes along paths on balanced trees, learnt from pictures of several sizes."""
    values = values_of(splits.train)[: 2000 if scale == "smoke" else 5000]
    side = values.shape[1]
    sides = [one for one in (side // 4, side // 2, side) if one >= 2]
    found = {}
    for one in sides:
        pictures = shrunk(values, side // one)
        levels = pictures.reshape(len(pictures), -1).astype(np.int64) * LEVELS // 256
        tree = chow_liu_tree(mutual_information(levels, LEVELS), "balanced")
        circuit = circuit_of(HCLT(tree.parents.tolist(), 2, 2))
        found[one] = path_units(circuit) / circuit.num_units
    largest = found[sides[-1]]
    words = [f"{one}×{one} {passes:.1f} (log₂ of pixels {2 * math.log2(one):.1f})" for one, passes in found.items()]
    return exact_record(
        claim,
        largest,
        holds=all(passes <= 2 * math.log2(one * one) for one, passes in found.items()),
        baselines={"pass_per_pixel": side * side},
        note=(
            f"Passes on balanced trees learnt from {splits.name}: {', '.join(words)}. It holds where passes stay below "
            "twice that logarithm"
        ),
    )


def shrunk(pictures: Integers, factor: int) -> Integers:
    """(N, H, W) → means of squares of `factor` pixels a side."""
    N, H, W = pictures.shape
    h, w = H // factor, W // factor
    squares = pictures[:, : h * factor, : w * factor].reshape(N, h, factor, w, factor)
    return squares.mean((2, 4)).astype(np.int64)
