"""Closed forms, information, skip connections, angles, rates and infinite-width predictions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct

from encore.base.errors import ConfigurationError, DataError, InputError
from encore.nn.activations import activation_named
from encore.papers.pdlt.exact import (
    angles,
    connected_four_point,
    connected_six_point,
    moment_factor,
    scale_invariant_vertex,
    scaled_moment,
)
from encore.papers.pdlt.information import (
    entropy,
    growth_of,
    most_information,
    mutual_information,
    optimal_ratio,
    scale_invariant_growth,
)
from encore.papers.pdlt.kernel_learning import Kernels, bayesian_posterior, kernels, trained_prediction
from encore.papers.pdlt.learning_rates import equivalent_rates
from encore.papers.pdlt.multi_input import multi_input_recursions
from encore.papers.pdlt.recursions import recursions
from encore.papers.pdlt.residual import growth, optimal_skip, vertices


@pytest.mark.parametrize(("outputs", "due"), [(1, (0.2609, 0.0870, 0.0348)), (10, (0.120, 0.040, 0.0160))])
def test_optimal_ratios_are_those_of_the_book(outputs: int, due: tuple[float, float, float]):
    found = [optimal_ratio(growth_of(activation_named(name)), outputs) for name in ("tanh", "linear", "relu")]
    assert found == pytest.approx(due, rel=5e-3)


def test_mutual_information_peaks_at_the_optimal_ratio():
    nu, outputs = 2.0, 10
    best = optimal_ratio(nu, outputs)
    assert mutual_information(5, 5, nu * best) == pytest.approx(most_information(outputs))
    for factor in (0.9, 1.1):
        assert mutual_information(5, 5, nu * best * factor) < most_information(outputs)
    assert entropy(3, 2.0, 0.0) == pytest.approx(1.5 * math.log(math.tau * math.e * 2))


def test_growth_at_half_stable_points_is_that_of_the_recursion():
    gelu = activation_named("gelu")
    found = recursions(
        gelu, 4, bias_variance=0.17292239, weight_variance=1.98305826, first_kernel=(3 + math.sqrt(17)) / 2
    )
    for one in found[1:]:
        assert one.V / one.K**2 / (one.layer - 1) == pytest.approx(growth_of(gelu), rel=1e-5)


def test_growth_of_kinked_activations_at_zero_is_that_of_the_recursion():
    selu = activation_named("selu")
    low, high = selu.slopes_at_zero
    found = recursions(selu, 700, weight_variance=2 / (low**2 + high**2), first_kernel=1e-3)[-1]
    assert pytest.approx(growth_of(selu), rel=0.15) == found.V / found.K**2 / 700


def test_angles_of_relu_fall_slowly():
    found = angles(math.pi / 2, 200, 0.0, 1.0)
    due = {2: 1.24685, 3: 1.05442, 5: 0.82173, 10: 0.54561, 20: 0.33475, 50: 0.15866, 100: 0.08538, 200: 0.04459}
    for layer, angle in due.items():
        assert found[layer - 1] == pytest.approx(angle, abs=6e-6)
    with pytest.raises(ConfigurationError, match="no angle"):
        angles(4.0, 2, 0.0, 1.0)


def test_deep_linear_networks_have_their_exact_moments():
    width, depth = 40, 20
    product = moment_factor(2, width) ** (depth - 1)
    assert scale_invariant_vertex(2.0, depth, width) / width == pytest.approx(product - 1)
    ratio, width = 0.3, 10_000
    for order in (2, 3):
        assert moment_factor(order, width) ** (ratio * width) == pytest.approx(scaled_moment(order, ratio), rel=1e-3)
    assert connected_four_point(ratio) == pytest.approx(scaled_moment(2, ratio) - 1)
    six = scaled_moment(3, ratio) - 3 * scaled_moment(2, ratio) + 2
    assert connected_six_point(ratio) == pytest.approx(six)


def test_skip_connections_of_relu_follow_the_corrected_recursion():
    found = vertices(activation_named("relu"), 9, weight_variance=1.0, skip=math.sqrt(0.5))
    book = {3: 4.50, 5: 9.0, 9: 18.0}
    corrected = {3: 5.40, 5: 13.42, 9: 32.75}
    for layer in book:
        assert found[layer - 1].book_vertex == pytest.approx(book[layer])
        assert pytest.approx(corrected[layer], abs=0.005) == found[layer - 1].V
        assert pytest.approx(1) == found[layer - 1].K


@pytest.mark.parametrize("name", ["tanh", "linear"])
def test_odd_activations_have_no_odd_correlations(name: str):
    found = vertices(activation_named(name), 8, weight_variance=0.6, skip=0.6)
    for one in found:
        assert pytest.approx(0, abs=1e-12) == one.T
        assert pytest.approx(one.book_vertex) == one.V


def test_growth_with_skips_is_that_of_the_book():
    relu, tanh = activation_named("relu"), activation_named("tanh")
    assert growth(relu, math.sqrt(0.5)) == pytest.approx(2.25)
    assert growth(tanh, 0.5) == pytest.approx(2 / 3 * (1 - 1 / 16))
    assert growth(relu, 0.0) == scale_invariant_growth(0, 1) == 5
    assert optimal_skip(tanh, 0.1, 1) == 0
    skip = optimal_skip(relu, 0.2, 1)
    assert optimal_ratio(growth(relu, skip), 1) == pytest.approx(0.2)
    with pytest.raises(InputError, match="critical"):
        growth(relu, 1.0)


def test_rates_of_the_equivalence_principle():
    tanh, relu = equivalent_rates(activation_named("tanh"), 10), equivalent_rates(activation_named("relu"), 10)
    assert tanh(5) == pytest.approx((0.2, 1.0))  # (9.96)
    assert relu(5) == pytest.approx((0.1, 0.1))  # (9.94)
    with pytest.raises(InputError, match="half-stable"):
        equivalent_rates(activation_named("gelu"), 10)


@pytest.mark.parametrize(("name", "variance"), [("tanh", 1.3), ("relu", 2.0), ("gelu", 1.98)])
def test_kernels_of_many_inputs_are_those_of_the_recursions(name: str, variance: float):
    x = torch.randn(3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = kernels(activation_named(name), x, 4, bias_variance=0.1, weight_variance=variance)
    due = multi_input_recursions(activation_named(name), x @ x.T / 7, 4, bias_variance=0.1, weight_variance=variance)[
        -1
    ]
    assert torch.allclose(found.K, due.K, rtol=1e-6)
    assert torch.allclose(found.theta, due.theta, rtol=1e-5)


def test_bayesian_inference_is_that_of_a_gaussian_process():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 5, generator=generator, dtype=torch.float64), torch.randn(5, generator=generator).double()
    gram = x @ x.T + 0.3**2 + 1e-9 * torch.eye(8)
    found = bayesian_posterior(Kernels(gram, gram), y)
    process = GaussianProcessRegressor(DotProduct(0.3), alpha=1e-9, optimizer=None).fit(x[:5].numpy(), y.numpy())
    mean, covariance = process.predict(x[5:].numpy(), return_cov=True)
    assert np.allclose(found.mean[:, 0], mean, atol=1e-5)
    assert np.allclose(found.covariance, covariance, atol=1e-5)


def test_training_the_last_layer_alone_is_bayesian_inference():
    """With Θ = K, (10.40–10.41) become (6.64)."""
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    found = kernels(activation_named("tanh"), x, 3)
    y = torch.randn(4, 2, generator=torch.Generator().manual_seed(2))
    trained = trained_prediction(Kernels(found.K, found.K), y)
    exact = bayesian_posterior(found, y)
    assert torch.allclose(trained.mean, exact.mean)
    assert torch.allclose(trained.covariance, exact.covariance)


def test_wide_networks_that_are_trained_predict_what_theory_predicts():
    """Gradient descent of an ensemble of one-hidden-layer networks in tangent parametrisation, against (10.40)."""
    generator = torch.Generator().manual_seed(0)
    width, networks, inputs = 256, 64, 3
    x = torch.randn(4, inputs, generator=generator, dtype=torch.float64)
    y = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64)
    W = torch.randn(networks, width, inputs, generator=generator, dtype=torch.float64) / inputs**0.5
    v = torch.randn(networks, width, generator=generator, dtype=torch.float64) / width**0.5
    b, c = torch.zeros(networks, width, dtype=torch.float64), torch.zeros(networks, dtype=torch.float64)

    def outputs(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        signals = torch.tanh(points @ W.mT + b[:, None])  # (networks, points, width)
        return (signals @ v[:, :, None])[:, :, 0] + c[:, None], signals

    for _ in range(800):
        z, signals = outputs(x[:3])
        error = z - y
        back = error[:, :, None] * v[:, None] * (1 - signals**2)
        W -= 0.1 / inputs * back.mT @ x[:3]
        b -= 0.1 * back.sum(1)
        v -= 0.1 / width * (error[:, None] @ signals)[:, 0]
        c -= 0.1 * error.sum(1)
    test = outputs(x)[0]
    assert (test[:, :3] - y).abs().max() < 1e-2
    due = trained_prediction(kernels(activation_named("tanh"), x, 2), y)
    error = test[:, 3].std() / networks**0.5
    assert abs(test[:, 3].mean() - due.mean[0, 0]) < 4 * error
    assert test[:, 3].var() == pytest.approx(float(due.covariance[0, 0]), rel=0.6)


def test_data_that_has_no_prediction_is_refused():
    tanh = activation_named("tanh")
    with pytest.raises(DataError, match="zero"):
        kernels(tanh, torch.zeros(2, 3), 2)
    with pytest.raises(DataError, match="finite"):
        kernels(tanh, torch.full((2, 3), math.nan), 2)
    found = kernels(tanh, torch.ones(3, 2), 2)
    with pytest.raises(DataError, match="inverted"):
        trained_prediction(found, torch.ones(2))
    with pytest.raises(DataError, match="test input"):
        trained_prediction(found, torch.ones(3))
