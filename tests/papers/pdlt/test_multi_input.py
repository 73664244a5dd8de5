"""Several inputs: consistent with one input, with each other, and with a slow Monte Carlo average."""

from __future__ import annotations

import pytest
import torch

from encore.base.errors import ConfigurationError
from encore.nn.activations import activation_named
from encore.nn.gaussian import expectations
from encore.papers.pdlt.multi_input import multi_input_recursions, names
from encore.papers.pdlt.recursions import recursions

WIDTHS = (50, 30, 20, 10)
VARIANCES = {"bias_variance": 0.1, "weight_variance": 1.3}


def rates(layer: int) -> tuple[float, float]:
    return 1 / layer, 0.7


@pytest.mark.parametrize(("name", "samples"), [("tanh", 1), ("tanh", 2), ("tanh", 4), ("gelu", 2), ("relu", 3)])
def test_equal_inputs_give_the_tensors_of_one(name: str, samples: int):
    activation = activation_named(name)
    one = recursions(activation, 4, first_kernel=0.1 + 1.3 * 0.8, rates=rates, widths=WIDTHS, **VARIANCES)[-1]
    many = multi_input_recursions(
        activation, 0.8 * torch.ones(samples, samples), 4, rates=rates, widths=WIDTHS, **VARIANCES
    )[-1]
    for tensor in names():
        if tensor in "PQ" and name == "relu":
            assert torch.isnan(getattr(many, tensor)).all()
            continue
        due = getattr(one, tensor)
        assert torch.allclose(getattr(many, tensor), torch.tensor(due, dtype=torch.float64), rtol=2e-6, atol=2e-7), (
            tensor
        )


def test_a_subset_of_inputs_has_the_tensors_of_the_whole():
    gram = torch.tensor([[1.0, 0.4, 0.1], [0.4, 1.2, 0.3], [0.1, 0.3, 0.7]])
    activation = activation_named("tanh")
    whole = multi_input_recursions(activation, gram, 4, rates=rates, **VARIANCES)[-1]
    part = multi_input_recursions(activation, gram[1:, 1:], 4, rates=rates, **VARIANCES)[-1]
    for tensor in names():
        cut = getattr(whole, tensor)[(slice(1, None),) * getattr(whole, tensor).dim()]
        assert torch.allclose(cut, getattr(part, tensor), rtol=5e-6, atol=2e-6), tensor


def test_tensors_have_their_symmetries():
    gram = torch.tensor([[1.0, 0.4], [0.4, 1.2]])
    last = multi_input_recursions(activation_named("gelu"), gram, 4, rates=rates, **VARIANCES)[-1]
    for tensor in (last.V, last.A):
        assert torch.allclose(tensor, tensor.transpose(0, 1))
        assert torch.allclose(tensor, tensor.permute(2, 3, 0, 1))
    assert torch.allclose(last.D, last.D.transpose(0, 1))
    assert torch.allclose(last.D, last.D.transpose(2, 3))
    assert torch.allclose(last.B, last.B.permute(2, 3, 0, 1))
    assert torch.allclose(last.theta, last.theta.T)


