"""What feeds each linear or convolutional layer of a network: read off its forward pass by torch.fx."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import fx, nn

from encore.nn.activations import as_activation
from encore.nn.layer_inventory import LAYERS, Skipped, inventory, is_skipped
from encore.nn.layer_operations import is_activation_module
from encore.nn.layer_uses import LayerGraph, LayerUse
from encore.nn.layer_walk import Walk


class TraceError(Exception):
    """The forward pass cannot be followed."""


class _Tracer(fx.Tracer):
    """Stops at layers, activations, and what the user has left out."""

    def __init__(self, leaves: Mapping[int, str]) -> None:
        super().__init__()
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return id(m) in self._leaves or (super().is_leaf_module(m, module_qualified_name))


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
    leaves |= {id(module): name for name, module in model.named_modules() if is_activation_module(module)}
    leaves.pop(id(model), None)
    if type(model) in LAYERS:
        return LayerGraph([LayerUse("", model, is_first=True)])
    before = set(vars(model))
    try:
        graph = _Tracer(leaves).trace(model)
    except Exception as error:  # whatever the model's own Python code raises on a proxy
        reason = str(error).strip().splitlines()
        raise TraceError(reason[0] if reason else type(error).__name__) from error
    finally:
        for name in set(vars(model)) - before:  # torch.fx leaves constant tensors on the model
            delattr(model, name)
    return Walk(model, layers, skip).walked(graph)


def chain(model: nn.Module, skip: Skipped = ()) -> LayerGraph:
    """The layers as one chain in the order in which the model holds them, for forward passes that cannot be followed.

    Activations are those modules that the model holds, if they are all alike.
    """
    layers, problems = inventory(model, skip)
    found = list(_activation_modules(model))
    alike = {(type(one).__name__, repr(one)) for one in found}
    sigma = as_activation(found[0]) if len(alike) == 1 else None
    names = list(layers)
    uses = [
        LayerUse(
            name,
            layers[name],
            sigma if place else None,
            place == 0,
            place + 1,
            fed_by=tuple(names[place - 1 : place]) if place else (),
        )
        for place, name in enumerate(names)
    ]
    return LayerGraph(uses, problems, ["taken as a chain of layers in the order in which the model holds them"])


def _activation_modules(model: nn.Module) -> Iterator[nn.Module]:
    return (module for module in model.modules() if is_activation_module(module))
