"""The book's layer-to-layer recursions on one input, to first order in one over the width.

    K, Θ             the kernel and the frozen neural tangent kernel (Eqs. 4.114, 9.6)
    V, G1            the four-point vertex and the first correction of the metric (Eqs. 5.109–5.111)
    D, F, A, B       cross-correlation of signals and tangent kernel, and its variance (Eqs. 9.13–9.16)
    P, Q             the differential of the tangent kernel, with signals (Eqs. 11.55–11.56)
    R, S, T, U       means of its second differentials (Eqs. ∞.14–∞.17)

A tensor of layer ℓ has 1/n_{ℓ−1} pulled out: the four-point function of different neurons is V/n_{ℓ−1}. Where
neighbouring widths differ, what comes from the layer before is multiplied by n_ℓ/n_{ℓ−1}.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from encore.base.errors import ConfigurationError
from encore.nn.activations import Activation
from encore.nn.gaussian import GaussianError

Rates = Callable[[int], tuple[float, float]]
"""Learning-rate factors (λ_b, λ_W) of layer ℓ = 1, 2, … (Eq. 8.6)."""


def uniform_rates(layer: int) -> tuple[float, float]:
    """λ_b = λ_W = 1 in every layer."""
    return 1.0, 1.0


@dataclass(frozen=True)
class Layer:
    """All tensors of one layer, on one input. R to U are NaN where σ has kinks: their averages diverge.

    Attributes:
        layer: ℓ = 1, 2, …
        K, theta, V, G1, D, F, A, B, P, Q, R, S, T, U: see the module.
        parallel, perpendicular: the susceptibilities χ∥ and χ⊥ that lead to the next layer (Eqs. 5.50–5.51).
    """

    layer: int
    K: float
    theta: float
    V: float = 0.0
    G1: float = 0.0
    D: float = 0.0
    F: float = 0.0
    A: float = 0.0
    B: float = 0.0
    P: float = 0.0
    Q: float = 0.0
    R: float = 0.0
    S: float = 0.0
    T: float = 0.0
    U: float = 0.0
    parallel: float = math.nan
    perpendicular: float = math.nan

    def normalised_vertex(self, fan_in: int) -> float:
        """V/(n_{ℓ−1} K²): the four-point function of different neurons over the squared kernel."""
        return self.V / (fan_in * self.K**2)


@dataclass(frozen=True)
class Moments:
    """Gaussian averages at one kernel that the recursions are made of, without C_W.

    Attributes:
        ss, ssss, dd, dddd, ssdd: ⟨σ²⟩, ⟨σ⁴⟩, ⟨σ'²⟩, ⟨σ'⁴⟩, ⟨σ²σ'²⟩.
        slope: g'(K) = ⟨σ²(z² − K)⟩/2K² (Eq. 5.50).
        bend: ⟨σ'²(z² − K)⟩/4K², which is h/C_W (Eq. 5.52).
        fourth: ⟨σ²[(z²/K)² − 6z²/K + 3]⟩, which is j/C_W (Eq. 5.111).
        curved, curved_dd: ⟨σσ''⟩ and ⟨σσ'²σ''⟩, by parts at kinks.
    """

    ss: float
    ssss: float
    dd: float
    dddd: float
    ssdd: float
    slope: float
    bend: float
    fourth: float
    curved: float
    curved_dd: float


@dataclass(frozen=True)
class SmoothMoments:
    """Further averages of smooth activations: ⟨σ'''σ'⟩, ⟨σ''²⟩, ⟨σ''²σ'²⟩, ⟨σ'''σ'³⟩, ⟨zσ'σ''⟩, ⟨zσσ'⟩."""

    third_first: float
    second_second: float
    second_second_dd: float
    third_ddd: float
    z_second_first: float
    z_value_first: float


