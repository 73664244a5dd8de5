"""Gaussian averages against closed forms, and activations against what is known of them."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from encore.base.errors import InputError, UnknownNameError
from encore.nn.activations import ACTIVATIONS, ActivationError, activation_named, as_activation
from encore.nn.gaussian import GaussianError, expectation, expectations, line_nodes, sample_nodes

KERNELS = (0.01, 0.3, 1.0, 7.0, 250.0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_averages_of_a_relu_are_exact(kernel: float):
    averages = activation_named("relu").at(kernel)
    assert averages.moment(2) == pytest.approx(kernel / 2, rel=1e-13)
    assert averages.moment(4) == pytest.approx(1.5 * kernel**2, rel=1e-13)
    assert averages.moment(0, 2) == pytest.approx(0.5, rel=1e-13)
    assert averages.moment(1) == pytest.approx(math.sqrt(kernel / math.tau), rel=1e-13)


@pytest.mark.parametrize("kernel", KERNELS)
def test_averages_of_a_sine_are_exact(kernel: float):
    averages = activation_named("sin").at(kernel)
    assert averages.moment(2) == pytest.approx((1 - math.exp(-2 * kernel)) / 2, rel=1e-11)
    assert averages.moment(0, 2) == pytest.approx((1 + math.exp(-2 * kernel)) / 2, rel=1e-11)
    assert averages.moment(1, z=1) == pytest.approx(kernel * math.exp(-kernel / 2), rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("kernel", KERNELS)
def test_averages_of_erf_and_gelu_have_closed_forms(kernel: float):
    erf = activation_named("erf").at(kernel)
    assert erf.moment(2) == pytest.approx(2 / math.pi * math.asin(2 * kernel / (1 + 2 * kernel)), rel=1e-11)
    assert erf.moment(0, 2) == pytest.approx(4 / math.pi / math.sqrt(1 + 4 * kernel), rel=1e-11)
    gelu = activation_named("gelu").at(kernel)
    angle = math.asin(kernel / (1 + kernel))
    root = math.sqrt(1 + 2 * kernel)
    expected = kernel / 4 + kernel / math.tau * (angle + 2 * kernel / ((1 + kernel) * root))
    assert gelu.moment(2) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("kernel", [0.5, 2.0])
def test_monomials_have_double_factorials(kernel: float):
    for power in (1, 2, 3, 5):
        expected = math.prod(range(1, 2 * power, 2)) * kernel**power
        assert activation_named(f"monomial_{power}").at(kernel).moment(2) == pytest.approx(expected, rel=1e-12)
    assert activation_named("monomial_3").at(kernel).moment(0, 2) == pytest.approx(27 * kernel**2, rel=1e-12)


def test_kernel_of_tanh_meets_the_published_recursion():
    kernel = 1.0
    for expected in (0.39429449, 0.23645041):
        kernel = activation_named("tanh").at(kernel).moment(2)
        assert kernel == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", ["tanh", "gelu", "swish", "softplus", "relu", "leaky_relu", "elu", "selu", "hardtanh"])
def test_integration_by_parts_holds_for_every_derivative(name: str):
    averages = activation_named(name).at(1.7)
    z_sigma, slope = averages.moment(1, z=1), averages.moment(0, 1)
    assert z_sigma == pytest.approx(1.7 * slope, rel=1e-10)
    z_slope, bend = averages.moment(0, 1, z=1), averages.moment(0, 0, 1)
    assert z_slope == pytest.approx(1.7 * bend, rel=1e-8, abs=1e-10)
    z_bend, third = averages.moment(0, 0, 1, z=1), averages.moment(0, 0, 0, 1)
    assert z_bend == pytest.approx(1.7 * third, rel=1e-7, abs=1e-9)


def test_delta_functions_of_a_relu_are_taken_by_parts():
    averages = activation_named("relu").at(2.0)
    assert averages.moment(1, 0, 1) == pytest.approx(0, abs=1e-15)  # ⟨σ''σ⟩ (11.67)
    assert averages.moment(1, 2, 1) == pytest.approx(0, abs=1e-15)  # ⟨σ''σ'²σ⟩ (11.70)
    assert averages.moment(0, 0, 1) == pytest.approx(1 / math.sqrt(2 * math.tau), rel=1e-12)
    with pytest.raises(GaussianError, match="diverges"):
        averages.moment(0, 0, 2)


def test_a_step_has_no_square_of_its_slope():
    averages = activation_named("perceptron").at(1.0)
    assert averages.moment(0, 1) == pytest.approx(2 / math.sqrt(math.tau), rel=1e-12)
    with pytest.raises(GaussianError, match="diverges"):
        averages.moment(0, 2)


def test_two_relus_follow_the_arc_cosine_kernel():
    angle = math.acos(0.3)
    expected = (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.tau
    found = expectations(lambda z: F.relu(z).prod(1), [[1.0, 0.3], [0.3, 1.0]], (0.0,))
    assert float(found) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("num_samples", [2, 3, 4])
def test_products_follow_wicks_theorem(num_samples: int):
    generator = torch.Generator().manual_seed(num_samples)
    root = torch.randn(num_samples, num_samples, generator=generator, dtype=torch.float64)
    K = root @ root.T
    z, weights = sample_nodes(K.numpy())
    second = torch.einsum("n,ni,nj->ij", weights, z, z)
    torch.testing.assert_close(second, K, rtol=1e-10, atol=1e-10)
    if num_samples == 4:
        fourth = float(weights @ z.prod(1))
        expected = K[0, 1] * K[2, 3] + K[0, 2] * K[1, 3] + K[0, 3] * K[1, 2]
        assert fourth == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize(("num_samples", "error"), [(2, 1e-9), (3, 1e-8), (4, 1e-6)])
def test_correlated_relus_agree_with_many_more_nodes(num_samples: int, error: float):
    K = 0.3 * torch.ones(num_samples, num_samples) + 0.7 * torch.eye(num_samples)
    more = {2: 80, 3: 48, 4: 22}[num_samples]
    found, finer = (
        float(expectations(lambda z: F.relu(z).prod(1), K.numpy(), (0.0,), points)) for points in (None, more)
    )
    assert found == pytest.approx(finer, rel=error)


def test_equal_samples_are_one_sample():
    K = torch.full((3, 3), 0.8, dtype=torch.float64)
    found = expectations(lambda z: torch.tanh(z).prod(1), K.numpy())
    assert float(found) == pytest.approx(expectation(lambda z: torch.tanh(z) ** 3, 0.8), abs=1e-10)
    fourth = expectations(
        lambda z: torch.tanh(z).prod(1), torch.full((4, 4), 0.8, dtype=torch.float64).numpy(), points=80
    )
    assert float(fourth) == pytest.approx(activation_named("tanh").at(0.8).moment(4), rel=1e-10)


def test_a_kernel_of_zero_is_the_value_at_zero():
    assert expectation(torch.cos, 0.0) == 1.0
    assert len(line_nodes(0.0).z) == 1


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(GaussianError, match="grows as fast as exp"):
        expectation(lambda z: torch.exp(z**2), 1.0)
    with pytest.raises(GaussianError, match="no variance"):
        line_nodes(-1.0)
    with pytest.raises(GaussianError, match="negative eigenvalue"):
        sample_nodes([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(GaussianError, match="1 to 4"):
        sample_nodes(torch.eye(5).numpy())
    with pytest.raises(GaussianError, match="diverges"):
        as_activation(lambda z: torch.exp(z**2 / 4), "fast").at(8.0)


def test_exponentials_are_averaged_far_out():
    assert expectation(torch.exp, 100.0) == pytest.approx(math.exp(50), rel=1e-9)


# activations


def test_taylor_coefficients_are_those_of_the_functions():
    assert activation_named("tanh").taylor == pytest.approx((0, 1, 0, -2, 0, 16))
    assert activation_named("sin").taylor == pytest.approx((0, 1, 0, -1, 0, 1))
    assert activation_named("relu").taylor is None
    root = math.sqrt(2 / math.pi)
    assert activation_named("gelu").taylor == pytest.approx((0, 0.5, root, 0, -2 * root, 0), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "positions"),
    [("relu", [0]), ("relu6", [0, 6]), ("hardtanh", [-1, 1]), ("hardswish", [-3, 3]), ("elu", [0]), ("softsign", [0])],
)
def test_kinks_are_found_by_looking(name: str, positions: list[float]):
    assert list(activation_named(name).kink_positions) == positions


@pytest.mark.parametrize("name", ["tanh", "gelu", "swish", "sigmoid", "softplus", "mish", "erf", "sin", "arctan"])
def test_smooth_functions_have_no_kinks(name: str):
    assert activation_named(name).kinks == ()


def test_kinks_of_an_unknown_function_are_narrowed_down():
    def bent(z: torch.Tensor) -> torch.Tensor:
        return torch.where(z > 0.7312345, 2 * (z - 0.7312345), torch.zeros_like(z)) + torch.tanh(z)

    (kink,) = as_activation(bent).kinks
    assert kink.position == pytest.approx(0.7312345, abs=1e-6)
    assert kink.slopes[1] - kink.slopes[0] == pytest.approx(2, abs=1e-5)


def test_steep_functions_are_no_kinks():
    for slope in (3, 10, 40):
        assert as_activation(lambda z, slope=slope: torch.tanh(slope * z)).kinks == ()


def test_slopes_of_scale_invariant_functions_are_read_off():
    assert activation_named("linear").scale_invariant == (1, 1)
    assert activation_named("relu").scale_invariant == (0, 1)
    assert as_activation(nn.LeakyReLU(0.2)).scale_invariant == pytest.approx((0.2, 1))
    assert as_activation(nn.PReLU(init=0.25)).scale_invariant == pytest.approx((0.25, 1))
    assert activation_named("elu").scale_invariant is None


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_name_is_an_activation_and_differentiable_three_times(name: str):
    sigma = activation_named(name)
    z = torch.tensor([-1.3, 0.4, 2.2], dtype=torch.float64)
    step = 1e-4
    for order in (1, 2, 3):
        lower, upper = (
            sigma(z + side * step) if order == 1 else sigma.derivative(z + side * step, order - 1) for side in (-1, 1)
        )
        torch.testing.assert_close(sigma.derivative(z, order), (upper - lower) / (2 * step), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:__array_wrap__")
def test_what_is_no_activation_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'tanh'"):
        activation_named("thanh")
    with pytest.raises(ActivationError, match="not elementwise"):
        as_activation(lambda z: F.softmax(z, 0), "softmax")
    with pytest.raises(ActivationError, match="not finite at 0"):
        as_activation(torch.log, "log")
    with pytest.raises(ActivationError, match="one number for each"):
        as_activation(lambda z: z.sum(), "sum")
    with pytest.raises(ActivationError, match="cannot be imported"):
        activation_named("nowhere:at_all")
    for name in (":nothing", "torch.nn:Threshold", "torch.nn:Linear"):
        with pytest.raises(ActivationError, match="cannot be imported"):
            activation_named(name)
    with pytest.raises(ActivationError, match="cannot be evaluated"):
        activation_named("numpy:tanh")
    with pytest.raises(GaussianError, match=r"not a number at \|z\| = 1"):
        as_activation(torch.log1p).at(1.0)
    with pytest.raises(InputError):
        activation_named("torch:no_such_function")
