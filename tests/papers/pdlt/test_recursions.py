"""The recursions on one input, against the table of the facts, closed forms and limits of large depth."""

from __future__ import annotations

import math

import pytest

from encore.base.errors import ConfigurationError
from encore.nn.activations import activation_named
from encore.nn.gaussian import GaussianError
from encore.papers.pdlt.recursions import Layer, recursions

TANH = {
    # ℓ: K, V, G1, Θ, F, B, D, A with C_W = 1, C_b = 0, K of the first layer 1, λ_b = 1/ℓ, λ_W = 1
    2: (0.39429449, 0.0975237, 0.0, 1.82310, 0.150102, 1.36604, -0.11860, 0.16864),
    3: (0.23645041, 0.0678075, -0.03093, 1.73027, 0.169018, 2.21290, -0.12014, 0.27185),
    5: (0.12790474, 0.0393984, -0.06823, 1.63674, 0.176304, 3.65727, -0.11445, 0.48282),
    10: (0.05801185, 0.0185887, -0.10713, 1.55397, 0.179086, 7.09890, -0.10916, 1.07070),
    50: (0.01043074, 3.44656e-3, -0.15148, 1.49050, 0.182626, 35.4598, -0.10756, 6.4328),
    1000: (5.0167e-4, 1.67146e-4, -0.16582, 1.49485, 0.186537, 740.899, -0.11024, 144.85),
}
SIN_KERNEL = {2: 0.43233236, 3: 0.28940363, 5: 0.17779929, 10: 0.09218114}
SIN_VERTEX = {2: 0.120463, 10: 0.0500901}

LIMITS = {
    # at ℓ = 2000, the limit, for tanh and sin with λ_b = 1/ℓ, λ_W = 1
    "vertex": ((0.6653, 2 / 3), (0.6668, 2 / 3)),
    "G1": ((-0.16624, -1 / 6), (-0.33223, -1 / 3)),
    "theta": ((1.4966, 3 / 2), (2.0051, 2)),
    "F": ((0.2493, 1 / 4), (0.2501, 1 / 4)),
    "B": ((0.3323, 1 / 3), (0.3340, 1 / 3)),
    "D": ((-0.1475, -4 / 27), (-0.1116, -1 / 9)),
    "A": ((0.0652, 16 / 243), (0.0374, 1 / 27)),
    "P": ((-0.0831, -1 / 12), (-0.0837, -1 / 12)),
    "Q": ((-0.0414, -1 / 24), (-0.0314, -1 / 32)),
}


def falling_rates(layer: int) -> tuple[float, float]:
    return 1 / layer, 1.0


@pytest.fixture(scope="module")
def tanh() -> list[Layer]:
    return recursions(activation_named("tanh"), 1000, rates=falling_rates, second_differentials=True)


@pytest.mark.parametrize("layer", list(TANH))
def test_tanh_follows_the_table(tanh: list[Layer], layer: int):
    found = tanh[layer - 1]
    due = TANH[layer]
    values = (found.K, found.V, found.G1, found.theta, found.F, found.B, found.D, found.A)
    for value, expected in zip(values, due, strict=True):
        digits = len(f"{abs(expected):.10g}".lstrip("0.").replace(".", "")) or 1
        assert value == pytest.approx(expected, rel=max(1e-6, 0.6 * 10 ** (1 - digits)), abs=1e-12)


def test_sin_follows_the_table():
    found = recursions(activation_named("sin"), 10)
    for layer, kernel in SIN_KERNEL.items():
        assert pytest.approx(kernel, rel=1e-7) == found[layer - 1].K
    for layer, vertex in SIN_VERTEX.items():
        assert pytest.approx(vertex, rel=5e-6) == found[layer - 1].V


@pytest.mark.slow
@pytest.mark.parametrize(("place", "name"), [(0, "tanh"), (1, "sin")])
def test_ratios_approach_the_limits_of_large_depth(place: int, name: str):
    depth = 2000
    last = recursions(activation_named(name), depth, rates=falling_rates)[-1]
    K, theta = last.K, last.theta
    found = {
        "vertex": last.V / K**2 / depth,
        "G1": last.G1,
        "theta": theta,
        "F": last.F / (K * theta) / depth,
        "B": last.B / theta**2 / depth,
        "D": last.D / (K * theta) / depth,
        "A": last.A / theta**2 / depth,
        "P": last.P / theta**2 / depth,
        "Q": last.Q / theta**2 / depth,
    }
    for quantity, value in found.items():
        at_depth, limit = LIMITS[quantity][place]
        assert value == pytest.approx(at_depth, abs=6e-5), quantity
        assert value == pytest.approx(limit, rel=0.01), quantity


