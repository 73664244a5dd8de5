"""The recursions for several inputs at once, to first order in one over the width (Eqs. 4.90, 4.115, 8.77–8.97, 11.49–11.52).

Raised indices are contractions with K⁻¹. Here they are taken through K = L Lᵀ and Hermite polynomials of independent
normal numbers u with z = L u, on the directions that K has; so equal or dependent inputs need no special care, and with
all inputs equal every tensor is that of one input.

Indices name samples. V[1,2,3,4] is V_(12)(34); D[1,2,3,4] is D_1234; F[1,3,2,4], B[1,3,2,4] are F_1324, B_1324; A[1,2,3,4]
is A_(12)(34); P[0,1,2,3], Q[0,1,2,3].
"""  # noqa: E501

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from encore.base.errors import ConfigurationError
from encore.nn.activations import Activation
from encore.nn.gaussian import sample_nodes
from encore.papers.pdlt.recursions import Rates, uniform_rates

MOST_SAMPLES = 4

_POINTS = {1: 160, 2: 96, 3: 32, 4: 14}
"""Nodes between two kinks along each direction that the kernel has; of four directions about four digits are right."""


@dataclass(frozen=True)
class Tensors:
    """All tensors of one layer over S samples, float64.

    Attributes:
        layer: ℓ = 1, 2, …
        K, theta, G1: (S, S) kernel, frozen neural tangent kernel, first correction of the metric.
        V, D, F, A, B, P, Q: (S, S, S, S), indices as the module says. P and Q are NaN where σ has kinks.
    """

    layer: int
    K: Tensor
    theta: Tensor
    G1: Tensor
    V: Tensor
    D: Tensor
    F: Tensor
    A: Tensor
    B: Tensor
    P: Tensor
    Q: Tensor


class _Moments:
    """Averages of products over samples at one kernel."""

    def __init__(self, activation: Activation, K: Tensor) -> None:
        lengths, directions = torch.linalg.eigh(K)
        kept = lengths > 1e-10 * lengths.max()
        z, self._weights = sample_nodes(K.numpy(), activation.kink_positions, _POINTS[int(kept.sum())])
        self._samples = z.shape[1]
        self.value = activation(z)
        self.slope = activation.derivative(z)
        self.smooth = all(kink.slopes[0] == kink.slopes[1] for kink in activation.kinks)
        self.bend = activation.derivative(z, 2) if self.smooth else torch.full_like(z, torch.nan)
        # z = L u with independent u along the principal directions that K has; raised indices go through L⁺
        self._raise = (directions[:, kept] / lengths[kept].sqrt()).mT  # (R, S)
        u = z @ directions[:, kept] / lengths[kept].sqrt()
        self._u = u
        eye = torch.eye(u.shape[1], dtype=u.dtype)
        self._second = (u[:, :, None] * u[:, None, :] - eye).flatten(1)  # (N, R²)

    def pairs(self, one: Tensor, other: Tensor) -> Tensor:
        """Products of two functions of samples, (N, S, S)."""
        return one[:, :, None] * other[:, None, :]

    def mean(self, pairs: Tensor) -> Tensor:
        """⟨f_1g_2⟩ of `pairs` (N, S, S), (S, S)."""
        return torch.tensordot(self._weights, pairs, dims=([0], [0]))

    def product(self, pairs: Tensor, others: Tensor) -> Tensor:
        """⟨f_1g_2h_3k_4⟩, (S, S, S, S)."""
        S = self._samples
        return ((pairs.flatten(1) * self._weights[:, None]).mT @ others.flatten(1)).view(S, S, S, S)

    def with_second(self, pairs: Tensor) -> Tensor:
        """⟨f_1g_2 [zz]^{γ1γ2}⟩ with [zz] = zz − K and both indices raised, (S, S, S, S)."""
        S, R = self._samples, len(self._raise)
        found = ((pairs.flatten(1) * self._weights[:, None]).mT @ self._second).view(S, S, R, R)
        return torch.einsum("ijab,ac,bd->ijcd", found, self._raise, self._raise)

    def with_first(self, pairs: Tensor) -> Tensor:
        """⟨f_1g_2 z^γ⟩ with the index raised, (S, S, S)."""
        S = self._samples
        found = ((pairs.flatten(1) * self._weights[:, None]).mT @ self._u).view(S, S, -1)
        return found @ self._raise

    def with_fourth(self, pairs: Tensor, V: Tensor) -> Tensor:
        """Σ V_{γ1γ2γ3γ4} ⟨f_1g_2 He⁴^{γ1γ2γ3γ4}⟩: both last terms of (4.115) together, (S, S)."""
        inner = torch.einsum("ijkl,ai,bj,ck,dl->abcd", V, *[self._raise] * 4)
        u = self._u
        contracted = torch.einsum("abcd,na,nb,nc,nd->n", inner, u, u, u, u) if u.shape[1] else u.sum(1)
        half = inner + inner.permute(2, 3, 0, 1)
        crossed = inner.permute(0, 2, 1, 3)
        twos = (
            torch.einsum("aacd->cd", half)
            + torch.einsum("aacd->cd", crossed + crossed.permute(2, 3, 0, 1))
            + torch.einsum("abca->bc", inner)
            + torch.einsum("abca->bc", inner.permute(1, 0, 3, 2))
        )
        constant = torch.einsum("aabb->", inner) + torch.einsum("abab->", inner) + torch.einsum("abba->", inner)
        hermite = contracted - torch.einsum("ab,na,nb->n", twos, u, u) + constant
        return torch.tensordot(self._weights * hermite, pairs, dims=([0], [0]))


