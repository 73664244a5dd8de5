"""Critical points against the book's numbers and against the recursions themselves."""

import math

import pytest
import torch

from encore.nn.activations import activation_named, as_activation
from encore.nn.criticality import (
    CriticalityError,
    chi_parallel,
    chi_perpendicular,
    corrected_weight_variance,
    critical_point,
    critical_points,
    expansion,
    fixed_point,
    g,
    g_slope,
    h,
    residual_weight_variance,
    universality_class,
)


def test_swish_is_critical_where_the_book_says():
    point = critical_point("swish")
    assert point.kernel == pytest.approx(14.32017362, abs=5e-9)  # (5.101)
    assert point.bias_variance == pytest.approx(0.55514317, abs=5e-9)
    assert point.weight_variance == pytest.approx(1.98800468, abs=5e-9)
    assert point.curvature == pytest.approx(2.8498e-6, rel=1e-4)
    assert point.stability == "attracts from below"


def test_gelu_is_critical_where_the_book_says():
    point = critical_point("gelu")
    assert point.kernel == pytest.approx((3 + math.sqrt(17)) / 2, abs=1e-8)  # (5.105)
    assert point.bias_variance == pytest.approx(0.17292239, abs=5e-9)
    assert point.weight_variance == pytest.approx(1.98305826, abs=5e-9)
    assert point.curvature == pytest.approx(-1.43626e-4, rel=1e-4)
    assert point.stability == "attracts from above"


@pytest.mark.parametrize("name", ["gelu", "swish"])
def test_half_stable_activations_have_an_unstable_point_at_zero(name: str):
    zero = critical_points(name)[-1]
    assert (zero.kernel, zero.bias_variance, zero.stability) == (0, 0, "unstable")
    assert zero.weight_variance == pytest.approx(4)
    if name == "gelu":
        assert zero.curvature == pytest.approx(6 / math.pi)


@pytest.mark.parametrize(
    ("name", "weights"),
    [("linear", 1), ("relu", 2), ("leaky_relu_0.3", 2 / 1.09), ("tanh", 1), ("sin", 1), ("erf", math.pi / 4)],
)
def test_solved_classes_are_critical_without_biases(name: str, weights: float):
    point = critical_point(name)
    assert point.weight_variance == pytest.approx(weights, rel=1e-12)
    assert point.bias_variance == 0
    scale_invariant = name in ("linear", "relu", "leaky_relu_0.3")
    assert point.universality == ("scale-invariant" if scale_invariant else "K*=0")


@pytest.mark.parametrize("name", ["swish", "gelu", "mish", "hardswish"])
def test_both_susceptibilities_are_one_at_a_half_stable_point(name: str):
    point = critical_point(name)
    assert chi_parallel(name, point.kernel, point.weight_variance) == pytest.approx(1, abs=1e-9)
    assert chi_perpendicular(name, point.kernel, point.weight_variance) == pytest.approx(1, abs=1e-9)
    assert point.bias_variance + point.weight_variance * g(name, point.kernel) == pytest.approx(point.kernel, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sigmoid", "negative"),
        ("softplus", "never 1"),
        ("monomial_2", "0.6667"),
        ("monomial_3", "0.6 at"),
        ("perceptron", "infinite"),
    ],
)
def test_activations_without_a_critical_point_say_why(name: str, reason: str):
    found = universality_class(name)
    assert found.name == "none"
    assert reason in found.reason
    with pytest.raises(CriticalityError, match=f"{name} has no critical point"):
        critical_point(name)


def test_sigmoid_would_need_a_negative_bias_variance_of_four():
    assert "-4" in universality_class("sigmoid").reason


def test_softplus_ratios_are_those_of_the_book():
    for kernel, expected in ((0.01, 0.591), (1.0, 0.647), (20.0, 0.841), (100.0, 0.922)):
        ratio = chi_perpendicular("softplus", kernel, 1.0) / chi_parallel("softplus", kernel, 1.0)
        assert ratio == pytest.approx(expected, abs=5e-4)


