"""Ensembles of networks: reproducible, equal to plain networks, and in agreement with theory."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from encore.base.errors import ConfigurationError
from encore.nn.activations import activation_named
from encore.papers.pdlt.ensemble_runs import derivative_of
from encore.papers.pdlt.ensembles import (
    Architecture,
    measure,
    measure_kernel,
    measure_without_weights,
    preactivations,
    tangent_kernels,
)
from encore.papers.pdlt.exact import scale_invariant_vertex
from encore.papers.pdlt.own_networks import measure_networks
from encore.papers.pdlt.own_tangents import tangent_kernels_of
from encore.papers.pdlt.recursions import recursions
from encore.papers.pdlt.residual import vertices
from encore.papers.pdlt.statistics import jackknife

TANH = activation_named("tanh")


def falling_rates(layer: int) -> tuple[float, float]:
    return 1 / layer, 0.5 * layer


def mlp() -> nn.Sequential:
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))
    return network.double()


def test_a_batched_pass_is_that_of_each_network_alone():
    architecture = Architecture(torch.tanh, (5, 6, 2), 0.0, 1.5)
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    layers = list(preactivations(architecture, x, 4, seed=2))
    for network in range(4):
        z = x
        for layer, batch, weights in layers:
            assert weights is not None
            z = weights[network] @ (z if layer == 1 else torch.tanh(z))
            assert torch.allclose(z, batch[network], atol=1e-5)


def test_a_seed_gives_the_same_networks_again():
    architecture = Architecture.rectangle(torch.tanh, 8, 3)
    x = torch.ones(4)
    one, again, other = (measure(architecture, x, 50, seed=seed).metric().value for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_iterated_tangent_kernel_is_that_of_automatic_differentiation():
    """Eq. 8.12 against jacobians, with the weights of one network set by hand."""
    network, x = mlp(), torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layers = [module for module in network if isinstance(module, nn.Linear)]
    rates = {"0": falling_rates(1), "2": falling_rates(2), "4": falling_rates(3)}
    with torch.random.fork_rng():
        due = tangent_kernels_of(lambda: network, x[None], 1, lambda name: rates[name])[0]
    z, kernel = x, torch.zeros(0)
    for number, layer in enumerate(layers, 1):
        bias_rate, weight_rate = falling_rates(number)
        signals = x if number == 1 else torch.tanh(z)
        own = (bias_rate + weight_rate * signals.square().mean()) * torch.eye(layer.out_features).double()
        if number > 1:
            passed = layer.weight * (1 - torch.tanh(z) ** 2)
            own = own + passed @ kernel @ passed.T
        kernel, z = own, layer(signals)
    assert torch.allclose(kernel, due, rtol=1e-10)


def test_the_iterated_kernel_of_an_ensemble_is_that_of_its_networks():
    architecture = Architecture(torch.tanh, (6, 7, 3), 0.0, 1.2)
    x = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    steps = list(preactivations(architecture, x, 3, seed=5))
    kernels = list(tangent_kernels(architecture, x, 3, derivative_of(TANH), falling_rates, seed=5))[-1][2]

    def outputs(weights: list[Tensor]) -> Tensor:
        z = weights[0] @ x
        for weight in weights[1:]:
            z = weight @ torch.tanh(z)
        return z

    for network in range(3):
        weights = [step[2][network] for step in steps]
        jacobians = torch.func.jacrev(outputs)(weights)
        total = torch.zeros(3, 3, dtype=torch.float64)
        z = x
        for layer, (weight, jacobian) in enumerate(zip(weights, jacobians, strict=True), 1):
            bias_rate, weight_rate = falling_rates(layer)
            flat = jacobian.flatten(1)
            total += weight_rate / weight.shape[1] * flat @ flat.T
            # a bias acts as its layer's preactivation does
            z = weight @ (z if layer == 1 else torch.tanh(z))
            behind = weights[layer:]

            def rest(own: Tensor, behind: list[Tensor] = behind) -> Tensor:
                for one in behind:
                    own = one @ torch.tanh(own)
                return own

            through = torch.func.jacrev(rest)(z)
            total += bias_rate * through @ through.T
        assert torch.allclose(kernels[network], total, rtol=1e-9)


def test_networks_with_and_without_weights_agree():
    architecture = Architecture.rectangle(torch.relu, 32, 5, weight_variance=2.0)
    x = torch.full((8,), math.sqrt(0.5))
    real, drawn = measure(architecture, x, 3000), measure_without_weights(architecture, x, 20_000, seed=1)
    for one, other in ((real.metric(), drawn.metric()), (real.vertex(), drawn.vertex())):
        deviations = (one.value - other.value) / (one.error**2 + other.error**2).sqrt()
        assert deviations.abs().max() < 4


def test_relu_networks_have_the_vertex_that_is_exact_at_every_width():
    architecture = Architecture.rectangle(torch.relu, 50, 6, weight_variance=2.0)
    found = measure_without_weights(architecture, torch.full((8,), math.sqrt(0.5)), 40_000)
    due = torch.tensor([scale_invariant_vertex(5, layer, 50) for layer in range(1, 7)], dtype=torch.float64)
    for estimate in (found.vertex(), found.metric_variance()):
        assert estimate[1:6].deviations(due[1:]).abs().max() < 4
    assert torch.allclose(found.metric_variance().value[1:], due[1:], rtol=0.1)


def test_tanh_networks_meet_the_recursions():
    architecture = Architecture.rectangle(torch.tanh, 200, 5)
    found = measure_without_weights(architecture, torch.ones(8), 25_000)
    theory = recursions(TANH, 5)
    K = torch.tensor([one.K + one.G1 / 200 for one in theory])
    V = torch.tensor([one.V for one in theory])
    assert torch.allclose(found.metric().value, K.double(), rtol=0.01)
    assert torch.allclose(found.metric_variance().value[1:], V.double()[1:], rtol=0.05)
    assert float(found.kurtosis().value[-1]) == pytest.approx(3 * float(found.normalised_vertex().value[-1]), rel=0.3)


@pytest.mark.slow
def test_the_tangent_kernel_of_tanh_networks_meets_the_recursions():
    """Within O(1/n), as the facts' own ensemble of n = 64."""
    architecture = Architecture.rectangle(torch.tanh, 64, 6)
    found = measure_kernel(architecture, torch.ones(8), 1000, derivative_of(TANH), lambda layer: (1 / layer, 1.0))
    fluctuations = found.kernel_fluctuations()
    measured = {name: float(one.value[-1]) for name, one in fluctuations.items()}
    assert float(found.kernel_mean().value[-1]) == pytest.approx(1.6075, abs=0.015)
    assert measured["B"] == pytest.approx(4.45, rel=0.05)
    assert measured["D"] == pytest.approx(-0.108, abs=0.03)
    assert measured["F"] == pytest.approx(0.174, rel=0.07)
    assert measured["A"] == pytest.approx(0.78, rel=0.25)


