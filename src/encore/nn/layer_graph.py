"""What feeds each linear or convolutional layer of a network: read off its forward pass by torch.fx.

The walk follows preactivations through the network. It knows layers, elementwise activations, shapes, pooling and sums;
whatever else it meets is named, and nothing is guessed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from encore.nn.activations import Activation, ActivationError, as_activation
from encore.nn.layer_inventory import LAYERS, Skipped, inventory, is_skipped

_TRANSPARENT_MODULES = (
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
)

_NOTED_MODULES = (
    nn.modules.dropout._DropoutNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.Upsample,
)
"""Modules that let signals through and change kernels by a factor that the theory does not give."""

_TRANSPARENT_METHODS = (
    "flatten view reshape permute transpose contiguous squeeze unsqueeze movedim unflatten float double to clone detach"
)
_TRANSPARENT_FUNCTIONS: frozenset[Any] = frozenset(
    {
        torch.flatten,
        torch.reshape,
        torch.permute,
        torch.transpose,
        torch.squeeze,
        torch.unsqueeze,
        torch.movedim,
        operator.getitem,
    }
)
_NOTED_FUNCTIONS: frozenset[Any] = frozenset(
    {
        F.dropout,
        F.max_pool1d,
        F.max_pool2d,
        F.max_pool3d,
        F.avg_pool1d,
        F.avg_pool2d,
        F.avg_pool3d,
        F.adaptive_avg_pool1d,
        F.adaptive_avg_pool2d,
        F.adaptive_max_pool2d,
        F.interpolate,
        torch.max_pool2d,
        torch.avg_pool1d,
        torch.mean,
        "mean",
    }
)
_ACTIVATION_METHODS = "relu relu_ tanh tanh_ sigmoid sigmoid_ sin sin_ erf arctan atan"
_ACTIVATION_FUNCTIONS = (
    "relu relu6 leaky_relu tanh sigmoid gelu silu elu selu celu mish softplus softsign hardtanh hardswish hardsigmoid "
    "logsigmoid log_sigmoid tanhshrink erf sin cos atan arctan"
)
_ADDITIONS: frozenset[Any] = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
_PRODUCTS: frozenset[Any] = frozenset({operator.mul, operator.imul, torch.mul, "mul", "mul_"})
_QUOTIENTS: frozenset[Any] = frozenset({operator.truediv, operator.itruediv, torch.div, "div", "div_"})


@dataclass
class Sum:
    """A skip connection z' = ξ f(z) + γ z.

    Attributes:
        gain: γ.
        branch_gain: ξ.
        producers: the last layers of f.
        behind_activation: whether what is skipped is σ(z), not z.
    """

    gain: float
    branch_gain: float
    producers: tuple[str, ...]
    behind_activation: bool


@dataclass
class LayerUse:
    """One layer, and what comes into it.

    Attributes:
        name: in the model.
        layer: the module.
        activation: σ between the layers before and this one; None where there is none.
        is_first: whether it sees the network's input.
        depth: ℓ, counted from 1 at the input along the longest way.
        share: what its kernel is multiplied by, because it is one summand of several, or is rescaled.
        skip: the skip connection that ends with it.
    """

    name: str
    layer: nn.Module
    activation: Activation | None = None
    is_first: bool = False
    depth: int = 1
    share: float = 1.0
    skip: Sum | None = None

    @property
    def fan_in(self) -> int:
        """Inputs of one of its outputs: n for Linear, channels of a group times the window for Conv."""
        weight: Any = self.layer.weight
        return math.prod(weight.shape[1:])


@dataclass
class LayerGraph:
    """All layers in the order of the forward pass.

    Attributes:
        layers: what is known.
        problems: what is not, in words; whoever uses the graph refuses if there are any.
        notes: what changes kernels and is not taken into account.
    """

    layers: list[LayerUse] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def skips(self) -> list[Sum]:
        """Each skip connection once, in order."""
        found: list[Sum] = []
        for use in self.layers:
            if use.skip is not None and not any(use.skip is one for one in found):
                found.append(use.skip)
        return found


class _Tracer(fx.Tracer):
    """Stops at layers, activations, and what the user has left out."""

    def __init__(self, leaves: Mapping[int, str]) -> None:
        super().__init__()
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return id(m) in self._leaves or (super().is_leaf_module(m, module_qualified_name))


@dataclass(frozen=True)
class _Signal:
    """What is known of one tensor of the forward pass.

    Attributes:
        origin: the node that made it what it is; shapes do not count.
        ancestors: origins that it depends on, its own included.
        depth: layers on the longest way to it.
        producers: layers whose sum it is, behind a last activation.
        activation: σ, where it is σ(z).
        is_input: whether it is the network's input.
        scales: the constants that it was multiplied by, each with the node that did so.
        sum: where it is the sum of a skip connection.
    """

    origin: fx.Node
    ancestors: frozenset[fx.Node]
    depth: int = 0
    producers: tuple[str, ...] = ()
    activation: Activation | None = None
    is_input: bool = False
    scales: tuple[tuple[fx.Node, float], ...] = ()
    sum: Sum | None = None


def layer_graph(model: nn.Module, skip: Skipped = ()) -> LayerGraph:
    """Follow a model's forward pass.

    Args:
        model: changed in nothing.
        skip: types or names of modules that count as if they let everything through.

    Raises:
        TraceError: torch.fx cannot follow the forward pass.
    """
    layers, problems = inventory(model, skip)
    if problems:
        return LayerGraph(problems=problems)
    leaves = {id(module): name for name, module in model.named_modules() if is_skipped(name, module, skip)}
    leaves |= {id(module): name for name, module in layers.items()}
    leaves |= {id(module): name for name, module in model.named_modules() if _is_activation_module(module)}
    leaves.pop(id(model), None)
    if type(model) in LAYERS:
        return LayerGraph([LayerUse("", model, is_first=True)])
    try:
        graph = _Tracer(leaves).trace(model)
    except Exception as error:  # whatever the model's own Python code raises on a proxy
        reason = str(error).strip().splitlines()
        raise TraceError(reason[0] if reason else type(error).__name__) from error
    return _Walk(model, layers, skip).walked(graph)


class TraceError(Exception):
    """The forward pass cannot be followed."""


def _is_activation_module(module: nn.Module) -> bool:
    return type(module).__module__ == "torch.nn.modules.activation" and not isinstance(
        module, (nn.MultiheadAttention, nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d, nn.GLU, nn.RReLU)
    )


class _Walk:
    """One pass over the nodes."""

    def __init__(self, model: nn.Module, layers: Mapping[str, nn.Module], skip: Skipped) -> None:
        self.modules = dict(model.named_modules())
        self.layers, self.skip = layers, skip
        self.graph = LayerGraph()
        self.uses: dict[str, LayerUse] = {}
        self.signals: dict[fx.Node, _Signal | None] = {}
        self.settled: set[fx.Node] = set()

    def walked(self, graph: fx.Graph) -> LayerGraph:
        for node in graph.nodes:
            self.signals[node] = self._signal(node)
        self.graph.layers = list(self.uses.values())
        unused = [name for name in self.layers if name not in self.uses]
        if unused:
            self.graph.notes.append(f"not used in the forward pass, left as they are: {', '.join(unused)}")
        self.graph.notes = list(dict.fromkeys(self.graph.notes))
        self.graph.problems = list(dict.fromkeys(self.graph.problems))
        return self.graph

    def _inputs(self, node: fx.Node) -> list[_Signal]:
        return [signal for one in node.all_input_nodes if (signal := self.signals[one]) is not None]

    def _signal(self, node: fx.Node) -> _Signal | None:
        if node.op == "placeholder":
            return _Signal(node, frozenset({node}), is_input=True)
        if node.op == "output":
            for signal in self._inputs(node):
                self._settle(signal)
            return None
        if node.op == "get_attr":
            self.graph.problems.append(f"{node.target} (a tensor that the forward pass uses by itself)")
            return None
        inputs = self._inputs(node)
        if not inputs:
            return None
        if node.op == "call_module":
            return self._module(node, inputs)
        return self._operation(node, inputs)

    def _module(self, node: fx.Node, inputs: list[_Signal]) -> _Signal | None:
        name = str(node.target)
        module = self.modules[name]
        if is_skipped(name, module, self.skip):
            return inputs[0]
        if name in self.layers:
            return self._layer(node, name, module, inputs[0])
        if isinstance(module, _TRANSPARENT_MODULES):
            return inputs[0]
        if isinstance(module, _NOTED_MODULES):
            self._note(f"{type(module).__name__}")
            return inputs[0]
        if _is_activation_module(module):
            return self._activation(node, module, inputs[0])
        return self._unknown(node, f"{name} ({type(module).__name__})", inputs)

    def _operation(self, node: fx.Node, inputs: list[_Signal]) -> _Signal | None:
        target = node.target
        word = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        if word in ("size", "dim", "numel", "getattr", "shape"):
            return None
        if target in _ADDITIONS and len(inputs) == 2 and not node.kwargs.get("alpha"):
            return self._addition(node, *inputs)
        if target in _ADDITIONS and len(inputs) == 1 and len(node.args) == 2 and node.args[0] is node.args[1]:
            return self._scaled(inputs[0], 2.0, node)
        if target in _PRODUCTS | _QUOTIENTS and len(inputs) == 1:
            constant = next((one for one in node.args if isinstance(one, int | float)), None)
            divided = target in _QUOTIENTS and node.args[0] is not constant
            if constant and (divided or target in _PRODUCTS):
                return self._scaled(inputs[0], 1 / constant if divided else float(constant), node)
        if (node.op == "call_method" and word in _TRANSPARENT_METHODS.split()) or target in _TRANSPARENT_FUNCTIONS:
            return inputs[0]
        if target in _NOTED_FUNCTIONS:
            self._note(word)
            return inputs[0]
        if len(inputs) == 1 and (function := _elementwise(node)) is not None:
            return self._activation(node, function, inputs[0])
        return self._unknown(node, f"the operation {word}", inputs)

    # kinds of nodes

    def _layer(self, node: fx.Node, name: str, module: nn.Module, signal: _Signal) -> _Signal:
        if name in self.uses:
            self.graph.problems.append(f"{name} ({type(module).__name__}, used more than once with the same weights)")
        self._settle(signal)
        first = signal.is_input
        self.uses[name] = LayerUse(name, module, signal.activation, first, signal.depth + 1)
        return _Signal(node, signal.ancestors | {node}, signal.depth + 1, (name,))

    def _activation(self, node: fx.Node, function: Any, signal: _Signal) -> _Signal:
        self._settle(signal)
        before = signal.activation
        try:
            sigma = as_activation(function, _spoken(node, function))
            if before is not None:
                outer, inner = sigma, before
                sigma = as_activation(lambda z: outer(inner(z)), f"{outer.name} of {inner.name}")
        except ActivationError as error:
            self.graph.problems.append(f"{node.name} ({error.problem})")
            return signal
        return _Signal(node, signal.ancestors | {node}, signal.depth, signal.producers, sigma)

    def _scaled(self, signal: _Signal, factor: float, node: fx.Node) -> _Signal:
        if signal.activation is not None and signal.sum is None:
            inner = signal.activation
            sigma = as_activation(lambda z: factor * inner(z), f"{factor:g} {inner.name}")
            return replace(signal, activation=sigma)
        return replace(signal, scales=(*signal.scales, (node, factor)))

    def _addition(self, node: fx.Node, one: _Signal, other: _Signal) -> _Signal | None:
        names = ", ".join(self._ends(one) + self._ends(other))
        if one.origin in other.ancestors:
            skip, branch = one, other
        elif other.origin in one.ancestors:
            skip, branch = other, one
        else:
            if one.activation or other.activation or not (one.producers and other.producers):
                return self._unknown(node, f"a sum of {names or 'inputs'} that is no skip connection", [one, other])
            for signal in (one, other):  # two independent layers: each gives half of the kernel
                self._settle(signal)
                for name in signal.producers:
                    self.uses[name].share /= 2
            ancestors = one.ancestors | other.ancestors | {node}
            return _Signal(node, ancestors, max(one.depth, other.depth), one.producers + other.producers)
        if branch.activation is not None or not branch.producers:
            return self._unknown(node, f"a skip connection around {names}, which ends with no layer", [one, other])
        # constants that f sees as well are no part of γ: they have been taken into account where they were met
        found = Sum(self._unsettled(skip), self._unsettled(branch), branch.producers, skip.activation is not None)
        for name in branch.producers:
            self.uses[name].skip = found
        return _Signal(node, branch.ancestors | {node}, branch.depth, branch.producers, sum=found)

    def _settle(self, signal: _Signal) -> None:
        """Take a constant that a signal was multiplied by into its skip connection, or into its layers' share."""
        factor = self._unsettled(signal)
        self.settled |= {node for node, _ in signal.scales}
        if signal.sum is not None:
            signal.sum.gain *= factor
            signal.sum.branch_gain *= factor
            return
        for name in signal.producers:
            self.uses[name].share /= factor**2

    def _unsettled(self, signal: _Signal) -> float:
        return math.prod(factor for node, factor in signal.scales if node not in self.settled)

    def _unknown(self, node: fx.Node, what: str, inputs: list[_Signal]) -> _Signal:
        self.graph.problems.append(what)
        return replace(inputs[0], origin=node, ancestors=frozenset().union(*(one.ancestors for one in inputs)) | {node})

    def _ends(self, signal: _Signal) -> list[str]:
        return list(signal.producers)

    def _note(self, what: str) -> None:
        self.graph.notes.append(f"{what} changes kernels by a factor that is not taken into account")