def test_expansions_around_zero():
    tanh, sin = expansion("tanh"), expansion("sin")
    assert (tanh.a1, tanh.a2, tanh.b1) == pytest.approx((-2, 17 / 3, -2))
    assert (sin.a1, sin.b1) == pytest.approx((-1, -1))
    with pytest.raises(CriticalityError, match="cannot be expanded"):
        expansion("relu")


@pytest.mark.parametrize("name", ["tanh", "gelu", "relu", "elu", "softplus"])
def test_susceptibilities_are_the_derivatives_that_they_stand_for(name: str):
    kernel, step = 1.3, 1e-4
    numerical = (g(name, kernel + step) - g(name, kernel - step)) / (2 * step)
    assert g_slope(name, kernel) == pytest.approx(numerical, rel=1e-6)
    bend = (chi_perpendicular(name, kernel + step, 2) - chi_perpendicular(name, kernel - step, 2)) / (2 * step)
    assert h(name, kernel, 2) == pytest.approx(bend / 2, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", ["tanh", "gelu", "swish"])
def test_limits_at_zero_are_those_of_small_kernels(name: str):
    assert g_slope(name, 0) == pytest.approx(g_slope(name, 1e-7), rel=1e-4)
    assert h(name, 0, 1.0) == pytest.approx(h(name, 1e-6, 1.0), rel=1e-3)


@pytest.mark.parametrize("name", ["tanh", "sin", "elu", "softsign"])
def test_kernels_fall_with_the_exponent_of_their_class(name: str):
    point = critical_point(name)
    kernel, at = 1.0, {}
    for layer in range(2, 1601):
        kernel = point.weight_variance * g(name, kernel)
        if layer in (800, 1600):
            at[layer] = kernel
    exponent = math.log2(at[800] / at[1600])
    assert exponent == pytest.approx(point.exponents["p_0"], rel=0.03)


def test_kernels_off_criticality_rest_elsewhere_or_grow_without_end():
    assert fixed_point("tanh", 0.0, 0.75) == 0
    above = fixed_point("tanh", 0.0, 1.25)
    assert above > 0.05
    assert 1.25 * g("tanh", above) == pytest.approx(above, rel=1e-8)
    assert fixed_point("relu", 0.0, 2.5) == math.inf
    assert fixed_point("relu", 0.5, 1.0) == pytest.approx(1.0, rel=1e-8)  # K = C_b / (1 − C_W/2)


def test_finite_width_corrects_the_weights_of_one_class():
    assert corrected_weight_variance("tanh", 50) == pytest.approx(1 + 2 / 150)
    assert corrected_weight_variance("relu", 50) == 2


def test_residual_networks_leave_less_for_the_weights():
    assert residual_weight_variance("relu", math.sqrt(0.5)) == pytest.approx(1)
    assert residual_weight_variance("tanh", 0.6) == pytest.approx(0.64)
    with pytest.raises(CriticalityError, match="cannot be critical"):
        residual_weight_variance("relu", 1.0)
    with pytest.raises(CriticalityError, match="half-stable"):
        residual_weight_variance("gelu", 0.5)


def test_any_callable_has_a_class():
    assert universality_class(lambda z: z * torch.sigmoid(1.702 * z)).name == "half-stable"
    assert universality_class(as_activation(torch.sinh)).name == "none"
    assert universality_class(lambda z: torch.tanh(z) / 2).points[0].weight_variance == pytest.approx(4)
    assert universality_class(activation_named("tanh")).points[0].stability == "stable"


def test_odd_functions_are_answered_in_the_theorys_terms():
    assert universality_class(lambda z: torch.tanh(10 * z)).points[0].weight_variance == pytest.approx(0.01)
    assert "constant" in universality_class(lambda z: 0 * z).reason
    assert "vertical" in universality_class(torch.round).reason
    assert universality_class(torch.exp).name == "none"
    shifted = universality_class(lambda z: torch.relu(z - 1)).points[0]  # critical at every kernel
    assert chi_parallel(lambda z: torch.relu(z - 1), 1.0, shifted.weight_variance) == pytest.approx(1)
    assert "1/A2" in universality_class("selu").reason
    assert critical_point(torch.abs).weight_variance == pytest.approx(1)
