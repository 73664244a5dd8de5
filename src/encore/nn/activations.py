"""Activations as the theory sees them: derivatives, kinks, Taylor coefficients, Gaussian moments.

Source: The Principles of Deep Learning Theory (arXiv 2106.10165), chapters 2 and 5.
"""

from __future__ import annotations

import copy
import importlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.base.errors import InputError, UnknownNameError
from encore.nn.gaussian import GaussianError, Nodes, divergence, falls_off, line_nodes
from encore.nn.kinks import Kink, probe_kinks

ElementwiseFunction = Callable[[Tensor], Tensor]


class ActivationError(InputError):
    """A function that the theory cannot take as an activation."""


@dataclass(frozen=True)
class Activation:
    """An elementwise σ(z).

    Attributes:
        name: as it is spoken of.
        function: (N,) float64 → (N,).
        kinks: where σ or a derivative up to the second jumps.
        exact: derivatives that are written down, by order; the others come from automatic differentiation.
    """

    name: str
    function: ElementwiseFunction
    kinks: tuple[Kink, ...] = ()
    exact: Mapping[int, ElementwiseFunction] = field(default_factory=dict, compare=False)

    def __call__(self, z: Tensor) -> Tensor:
        """σ(z), elementwise; any shape."""
        return self.function(z)

    @property
    def kink_positions(self) -> tuple[float, ...]:
        """Where panels of a quadrature have to end."""
        return tuple(kink.position for kink in self.kinks)

    def derivative(self, z: Tensor, order: int = 1) -> Tensor:
        """The order-th derivative where it exists (the part without delta functions), float64, z's shape.

        Raises:
            ActivationError: torch cannot differentiate the function.
        """
        if order in self.exact:
            return self.exact[order](z)
        value = z.detach().double().requires_grad_()
        result = self.function(value)
        for _ in range(order):
            if not result.requires_grad:
                return torch.zeros_like(value, requires_grad=False)
            try:
                (result,) = torch.autograd.grad(result.sum(), value, create_graph=True)
            except (RuntimeError, NotImplementedError) as error:
                raise ActivationError(
                    f"torch cannot differentiate {self.name} {order} times ({str(error).splitlines()[0]})",
                    "write it with torch's elementwise functions",
                ) from error
        return result.detach()

    @cached_property
    def taylor(self) -> tuple[float, ...] | None:
        """σ_0 … σ_5, the derivatives at 0; None if there is a kink at 0."""
        if any(kink.position == 0 for kink in self.kinks):
            return None
        zero = torch.zeros(1, dtype=torch.float64)
        values = [float(self.function(zero)), *(float(self.derivative(zero, order)) for order in range(1, 6))]
        return tuple(values)

    @cached_property
    def slopes_at_zero(self) -> tuple[float, float]:
        """The slopes (a₋, a₊) on both sides of 0."""
        for kink in self.kinks:
            if kink.position == 0:
                return kink.slopes
        slope = float(self.derivative(torch.zeros(1, dtype=torch.float64)))
        return slope, slope

    @cached_property
    def value_at_zero(self) -> float:
        """σ(0)."""
        return float(self.function(torch.zeros(1, dtype=torch.float64)))

    @cached_property
    def scale_invariant(self) -> tuple[float, float] | None:
        """(a₋, a₊) if σ(z) = a± z (5.67), else None."""
        z = torch.logspace(-3, 3, 25, dtype=torch.float64)
        low, high = self.slopes_at_zero
        same = torch.allclose(self(z), high * z, rtol=1e-12, atol=0) and torch.allclose(
            self(-z), -low * z, rtol=1e-12, atol=0
        )
        return (low, high) if same and max(abs(low), abs(high)) > 0 else None

    def at(self, variance: float) -> Averages:
        """Gaussian averages of σ and its derivatives at kernel K."""
        return Averages(self, variance)