def multi_input_recursions(
    activation: Activation,
    gram: ArrayLike,
    depth: int,
    *,
    bias_variance: float = 0.0,
    weight_variance: float = 1.0,
    rates: Rates = uniform_rates,
    widths: tuple[int, ...] | None = None,
) -> list[Tensors]:
    """Follow all tensors over S samples from the first layer to layer `depth`.

    Args:
        activation: σ. With kinks the nodes are cut at them; P and Q are then NaN.
        gram: (S, S) x_α·x_β/n_0 of 1 to 4 inputs.
        depth: L ≥ 1.
        bias_variance, weight_variance: C_b and C_W.
        rates: λ_b and λ_W of each layer.
        widths: n_1 … n_L; equal hidden widths by default.

    Raises:
        ConfigurationError: more than four samples, or widths that do not fit.
        GaussianError: `gram` is no covariance.
    """
    inner = torch.as_tensor(np.atleast_2d(np.asarray(gram, dtype=np.float64)))
    if inner.dim() != 2 or inner.shape[0] != inner.shape[1] or not 1 <= len(inner) <= MOST_SAMPLES:
        raise ConfigurationError(
            f"inner products of shape {tuple(inner.shape)} are not those of 1 to {MOST_SAMPLES} inputs",
            "give x·x'/n_0 of up to four inputs as a square matrix",
        )
    if depth < 1 or (widths is not None and len(widths) != depth):
        raise ConfigurationError(f"depth {depth} and widths {widths} do not go together", "give one width per layer")
    S = len(inner)
    none = torch.zeros(S, S, S, S, dtype=torch.float64)
    bias_rate, weight_rate = rates(1)
    kernel = bias_variance + weight_variance * inner
    layers = [Tensors(1, kernel, bias_rate + weight_rate * inner, torch.zeros_like(inner), *[none] * 7)]
    for layer in range(1, depth):
        ratio = 1.0 if widths is None or layer == 1 else widths[layer - 1] / widths[layer - 2]
        layers.append(
            _next(
                layers[-1], _Moments(activation, layers[-1].K), bias_variance, weight_variance, rates(layer + 1), ratio
            )
        )
    return layers