def test_skip_connections_of_relu_need_odd_correlations():
    """The measured vertex lies at the corrected recursion, not at the book's."""
    skip, depth = math.sqrt(0.5), 5
    architecture = Architecture.rectangle(torch.relu, 300, depth, weight_variance=1.0, skip=skip)
    found = measure_without_weights(architecture, torch.ones(8), 20_000).vertex()
    theory = vertices(activation_named("relu"), depth, weight_variance=1.0, skip=skip)[-1]
    assert abs(found.value[-1] - theory.V) < 0.05 * theory.V + 3 * found.error[-1]
    assert found.value[-1] - theory.book_vertex > 10 * found.error[-1]


def test_users_networks_are_measured_layer_by_layer():
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 10))

    first, last = measure_networks(network, torch.ones(1, 20), 300)
    assert (first.name, first.fan_in, first.width, last.fan_in) == ("0", 20, 30, 30)
    assert first.weight_variance == pytest.approx(1 / 3, rel=0.02)  # PyTorch's own beginning
    assert first.bias_variance == pytest.approx(1 / 60, rel=0.05)
    assert first.metric[0] == pytest.approx(1 / 3 + 1 / 60, abs=4 * first.metric[1])
    theory = recursions(
        TANH, 2, bias_variance=[1 / 60, 1 / 90], weight_variance=1 / 3, first_kernel=1 / 3 + 1 / 60, widths=(30, 10)
    )[-1]
    assert last.metric[0] == pytest.approx(theory.K, abs=4 * last.metric[1])
    assert last.normalised_vertex[0] == pytest.approx(theory.normalised_vertex(30), abs=4 * last.normalised_vertex[1])