def moments(activation: Activation, K: float) -> Moments:
    """The averages of `activation` at kernel K > 0.

    Raises:
        GaussianError: an average diverges, such as ⟨σ'²⟩ of an activation that jumps.
    """
    at = activation.at(K)
    ss, dd, zzss = at.moment(2), at.moment(0, 2), at.moment(2, z=2)
    return Moments(
        ss=ss,
        ssss=at.moment(4),
        dd=dd,
        dddd=at.moment(0, 4),
        ssdd=at.moment(2, 2),
        slope=(zzss - K * ss) / (2 * K**2),
        bend=(at.moment(0, 2, z=2) - K * dd) / (4 * K**2),
        fourth=at.moment(2, z=4) / K**2 - 6 * zzss / K + 3 * ss,
        curved=at.moment(1, 0, 1),
        curved_dd=at.moment(1, 2, 1),
    )


def smooth_moments(activation: Activation, K: float) -> SmoothMoments | None:
    """The averages with two and three derivatives at kernel K; None where they diverge."""
    if any(kink.slopes[0] != kink.slopes[1] or kink.values[0] != kink.values[1] for kink in activation.kinks):
        return None
    at = activation.at(K)
    try:
        return SmoothMoments(
            third_first=at.moment(0, 1, 0, 1),
            second_second=at.moment(0, 0, 2),
            second_second_dd=at.moment(0, 2, 2),
            third_ddd=at.moment(0, 3, 0, 1),
            z_second_first=at.moment(0, 1, 1, z=1),
            z_value_first=at.moment(1, 1, z=1),
        )
    except GaussianError:
        return None


def recursions(
    activation: Activation,
    depth: int,
    *,
    bias_variance: float | Sequence[float] = 0.0,
    weight_variance: float | Sequence[float] = 1.0,
    first_kernel: float = 1.0,
    rates: Rates = uniform_rates,
    widths: Sequence[int] | None = None,
    second_differentials: bool = False,
) -> list[Layer]:
    """Follow all tensors from the first layer to layer `depth`.

    Args:
        activation: σ.
        depth: L ≥ 1, counting the output layer.
        bias_variance, weight_variance: C_b ≥ 0 and C_W > 0, of all layers or one for each.
        first_kernel: K⁽¹⁾ = C_b + C_W·x·x/n_0 > C_b of the input.
        rates: λ_b and λ_W of each layer.
        widths: n_1 … n_L; equal hidden widths by default.
        second_differentials: whether R, S, T, U are wanted; otherwise they are NaN beyond the first layer.

    Returns:
        One `Layer` per layer, all float64.

    Raises:
        ConfigurationError: an argument out of range, or a kernel that grows beyond what numbers hold or vanishes.
        GaussianError: an average that the theory needs diverges.
    """
    C_b, C_W = _of_each_layer(bias_variance, depth), _of_each_layer(weight_variance, depth)
    if depth < 1 or min(C_W) <= 0 or min(C_b) < 0 or first_kernel <= C_b[0]:
        raise ConfigurationError(
            f"depth {depth}, C_b = {C_b[0]:g}, C_W = {C_W[0]:g}, first kernel {first_kernel:g} do not go together",
            "give a depth from 1 on, C_b ≥ 0, C_W > 0 and a first kernel above C_b",
        )
    if len(C_b) != depth or len(C_W) != depth or (widths is not None and len(widths) != depth):
        raise ConfigurationError(f"widths or variances for other than {depth} layers", "give one value per layer")
    bias_rate, weight_rate = rates(1)
    squared_input = (first_kernel - C_b[0]) / C_W[0]  # x·x/n_0
    layers = [Layer(1, first_kernel, bias_rate + weight_rate * squared_input)]
    while True:
        now = layers[-1]
        if not 1e-100 < now.K < 1e60:
            change = "vanishes" if now.K < 1 else "grows beyond all numbers"
            raise ConfigurationError(
                f"the kernel of {activation.name} {change} at layer {now.layer} with C_W = {C_W[now.layer - 1]:g}",
                "choose fewer layers or critical variances",
            )
        found = moments(activation, now.K)
        after = C_W[min(now.layer, depth - 1)]
        now = replace(now, parallel=after * found.slope, perpendicular=after * found.dd)
        layers[-1] = now
        if now.layer == depth:
            return layers
        step = _Step(
            now,
            found,
            smooth_moments(activation, now.K) if second_differentials else None,
            after,
            *rates(now.layer + 1),
            ratio=1.0 if widths is None or now.layer == 1 else widths[now.layer - 1] / widths[now.layer - 2],
        )
        layers.append(step.next_layer(C_b[now.layer]))