def _next(now: Tensors, at: _Moments, C_b: float, C_W: float, rates: tuple[float, float], q: float) -> Tensors:
    """Layer ℓ + 1 from layer ℓ."""
    bias_rate, rate = rates
    H, einsum = now.theta, torch.einsum
    values, slopes = at.pairs(at.value, at.value), at.pairs(at.slope, at.slope)
    ss, dd = at.mean(values), at.mean(slopes)
    ssX, ddX = at.with_second(values), at.with_second(slopes)
    ssss, ssdd, dddd = at.product(values, values), at.product(values, slopes), at.product(slopes, slopes)
    # Ω = λ_W σσ + C_W Ĥ σ'σ' (Eq. 8.74)
    omega, omegaX = rate * ss + C_W * H * dd, rate * ssX + C_W * H[:, :, None, None] * ddX
    outer = "ab,cd->abcd"
    V = C_W**2 * (ssss - einsum(outer, ss, ss) + q / 4 * einsum("abij,ijkl,cdkl->abcd", ssX, now.V, ssX))  # Eq. 4.90
    G1 = q * C_W * (einsum("abij,ij->ab", ssX, now.G1) / 2 + at.with_fourth(values, now.V) / 8)  # Eq. 4.115
    D = (  # Eq. 8.77
        C_W * (rate * ssss + C_W * einsum("abcd,cd->abcd", ssdd, H) - einsum(outer, ss, omega))
        + q * C_W / 4 * einsum("abij,ijkl,cdkl->abcd", ssX, now.V, omegaX)
        + q * C_W**2 / 2 * einsum("abij,ijcd,cd->abcd", ssX, now.D, dd)
    )
    sd = at.with_first(at.pairs(at.value, at.slope))
    # written with sample indices in the order 1 3 2 4
    F = C_W**2 * (  # Eq. 8.79
        einsum("abcd,cd->acbd", ssdd, H) + q * einsum("aci,bdj,icjd->acbd", sd, sd, now.F)
    )
    B = C_W**2 * (  # Eq. 8.89
        einsum("abcd,ab,cd->acbd", dddd, H, H) + q * einsum("ac,bd,acbd->acbd", dd, dd, now.B)
    )
    # ⟨Ω12 Ω34⟩ from its four products
    second = (
        rate**2 * ssss
        + rate * C_W * (einsum("abcd,cd->abcd", ssdd, H) + einsum("cdab,ab->abcd", ssdd, H))
        + C_W**2 * einsum("abcd,ab,cd->abcd", dddd, H, H)
    )
    cross = einsum("abij,ijcd,cd->abcd", omegaX, now.D, dd)
    A = (  # Eq. 8.97
        second
        - einsum(outer, omega, omega)
        + q / 4 * einsum("abij,ijkl,cdkl->abcd", omegaX, now.V, omegaX)
        + q * C_W**2 * einsum("ab,cd,abcd->abcd", dd, dd, now.A)
        + q * C_W / 2 * (cross + cross.permute(2, 3, 0, 1))
    )
    P, Q = _differentials(now, at, F, C_W, rate, q)
    return Tensors(now.layer + 1, C_b + C_W * ss, bias_rate + rate * ss + C_W * dd * H, G1, V, D, F, A, B, P, Q)


def _differentials(now: Tensors, at: _Moments, F: Tensor, C_W: float, rate: float, q: float) -> tuple[Tensor, Tensor]:
    """P and Q of layer ℓ + 1 (Eqs. 11.49, 11.52); `F` is that of layer ℓ + 1."""
    if not at.smooth:
        return torch.full_like(F, torch.nan), torch.full_like(F, torch.nan)
    H, einsum = now.theta, torch.einsum
    bend_value = at.pairs(at.bend, at.value)
    bv, dd = at.mean(bend_value), at.mean(at.pairs(at.slope, at.slope))
    # ⟨σ''_0 σ'_1 σ'_2 σ_3⟩, indices 0 1 2 3
    source = einsum("adbc->abcd", at.product(bend_value, at.pairs(at.slope, at.slope)))
    source = C_W**2 * einsum("abcd,ab,ac->abcd", source, H, H)
    carried = (
        einsum("ad,abca->abcd", bv, now.P) + einsum("ad,abcd->abcd", dd, now.P) + einsum("ad,aabc->abcd", bv, now.B)
    )
    P = source + q * C_W**2 * einsum("bc,abcd->abcd", dd, carried)
    first = at.with_first(at.pairs(at.bend, at.slope))  # σ''_0 σ'_1 z
    last = at.with_first(at.pairs(at.slope, at.value))  # σ'_2 σ_3 z
    within = einsum("cd,abcc->abcd", bv, now.Q) + einsum("cd,abcd->abcd", dd, now.Q)
    Q = (
        source
        + rate / C_W * einsum("badc->abcd", F)
        + q * C_W**2 * einsum("ab,abcd->abcd", dd, within)
        + q * C_W**2 * einsum("ab,abi,cdj,iajc->abcd", H, first, last, now.F)
    )
    return P, Q


def names() -> list[str]:
    """The tensors there are."""
    return [field.name for field in fields(Tensors) if field.name != "layer"]
