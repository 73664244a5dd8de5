"""Learning rates for each layer by the equivalence principle (§9.4), as the recursions take them.

`encore.nn.critical_init.learning_rates` sets them on a module.
"""

from __future__ import annotations

from collections.abc import Callable

from encore.base.errors import ConfigurationError
from encore.nn.activations import Activation
from encore.nn.critical_init import layer_rates
from encore.nn.criticality import critical_point


def equivalent_rates(
    activation: Activation, depth: int, bias_rate: float = 1.0, weight_rate: float = 1.0
) -> Callable[[int], tuple[float, float]]:
    """(λ_b, λ_W) of layer ℓ such that all layers, biases and weights count alike in the tangent kernel.

    Args:
        activation: of one of the two classes.
        depth: L.
        bias_rate, weight_rate: λ̃_b and λ̃_W (Eqs. 9.94–9.95). The step of a weight is λ_W/n_{ℓ−1}.

    Raises:
        CriticalityError: the activation has no critical point, or is half-stable, where the book gives no rates.
        ConfigurationError: `depth` is below 1.
    """
    if depth < 1:
        raise ConfigurationError(f"a network of {depth} layers has no rates", "give a depth from 1 on")
    point = critical_point(activation)
    layer_rates(point, 1, depth)  # refuses at once what has no rates

    def rates(layer: int) -> tuple[float, float]:
        bias, weight = layer_rates(point, layer, depth)
        return bias_rate * bias, weight_rate * weight

    return rates