def _of_each_layer(variance: float | Sequence[float], depth: int) -> Sequence[float]:
    return [float(variance)] * max(depth, 1) if isinstance(variance, (int, float)) else variance


@dataclass(frozen=True)
class _Step:
    """From layer ℓ to ℓ + 1; `ratio` is n_ℓ/n_{ℓ−1}, and λ_b, λ_W are those of layer ℓ + 1."""

    now: Layer
    found: Moments
    smooth: SmoothMoments | None
    C_W: float
    bias_rate: float
    weight_rate: float
    ratio: float

    def next_layer(self, C_b: float) -> Layer:
        """All tensors of the next layer."""
        now, found, C_W, q = self.now, self.found, self.C_W, self.ratio
        K, theta, par, perp = now.K, now.theta, now.parallel, now.perpendicular
        h, rho = C_W * found.bend, self.weight_rate / C_W
        V = C_W**2 * (found.ssss - found.ss**2) + q * par**2 * now.V  # Eq. 5.109
        G1 = q * (par * now.G1 + C_W * found.fourth * now.V / (8 * K**2))  # Eq. 5.110
        mixed = C_W**2 * found.ssdd - C_W * found.ss * perp + 2 * h * par * q * now.V  # in D and A
        D = q * perp * par * now.D + rho * V + theta * mixed  # Eq. 9.13
        F = q * par**2 * now.F + C_W**2 * found.ssdd * theta  # Eq. 9.14
        B = q * perp**2 * now.B + C_W**2 * found.dddd * theta**2  # Eq. 9.15
        A = (  # Eq. 9.16
            q * perp**2 * now.A
            + rho**2 * V
            + 2 * rho * theta * mixed
            + 2 * rho * perp * par * q * now.D
            + 4 * h * perp * theta * q * now.D
            + theta**2 * (C_W**2 * found.dddd - perp**2 + 4 * h**2 * q * now.V)
        )
        curved = C_W**2 * found.curved_dd * theta**2
        mixing = C_W * perp * found.curved
        P = curved + q * (mixing * now.B + (mixing + perp**2) * now.P)  # Eq. 11.55
        Q = curved + rho * F + q * (2 * h * par * theta * now.F + (mixing + perp**2) * now.Q)  # Eq. 11.56
        R, S, T, U = self._second_differentials()
        kernel, frozen = C_b + C_W * found.ss, self.bias_rate + self.weight_rate * found.ss + perp * theta
        return Layer(now.layer + 1, kernel, frozen, V, G1, D, F, A, B, P, Q, R, S, T, U)

    def _second_differentials(self) -> tuple[float, float, float, float]:
        """R, S, T, U of the next layer (Eqs. ∞.14–∞.17)."""
        now, found, smooth, C_W, rate, q = self.now, self.found, self.smooth, self.C_W, self.weight_rate, self.ratio
        if smooth is None:
            return math.nan, math.nan, math.nan, math.nan
        K, theta, perp = now.K, now.theta, now.perpendicular
        curvature = rate * found.dd + C_W * theta * smooth.second_second
        change = rate * found.curved + C_W * theta * smooth.third_first
        tilt = rate * smooth.z_value_first + C_W * theta * smooth.z_second_first
        cubic = C_W**2 * smooth.second_second_dd * theta**3
        R = (
            rate * C_W * found.curved_dd * theta**2
            + C_W**2 * smooth.third_ddd * theta**3
            + q * perp * (perp * now.R + change * (now.B + now.P) + curvature * now.P)
        )
        S = C_W * rate * found.dddd * theta**2 + cubic + q * perp * (perp * now.S + curvature * now.B)
        T = (
            2 * C_W * rate * found.curved_dd * theta**2
            + cubic
            + rate**2 * found.ssdd * theta
            + q * (perp**2 * now.T + tilt**2 * now.F / K**2 + 2 * perp * (change + curvature) * now.Q)
        )
        return R, S, T, cubic + q * perp**2 * now.U