def _elementwise(node: fx.Node) -> Any | None:
    """The node's function of one tensor, if it is one of torch's activations."""
    keywords = {name: value for name, value in node.kwargs.items() if name != "inplace"}
    rest = node.args[1:]
    if any(isinstance(one, fx.Node) for one in (*rest, *keywords.values())):
        return None
    if node.op == "call_method":
        word = str(node.target)
        return getattr(torch, word.rstrip("_"), None) if word in _ACTIVATION_METHODS.split() and not rest else None
    function: Any = node.target
    home = getattr(function, "__module__", "") or ""
    named = getattr(function, "__name__", "").rstrip("_")
    if named not in _ACTIVATION_FUNCTIONS.split() or not (
        home.startswith("torch") or home in ("", "_VariableFunctions", "torch._C._nn")
    ):
        return None
    if not rest and not keywords:
        return getattr(torch, named, None) or function if named in ("sin", "tanh", "sigmoid", "erf") else function
    return lambda z: function(z, *rest, **keywords)


def _spoken(node: fx.Node, function: Any) -> str:
    if isinstance(function, nn.Module):
        return type(function).__name__.lower()
    target = node.target
    return (target if isinstance(target, str) else getattr(target, "__name__", str(target))).rstrip("_")


def chain(model: nn.Module, skip: Skipped = ()) -> LayerGraph:
    """The layers as one chain in the order in which the model holds them, for forward passes that cannot be followed.

    Activations are those modules that the model holds, if they are all alike.
    """
    layers, problems = inventory(model, skip)
    found = list(_activation_modules(model))
    alike = {(type(one).__name__, repr(one)) for one in found}
    sigma = as_activation(found[0]) if len(alike) == 1 else None
    uses = [
        LayerUse(name, module, sigma if place else None, place == 0, place + 1)
        for place, (name, module) in enumerate(layers.items())
    ]
    return LayerGraph(uses, problems, ["taken as a chain of layers in the order in which the model holds them"])


def _activation_modules(model: nn.Module) -> Iterator[nn.Module]:
    return (module for module in model.modules() if _is_activation_module(module))
