"""How deep a network of a given width should be: the cut-off r = L/n and the information in a layer (Appendix A)."""

from __future__ import annotations

import math

from encore.base.errors import ConfigurationError
from encore.nn.activations import Activation
from encore.nn.criticality import critical_point

TANH_GROWTH = 2 / 3
"""ν of smooth activations of the class K* = 0: the normalised four-point vertex is ν·ℓ/n (Eq. 5.131)."""


def scale_invariant_growth(negative_slope: float, positive_slope: float) -> float:
    """ν = 3A_4/A_2² − 1 of σ = a± z (Eq. 5.120): 2 for linear, 5 for ReLU.

    Raises:
        ConfigurationError: both slopes are zero.
    """
    second = (negative_slope**2 + positive_slope**2) / 2
    if second == 0:
        raise ConfigurationError("an activation with slopes 0 and 0 is constant", "give a slope other than 0")
    return 3 * ((negative_slope**4 + positive_slope**4) / 2) / second**2 - 1


def growth_of(activation: Activation) -> float:
    """ν at the critical point: the normalised four-point vertex V/(nK²) grows as ν·ℓ/n.

    Scale-invariant: (5.120). Class K* = 0: a third of that of the slopes at 0, which is 2/3 where σ is smooth there
    (5.131); the third follows from (5.109) for any power of K that bends the kernel. Half-stable: the source of (5.109)
    over K*², since χ∥ = 1.

    Raises:
        CriticalityError: the activation has no critical point.
    """
    point = critical_point(activation)
    if point.universality == "scale-invariant":
        return scale_invariant_growth(*activation.slopes_at_zero)
    if point.universality == "K*=0":
        return scale_invariant_growth(*activation.slopes_at_zero) / 3
    at = activation.at(point.kernel)
    return point.weight_variance**2 * (at.moment(4) - at.moment(2) ** 2) / point.kernel**2


def entropy(neurons: int, kernel: float, normalised_vertex: float) -> float:
    """Of `neurons` preactivations of one layer on one input, in nats, to third order in V/(nG²) (Eq. A.66).

    Args:
        neurons: m ≥ 1.
        kernel: G > 0.
        normalised_vertex: V/(n G²), small.
    """
    m, v = neurons, normalised_vertex
    gaussian = m / 2 * math.log(math.tau * math.e * kernel)
    return gaussian - (m**2 + 2 * m) / 16 * v**2 + (m**3 + 10 * m**2 + 16 * m) / 48 * v**3


def mutual_information(first: int, second: int, normalised_vertex: float) -> float:
    """Between m_1 and m_2 neurons of one layer, in nats, to third order (Eq. A.67): S(m_1) + S(m_2) − S(m_1 + m_2)."""
    parts = (entropy(first, 1.0, normalised_vertex), entropy(second, 1.0, normalised_vertex))
    return sum(parts) - entropy(first + second, 1.0, normalised_vertex)


def optimal_ratio(growth: float, outputs: int) -> float:
    """r* = 4/((20 + 3n_L)ν), the depth over width at which halves of the output layer tell most (Eq. A.73).

    An estimate from an expansion that is cut at third order: for νr* of about 0.17 and less; not to be read to three
    digits.

    Args:
        growth: ν > 0 of the activation.
        outputs: n_L, the width of the output layer.

    Raises:
        ConfigurationError: an argument out of range.
    """
    if growth <= 0 or outputs < 1:
        raise ConfigurationError(
            f"ν = {growth} and {outputs} outputs give no optimal ratio", "give ν > 0 and at least one output"
        )
    return 4 / ((20 + 3 * outputs) * growth)


def most_information(outputs: int) -> float:
    """What halves of the output layer tell of each other at r*, in nats (Eq. A.74)."""
    return (outputs / (20 + 3 * outputs)) ** 2 / 6