class Averages:
    """Gaussian averages at one kernel; the activation and its derivatives are evaluated once.

    Args:
        activation: σ.
        variance: K > 0, or 0.
    """

    def __init__(self, activation: Activation, variance: float) -> None:
        self.activation, self.variance = activation, float(variance)
        self._values: dict[int, Tensor] = {}
        self._nodes = line_nodes(self.variance, activation.kink_positions)
        if variance > 0 and not self._well(self._nodes):
            for reach in (24.0, 48.0):
                self._nodes = line_nodes(self.variance, activation.kink_positions, reach=reach)
                if self._well(self._nodes):
                    break
            else:
                raise divergence(lambda z: activation(z) ** 4, self.variance, activation.kink_positions)

    def _well(self, nodes: Nodes) -> bool:
        """Whether ⟨σ⁴⟩, the strongest of the averages of the theory, is finite on these nodes."""
        return falls_off(self.activation(nodes.z) ** 4 * nodes.weights)

    @property
    def z(self) -> Tensor:
        """The nodes, (N,) float64."""
        return self._nodes.z

    @property
    def weights(self) -> Tensor:
        """Their weights, (N,) float64."""
        return self._nodes.weights

    def values(self, order: int = 0) -> Tensor:
        """σ (order 0) or its order-th derivative at the nodes, (N,) float64, without delta functions."""
        if order not in self._values:
            activation = self.activation
            found = activation(self.z) if order == 0 else activation.derivative(self.z, order)
            self._values[order] = found
        return self._values[order]

    def mean(self, values: Tensor) -> float:
        """Σ weights · values for values (N,) at the nodes."""
        return float(self.weights @ values)

    def moment(self, value: int = 0, slope: int = 0, curvature: int = 0, third: int = 0, *, z: int = 0) -> float:
        """⟨z^z σ^value σ'^slope σ''^curvature σ'''^third⟩, delta functions at kinks included.

        Where σ' jumps, σ'' has a delta function; its product with powers of σ' is understood by parts, as the
        derivative of a power (11.67, 11.70), so that ⟨σ''σ⟩ = 0 for a ReLU.

        Raises:
            GaussianError: the average diverges: two delta functions at one place.
        """
        terms = self.z**z if z else torch.ones_like(self.z)
        for order, power in enumerate((value, slope, curvature, third)):
            if power:
                terms = terms * self.values(order) ** power
        regular = self.mean(terms)
        return regular + sum(self._singular(kink, value, slope, curvature, third, z) for kink in self.activation.kinks)

    def _density(self, z: float) -> float:
        return math.exp(-(z**2) / (2 * self.variance)) / math.sqrt(math.tau * self.variance) if self.variance else 0.0

    def _singular(self, kink: Kink, value: int, slope: int, curvature: int, third: int, z: int) -> float:
        """What the delta functions at one kink add to a moment."""
        (left, right), (low, high), (bend_left, bend_right) = kink.values, kink.slopes, kink.curvatures
        weight = self._density(kink.position) * kink.position**z
        if left != right and slope + curvature + third:
            if slope != 1 or curvature or third:
                raise self._diverges(kink, "σ'")
            return weight * (right ** (value + 1) - left ** (value + 1)) / (value + 1)
        if third and bend_left != bend_right and low == high:
            if third > 1:
                raise self._diverges(kink, "σ'''")
            power = curvature + 1
            return weight * left**value * low**slope * (bend_right**power - bend_left**power) / power
        if low == high or not curvature + third:
            return 0.0
        if curvature + third > 1 or (third and slope):
            raise self._diverges(kink, "σ''")
        if curvature:
            return weight * left**value * (high ** (slope + 1) - low ** (slope + 1)) / (slope + 1)
        return self._third_at(kink, value, z)

    def _third_at(self, kink: Kink, value: int, z: int) -> float:
        """The singular part of ⟨z^z σ^value σ'''⟩: the jump of σ'', and −(z^z σ^value φ)' times the jump of σ'."""
        x, sigma = kink.position, kink.values[0]
        low, high = kink.slopes
        jump, density = high - low, self._density(kink.position)
        bend = x**z * sigma**value * (kink.curvatures[1] - kink.curvatures[0])
        change = -(x ** (z + 1)) * sigma**value / self.variance * jump
        if z:
            change += z * x ** (z - 1) * sigma**value * jump
        if value:  # δ times σ' with a jump: half the jump of σ'²
            change += value * x**z * sigma ** (value - 1) * (high**2 - low**2) / 2
        return density * (bend - change)

    def _diverges(self, kink: Kink, what: str) -> GaussianError:
        return GaussianError(
            f"the average over powers of {what} of {self.activation.name} diverges: it has a delta function at "
            f"z = {kink.position:g}",
            "use a smooth activation for this quantity",
        )


# names

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _perceptron(z: Tensor) -> Tensor:
    return torch.where(z >= 0, 1.0, -1.0).to(z.dtype)


_FUNCTIONS: dict[str, ElementwiseFunction] = {
    "linear": lambda z: 1.0 * z,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "gelu": F.gelu,
    "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
    "swish": F.silu,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "perceptron": _perceptron,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "mish": F.mish,
    "hardtanh": F.hardtanh,
    # torch cannot differentiate its own hardswish and hardsigmoid twice
    "hardswish": lambda z: z * torch.clamp(z / 6 + 0.5, 0, 1),
    "hardsigmoid": lambda z: torch.clamp(z / 6 + 0.5, 0, 1),
    "relu6": F.relu6,
    "log_sigmoid": F.logsigmoid,
    "tanhshrink": F.tanhshrink,
    "arctan": torch.arctan,
}

_ALIASES = {
    "identity": "linear",
    "silu": "swish",
    "leakyrelu": "leaky_relu",
    "sine": "sin",
    "sign": "perceptron",
    "step": "perceptron",
    "logsigmoid": "log_sigmoid",
    "atan": "arctan",
}

ACTIVATIONS: tuple[str, ...] = tuple(_FUNCTIONS)
"""The names there are, beside `monomial_2`, `monomial_3`, … and `leaky_relu_0.1`."""