def test_second_differentials_approach_their_limits(tanh: list[Layer]):
    last = tanh[-1]
    scale = last.K / last.theta**3 / 1000  # λ̃_b = λ̃_W = 1, so that S_tot = 3/2
    assert last.R * scale == pytest.approx(-(1 / 48) * 5 / 1.5, rel=0.01)
    assert last.S * scale == pytest.approx((1 / 12) * 0.5 / 1.5, rel=0.01)
    assert last.T * scale == pytest.approx((1 / 32) / 1.5**2, rel=0.02)
    assert last.U * scale * 1000**2 == pytest.approx(1 / 2, rel=0.01)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("linear", 1.0, 1.0), ("relu", 0.0, 1.0), ("leaky_relu_0.3", 0.3, 1.0)]
)
def test_scale_invariant_activations_follow_their_closed_forms(name: str, low: float, high: float):
    second, fourth = (low**2 + high**2) / 2, (low**4 + high**4) / 2
    ratio, depth, kernel, bias_rate, weight_rate = fourth / second**2, 7, 1.3, 0.6, 0.8
    found = recursions(
        activation_named(name),
        depth,
        weight_variance=1 / second,
        first_kernel=kernel,
        rates=lambda layer: (bias_rate, weight_rate),
    )
    S = bias_rate + weight_rate * second * kernel
    for one in found:
        layer = one.layer
        assert pytest.approx(kernel) == one.K
        assert pytest.approx(0, abs=1e-10) == one.G1
        assert one.theta == pytest.approx(S * layer)
        assert pytest.approx((layer - 1) * (3 * ratio - 1) * kernel**2, abs=1e-10) == one.V
        pairs = layer * (layer - 1) / 2
        D = bias_rate * (ratio - 1) * kernel + weight_rate * second * (4 * ratio - 2) * kernel**2
        assert pytest.approx(pairs * D, abs=1e-10) == one.D
        assert pytest.approx(pairs * ratio * S * kernel, abs=1e-10) == one.F
        assert pytest.approx(layer * (layer - 1) * (2 * layer - 1) / 6 * ratio * S**2, abs=1e-10) == one.B
        assert pytest.approx(0, abs=1e-10) == one.P
        Q = layer * (layer**2 - 1) / 6 * fourth / second * S * weight_rate * kernel
        assert pytest.approx(Q, abs=1e-10) == one.Q


def test_the_six_tangent_tensors_of_relu_with_uniform_rates():
    last = recursions(activation_named("relu"), 6, weight_variance=2.0)[-1]
    assert (last.theta, last.B, last.D, last.F, last.A) == pytest.approx((9, 247.5, 60, 45, 245))


def test_widths_scale_what_comes_from_the_layer_before():
    equal = recursions(activation_named("linear"), 3, widths=(10, 10, 10))
    narrowing = recursions(activation_named("linear"), 3, widths=(10, 5, 1))
    # E[zzzz] of different neurons is the sum of both layers' 2/n
    assert equal[2].normalised_vertex(10) == pytest.approx(2 / 10 + 2 / 10)
    assert narrowing[2].normalised_vertex(5) == pytest.approx(2 / 10 + 2 / 5)


def test_variances_of_single_layers_are_taken():
    found = recursions(activation_named("linear"), 3, weight_variance=[1.0, 2.0, 0.5], bias_variance=[0.0, 0.1, 0.2])
    assert [one.K for one in found] == pytest.approx([1, 2.1, 1.25])


def test_kinks_have_no_second_differentials():
    found = recursions(activation_named("relu"), 3, weight_variance=2.0, second_differentials=True)
    assert math.isnan(found[-1].R)
    assert not math.isnan(found[-1].Q)


@pytest.mark.parametrize(
    "wrong",
    [{"depth": 0}, {"weight_variance": 0.0}, {"bias_variance": -1.0}, {"first_kernel": 0.0}, {"widths": (3, 3)}],
)
def test_what_makes_no_network_is_refused(wrong: dict):
    with pytest.raises(ConfigurationError):
        recursions(activation_named("tanh"), **{"depth": 3, **wrong})


def test_an_exploding_kernel_is_named():
    with pytest.raises(ConfigurationError, match="grows beyond all numbers"):
        recursions(activation_named("relu"), 60, weight_variance=1e4)


def test_a_step_has_no_tangent_kernel():
    with pytest.raises(GaussianError, match="delta function"):
        recursions(activation_named("perceptron"), 3)
