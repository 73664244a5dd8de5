"""One pass over the operations of a forward pass, which tells what feeds each layer.

It follows preactivations through the network: layers, elementwise activations, shapes, pooling and sums. Whatever else
it meets is named, and nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import fx, nn

from encore.nn.activations import Activation, ActivationError, as_activation
from encore.nn.layer_inventory import LAYERS, Skipped, is_skipped
from encore.nn.layer_operations import (
    ADDITIONS,
    NOTED_FUNCTIONS,
    NOTED_MODULES,
    PRODUCTS,
    QUOTIENTS,
    TRANSPARENT_FUNCTIONS,
    TRANSPARENT_METHODS,
    TRANSPARENT_MODULES,
    closes_network,
    elementwise_function,
    is_activation_module,
    only_output,
    same_function,
    spoken,
)
from encore.nn.layer_uses import LayerGraph, LayerUse, Sum

_PADDING = "zero padding makes kernels smaller at edges, which is not taken into account"


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


class Walk:
    """One pass over the nodes.

    Args:
        model: that was traced.
        layers: those that the theory knows, by name.
        skip: types or names of modules that are left as they are.
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, nn.Module], skip: Skipped) -> None:
        self.modules = dict(model.named_modules())
        self.layers, self.skip = layers, skip
        self.graph = LayerGraph()
        self.uses: dict[str, LayerUse] = {}
        self.signals: dict[fx.Node, _Signal | None] = {}
        self.settled: set[fx.Node] = set()
        self.activations: dict[object, Activation] = {}

    def walked(self, graph: fx.Graph) -> LayerGraph:
        """What the nodes of a traced forward pass say about the layers."""
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
            if not any(type(one) in LAYERS for one in module.modules()):
                return inputs[0]
            self._settle(inputs[0])  # whatever it does, preactivations come out of it
            return _Signal(node, inputs[0].ancestors | {node}, inputs[0].depth + 1)
        if name in self.layers:
            return self._layer(node, name, module, inputs[0])
        if isinstance(module, TRANSPARENT_MODULES):
            return inputs[0]
        if isinstance(module, NOTED_MODULES):
            self._note(f"{type(module).__name__}")
            return inputs[0]
        if isinstance(module, (nn.Softmax, nn.LogSoftmax)) and only_output(node):
            return inputs[0]
        if is_activation_module(module):
            return self._activation(node, module, inputs[0])
        return self._unknown(node, f"{name} ({type(module).__name__})", inputs)

    def _operation(self, node: fx.Node, inputs: list[_Signal]) -> _Signal | None:
        target = node.target
        word = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        if word in ("size", "dim", "numel", "getattr", "shape"):
            return None
        if target in ADDITIONS and len(inputs) == 2 and not node.kwargs.get("alpha"):
            return self._addition(node, *inputs)
        if target in ADDITIONS and len(inputs) == 1 and len(node.args) == 2 and node.args[0] is node.args[1]:
            return self._scaled(inputs[0], 2.0, node)
        if target in PRODUCTS | QUOTIENTS and len(inputs) == 1:
            constant = next((one for one in node.args if isinstance(one, int | float)), None)
            divided = target in QUOTIENTS and node.args[0] is not constant
            if constant and (divided or target in PRODUCTS):
                return self._scaled(inputs[0], 1 / constant if divided else float(constant), node)
        if (node.op == "call_method" and word in TRANSPARENT_METHODS) or target in TRANSPARENT_FUNCTIONS:
            return inputs[0]
        if target in NOTED_FUNCTIONS:
            self._note(word)
            return inputs[0]
        if len(inputs) == 1 and (function := elementwise_function(node)) is not None:
            return self._activation(node, function, inputs[0])
        if len(inputs) == 1 and closes_network(node):
            return inputs[0]
        return self._unknown(node, f"the operation {word}", inputs)

    # kinds of nodes

    def _layer(self, node: fx.Node, name: str, module: nn.Module, signal: _Signal) -> _Signal:
        if name in self.uses:
            self.graph.problems.append(f"{name} ({type(module).__name__}, used more than once with the same weights)")
        self._settle(signal)
        gain = math.prod(factor for _, factor in signal.scales) if signal.is_input else 1.0
        self.uses[name] = LayerUse(
            name,
            module,
            signal.activation,
            signal.is_input,
            signal.depth + 1,
            fed_by=signal.producers,
            input_gain=gain,
        )
        if getattr(module, "padding_mode", "") == "zeros" and any(module.padding):  # type: ignore[arg-type]
            self.graph.notes.append(_PADDING)
        return _Signal(node, signal.ancestors | {node}, signal.depth + 1, (name,))

    def _activation(self, node: fx.Node, function: Any, signal: _Signal) -> _Signal:
        self._settle(signal)
        before = signal.activation
        try:
            sigma = self._known(same_function(node, function), function, spoken(node, function))
            if before is not None:
                outer, inner = sigma, before
                sigma = self._known((outer, inner), lambda z: outer(inner(z)), f"{outer.name} of {inner.name}")
        except ActivationError as error:
            self.graph.problems.append(f"{node.name} ({error.problem})")
            return signal
        return _Signal(node, signal.ancestors | {node}, signal.depth, signal.producers, sigma)

    def _scaled(self, signal: _Signal, factor: float, node: fx.Node) -> _Signal:
        if signal.activation is not None and signal.sum is None:
            inner = signal.activation
            sigma = self._known((factor, inner), lambda z: factor * inner(z), f"{factor:g} {inner.name}")
            return replace(signal, activation=sigma)
        return replace(signal, scales=(*signal.scales, (node, factor)))

    def _known(self, key: object, function: Any, name: str) -> Activation:
        """The activation, looked into when it is met for the first time."""
        if key not in self.activations:
            self.activations[key] = as_activation(function, name)
        return self.activations[key]

    def _addition(self, node: fx.Node, one: _Signal, other: _Signal) -> _Signal | None:
        names = ", ".join(one.producers + other.producers)
        if one.origin in other.ancestors:
            skip, branch = one, other
        elif other.origin in one.ancestors:
            skip, branch = other, one
        else:
            plain = one.sum is None and other.sum is None and one.producers and other.producers
            if one.activation or other.activation or not plain:
                return self._unknown(node, f"a sum of {names or 'inputs'} that is no skip connection", [one, other])
            for signal in (one, other):  # two independent layers: each gives half of the kernel
                self._settle(signal)
                for name in signal.producers:
                    self.uses[name].share /= 2
            ancestors = one.ancestors | other.ancestors | {node}
            return _Signal(node, ancestors, max(one.depth, other.depth), one.producers + other.producers)
        if branch.activation is not None or not branch.producers:
            return self._unknown(node, f"a skip connection around {names}, which ends with no layer", [one, other])
        if branch.sum is not None:
            what = f"a skip connection around {names}, which ends with another skip connection"
            return self._unknown(node, what, [one, other])
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

    def _note(self, what: str) -> None:
        self.graph.notes.append(f"{what} changes kernels by a factor that is not taken into account")