def test_the_second_layer_has_sources_alone():
    gram = torch.tensor([[1.0, 0.4], [0.4, 1.2]])
    activation = activation_named("tanh")
    first, second = multi_input_recursions(activation, gram, 2, weight_variance=1.5, rates=rates)

    def products(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value, slope = activation(z), activation.derivative(z)
        return torch.einsum("na,nb,nc,nd->nabcd", slope, slope, slope, slope), torch.einsum(
            "na,nb,nc,nd->nabcd", value, value, slope, slope
        )

    slopes = expectations(lambda z: products(z)[0], first.K, points=96)
    mixed = expectations(lambda z: products(z)[1], first.K, points=96)
    due = 1.5**2 * torch.einsum("abcd,ab,cd->acbd", slopes, first.theta, first.theta)  # (8.38)
    assert torch.allclose(second.B, due)
    assert torch.allclose(second.F, 1.5**2 * torch.einsum("abcd,cd->acbd", mixed, first.theta))  # (8.33)


def test_the_vertex_of_two_inputs_meets_an_ensemble():
    """n·Cov(Ĝ_12, Ĝ_12) over networks without weights, two inputs, third layer."""
    gram = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    activation, width, networks = activation_named("tanh"), 64, 20_000
    generator = torch.Generator().manual_seed(0)
    metric = gram.expand(networks, 2, 2)
    for _ in range(2):
        factor = torch.linalg.cholesky(metric)
        noise = torch.randn(networks, width, 2, generator=generator, dtype=torch.float64)
        signals = torch.tanh(noise @ factor.mT)
        metric = torch.einsum("nia,nib->nab", signals, signals) / width
    measured = width * metric.flatten(1).T.cov().view(2, 2, 2, 2)
    due = multi_input_recursions(activation, gram, 3)[-1].V
    assert torch.allclose(measured, due, rtol=0.06, atol=1e-3)


INPUTS = torch.tensor([[1.0, 0.2, -0.5, 0.8], [0.3, 1.2, 0.6, -0.4]], dtype=torch.float64)


def uniform(layer: int) -> tuple[float, float]:
    return 1.0, 0.7


@pytest.mark.slow
def test_tangent_tensors_of_two_inputs_meet_an_ensemble():
    """D, F, A and B from kernels Ĥ of real networks with all entries between neurons and inputs, third layer."""
    width, networks, variance, depth = 48, 1500, 1.2, 3
    generator = torch.Generator().manual_seed(0)
    kernel, z = torch.zeros(0), torch.zeros(0)
    for layer in range(1, depth + 1):
        signals = INPUTS.T.expand(networks, -1, -1) if layer == 1 else torch.tanh(z)
        fan_in = signals.shape[1]
        weights = torch.randn(networks, width, fan_in, generator=generator, dtype=torch.float64)
        weights *= (variance / fan_in) ** 0.5
        bias_rate, weight_rate = uniform(layer)
        own = bias_rate + weight_rate * torch.einsum("cia,cib->cab", signals, signals) / fan_in
        new = torch.einsum("cab,ij->cijab", own, torch.eye(width, dtype=torch.float64))
        if layer > 1:
            slopes = 1 - torch.tanh(z) ** 2
            for a in range(2):
                for b in range(2):
                    left, right = weights * slopes[:, None, :, a], weights * slopes[:, None, :, b]
                    new[..., a, b] += left @ kernel[..., a, b] @ right.mT
        kernel, z = new, weights @ signals
    due = multi_input_recursions(
        activation_named("tanh"), INPUTS @ INPUTS.T / 4, depth, weight_variance=variance, rates=uniform
    )[-1]
    half = width // 2  # neurons of the first half are paired with those of the second
    own = kernel.diagonal(dim1=1, dim2=2)  # (networks, 2, 2, neurons)
    first, second = own[..., :half].mean(-1), own[..., half:].mean(-1)
    squares = torch.einsum("cia,cib->cab", z[:, :half], z[:, :half]) / half
    mixed = kernel[:, :half, half:]
    scale = width / networks
    A = scale * torch.einsum("cab,cde->abde", first - first.mean(0), second - second.mean(0))
    D = scale * torch.einsum("cab,cde->abde", squares - squares.mean(0), second - second.mean(0))
    # with i ≠ j: E[Ĥ_ij;ab Ĥ_ij;de] = B_adbe/n and E[z_i;a z_j;b Ĥ_ij;de] = F_adbe/n (8.82, 8.67)
    B = scale * torch.einsum("cijab,cijde->adbe", mixed, mixed) / half**2
    F = scale * torch.einsum("cia,cjb,cijde->adbe", z[:, :half], z[:, half:], mixed) / half**2
    assert torch.allclose(B, due.B, rtol=0.08, atol=0.08)
    assert torch.allclose(F, due.F, rtol=0.1, atol=0.03)
    assert torch.allclose(A, due.A, rtol=0.25, atol=0.15)
    assert torch.allclose(D, due.D, rtol=0.25, atol=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("samples", [(0, 1, 0, 0), (1, 0, 0, 0), (0, 1, 0, 1), (0, 0, 1, 0)])
def test_the_differential_of_the_tangent_kernel_meets_an_ensemble(samples: tuple[int, int, int, int]):
    """P and Q from second derivatives of real networks: dĤ is one along two gradients (11.8)."""
    width, outputs, networks, variance = 12, 3, 1500, 1.2
    generator = torch.Generator().manual_seed(0)
    shapes = ((width, 4), (width,), (width, width), (width,), (outputs, width), (outputs,))
    rates = (0.7 / 4, 1.0, 0.7 / width, 1.0, 0.7 / width, 1.0)
    parameters = tuple(
        torch.randn(networks, *shape, generator=generator, dtype=torch.float64) * (variance / shape[1]) ** 0.5
        if len(shape) == 2
        else torch.zeros(networks, *shape, dtype=torch.float64)
        for shape in shapes
    )
    Parameters = tuple[torch.Tensor, ...]

    def output(own: Parameters, neuron: int, sample: int) -> torch.Tensor:
        z = own[0] @ INPUTS[sample] + own[1]
        for weights, biases in ((own[2], own[3]), (own[4], own[5])):
            z = weights @ torch.tanh(z) + biases
        return z[neuron]

    def differential(own: Parameters, neurons: tuple[int, int, int]) -> torch.Tensor:
        directions = [
            tuple(
                rate * slope
                for rate, slope in zip(
                    rates,
                    torch.func.grad(lambda p, at=(neuron, sample): output(p, *at))(own),
                    strict=True,
                )
            )
            for neuron, sample in zip(neurons[1:], samples[1:3], strict=True)
        ]

        def along(p: Parameters) -> torch.Tensor:
            return torch.func.jvp(lambda q: output(q, neurons[0], samples[0]), (p,), (directions[0],))[1]

        return torch.func.jvp(along, (own,), (directions[1],))[1]

    def products(own: Parameters) -> torch.Tensor:
        P = [differential(own, (i, j, j)) * output(own, i, samples[3]) for i, j in ((0, 1), (1, 2), (2, 0))]
        Q = [differential(own, (i, i, j)) * output(own, j, samples[3]) for i, j in ((0, 1), (1, 2), (2, 0))]
        return torch.stack([sum(P) / 3, sum(Q) / 3])  # type: ignore[list-item]

    found = width * torch.func.vmap(products)(parameters)
    due = multi_input_recursions(
        activation_named("tanh"), INPUTS @ INPUTS.T / 4, 3, weight_variance=variance, rates=uniform
    )[-1]
    error = found.std(0) / networks**0.5
    for value, spread, expected in zip(found.mean(0), error, (due.P[samples], due.Q[samples]), strict=True):
        assert abs(value - expected) < 4 * spread + 0.05 * abs(expected)  # the rest is O(1/n)


def test_more_inputs_than_four_are_refused():
    with pytest.raises(ConfigurationError, match="up to four"):
        multi_input_recursions(activation_named("tanh"), torch.eye(5), 2)