_known: dict[str, Activation] = {}


def activation_named(name: str) -> Activation:
    """An activation by name, or `module:function` for one that can be imported.

    Raises:
        UnknownNameError: there is no such name.
        ActivationError: what is imported is no activation.
    """
    if ":" in name:
        return _imported(name)
    key = name.strip().lower().replace("-", "_")
    key = _ALIASES.get(key, key)
    if key in _known:
        return _known[key]
    if key in _FUNCTIONS:
        found = Activation(key, _FUNCTIONS[key], probe_kinks(_FUNCTIONS[key], key))
    elif power := re.fullmatch(r"(?:monomial_|z\^)([1-9]\d?)", key):
        exponent = int(power[1])
        found = Activation(f"monomial_{exponent}", lambda z: z**exponent)
    elif leak := re.fullmatch(r"leaky_relu_(-?\d*\.?\d+)", key):
        slope = float(leak[1])
        found = Activation(key, lambda z: F.leaky_relu(z, slope), (Kink(0.0, (0, 0), (slope, 1.0), (0, 0)),))
    else:
        raise UnknownNameError("activation", name, (*ACTIVATIONS, *_ALIASES, "monomial_3", "leaky_relu_0.1"))
    _known[key] = found
    return found


def _imported(name: str) -> Activation:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
        if isinstance(function, type) and issubclass(function, nn.Module):
            function = function()
    except Exception as error:  # whatever the user's own file raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ActivationError(f"'{name}' cannot be imported ({reason})", "write module:function") from error
    return as_activation(function, name)


def as_activation(activation: str | Activation | ElementwiseFunction | nn.Module, name: str = "") -> Activation:
    """An activation from a name, an `nn.Module` or any elementwise function of torch; kinks are found by looking.

    Raises:
        UnknownNameError: a name that there is not.
        ActivationError: the function is not elementwise, not finite at 0, or not torch's.
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str):
        return activation_named(activation)
    known = _written_here(activation)
    if known is not None:
        return known
    if isinstance(activation, nn.Module):
        if any(True for _ in activation.parameters()):
            activation = _frozen(activation)
        name = name or type(activation).__name__.lower()
    name = name or getattr(activation, "__name__", type(activation).__name__)
    function = _on_copies(activation)
    _check(function, name)
    return Activation(name, function, probe_kinks(function, name))


def _written_here(function: ElementwiseFunction | nn.Module) -> Activation | None:
    """What torch has but cannot differentiate twice."""
    if isinstance(function, nn.Hardswish) or function is F.hardswish:
        return activation_named("hardswish")
    if isinstance(function, nn.Hardsigmoid) or function is F.hardsigmoid:
        return activation_named("hardsigmoid")
    return None


def _frozen(module: nn.Module) -> nn.Module:
    """A copy in float64 whose parameters (PReLU's slope) are constants."""
    copied = copy.deepcopy(module).double().eval()
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    return copied


def _on_copies(function: ElementwiseFunction) -> ElementwiseFunction:
    """The function; on copies, if it is one that changes what it is given, as with `inplace=True`."""
    z = torch.linspace(-2, 2, 6, dtype=torch.float64)
    before = z.clone()
    try:
        function(z)
    except Exception:  # noqa: BLE001 - `_check` says what is wrong
        return function
    return function if torch.equal(z, before) else lambda z: function(z.clone())


def is_elementwise(function: ElementwiseFunction | nn.Module) -> bool:
    """Whether torch can take a function as an activation: elementwise, deterministic, finite at 0."""
    try:
        _check(_on_copies(function), "")
    except ActivationError:
        return False
    return True


def _check(function: Any, name: str) -> None:
    """Refuse what is no elementwise, deterministic function of torch that is finite at 0."""
    remedy = "give an elementwise function of torch tensors, such as torch.tanh"
    z = torch.tensor([-2.0, -0.7, 0.0, 0.3, 1.1, 2.5], dtype=torch.float64)
    try:
        together = function(z)
        turned = function(z.flip(0))
        alone = torch.stack([torch.as_tensor(function(one.reshape(1))) for one in z]).reshape(-1)
        function(z.clone().requires_grad_().clone())  # NumPy's functions end here
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ActivationError(f"{name} cannot be evaluated on a vector ({reason})", remedy) from error
    if not isinstance(together, Tensor) or together.shape != z.shape:
        raise ActivationError(f"{name} does not return one number for each", remedy)
    if not bool(torch.isfinite(function(torch.zeros(1, dtype=torch.float64))).all()):
        raise ActivationError(
            f"{name} is not finite at 0, where every preactivation begins", "give an activation that is finite at 0"
        )
    agree = torch.allclose(together, turned.flip(0), rtol=1e-9, equal_nan=True) and torch.allclose(
        together, alone.to(together.dtype), rtol=1e-9, equal_nan=True
    )
    if not agree:
        raise ActivationError(f"{name} is not elementwise: a value depends on its neighbours or on chance", remedy)
