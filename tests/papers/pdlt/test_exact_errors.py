"""Errors that the exact law gives, against many small ensembles."""

from __future__ import annotations

import math

import pytest
import torch

from encore.papers.pdlt.ensembles import Architecture, measure_without_weights
from encore.papers.pdlt.exact import scale_invariant_vertex
from encore.papers.pdlt.exact_errors import QUANTITIES, factor_moments, law_errors


@pytest.mark.parametrize(("slopes", "growth"), [((1.0, 1.0), 2.0), ((0.0, 1.0), 5.0)])
def test_the_second_moment_of_a_factor_is_the_growth_of_the_vertex(slopes: tuple[float, float], growth: float):
    one, two, *_ = factor_moments(slopes, 10)
    assert one == pytest.approx(1)
    assert 10 * (two - 1) == pytest.approx(growth)
    assert 10 * (two**3 - 1) == pytest.approx(scale_invariant_vertex(growth, 4, 10))


def test_moments_of_a_factor_are_those_of_a_sample():
    torch.manual_seed(0)
    factors = (2 * torch.randn(400_000, 8, dtype=torch.float64).relu() ** 2).mean(1)
    for power, moment in enumerate(factor_moments((0.0, 1.0), 8), 1):
        assert float((factors**power).mean()) == pytest.approx(moment, rel=0.02)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_estimates_of_many_ensembles_scatter_as_the_law_says(quantity: str):
    width, depth, networks = 40, 4, 400
    relu = Architecture.rectangle(torch.relu, width, depth, weight_variance=2.0)
    x = torch.ones(5) / math.sqrt(2)  # K = C_W |x|²/n_0 = 1
    found = torch.stack(
        [getattr(measure_without_weights(relu, x, networks, seed=seed), quantity)().value for seed in range(300)]
    )
    errors = law_errors(quantity, (0.0, 1.0), range(1, depth + 1), width, networks)
    scatter = found.std(0)
    first = 0 if quantity != "metric_variance" else 1  # the first layer's metric does not fluctuate
    assert torch.allclose(scatter[first:], errors[first:], rtol=0.2)