def test_convolutions_of_users_are_measured_position_by_position():
    def network() -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 4))

    first, last = measure_networks(network, torch.randn(1, 2, 6, 6), 200)
    assert (first.fan_in, first.width) == (18, 6)
    assert abs(first.normalised_vertex[0]) < 5 * first.normalised_vertex[1]  # the first layer is nearly Gaussian
    assert last.fan_in == 96


def test_networks_that_torch_cannot_vectorise_are_measured_one_by_one():
    class Branching(nn.Module):
        def __init__(self, vectorised: bool) -> None:
            super().__init__()
            self.vectorised, self.first, self.last = vectorised, nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            z: Tensor = self.first(x)
            answer: Tensor = self.last(torch.tanh(z) if self.vectorised or bool(z.square().sum() > 0) else z)
            return answer

    slow, fast = (measure_networks(lambda kind=kind: Branching(kind), torch.ones(1, 4), 70) for kind in (False, True))
    for one, other in zip(slow, fast, strict=True):
        assert one.metric == pytest.approx(other.metric, rel=1e-5)
        assert one.kurtosis == pytest.approx(other.kurtosis, rel=1e-4, abs=1e-4)


def test_networks_that_cannot_be_measured_are_refused():
    with pytest.raises(ConfigurationError, match="no linear"):
        measure_networks(nn.ReLU, torch.ones(1, 3), 4)
    with pytest.raises(ConfigurationError, match="shape"):
        measure_networks(lambda: nn.Linear(4, 2), torch.ones(1, 3), 4)
    with pytest.raises(ConfigurationError, match="lazy"):
        measure_networks(lambda: nn.LazyLinear(2), torch.ones(1, 3), 4)
    normed = torch.nn.utils.parametrizations.weight_norm
    sizes, one_layer = iter(range(3, 9)), nn.Linear(3, 2)
    with pytest.raises(ConfigurationError, match="computed from other parameters"):
        measure_networks(lambda: normed(nn.Linear(3, 2)), torch.ones(1, 3), 4)
    with pytest.raises(ConfigurationError, match="differ in more than their weights"):
        measure_networks(lambda: nn.Linear(3, next(sizes)), torch.ones(1, 3), 4)
    with pytest.raises(ConfigurationError, match="same weights"):
        measure_networks(lambda: one_layer, torch.ones(1, 3), 4)
    with pytest.raises(ConfigurationError, match="1 to 64 outputs"):
        tangent_kernels_of(lambda: nn.Linear(3, 65), torch.ones(1, 3), 4)
    with pytest.raises(ConfigurationError, match="returned a int"):
        measure_networks(lambda: 3, torch.ones(1, 3), 4)  # type: ignore[arg-type, return-value]


def test_architectures_that_are_none_are_refused():
    for wrong in ({"widths": ()}, {"widths": (0,)}, {"weight_variance": 0.0}, {"widths": (3, 4), "skip": 0.5}):
        with pytest.raises(ConfigurationError):
            Architecture(**{"function": torch.tanh, "widths": (3, 3), **wrong})


def test_the_jackknife_gives_the_standard_error_of_a_mean():
    values = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = jackknife({"x": values}, lambda means: means["x"])
    assert torch.allclose(found.value, values.mean(0))
    assert torch.allclose(found.error, values.std(0) / math.sqrt(5000), rtol=0.35)
    squared = jackknife({"x": values}, lambda means: means["x"] ** 2)
    assert float(squared.value.abs().max()) < 3 / 5000 + 3 * float(squared.error.max())
    with pytest.raises(ValueError, match="at least two"):
        jackknife({"x": values[:1]}, lambda means: means["x"])
