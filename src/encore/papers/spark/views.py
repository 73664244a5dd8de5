"""A second sight of a network: other layers, the same parameters.

`view_of` copies the tree of modules, not the tensors. In the copy single modules have another class, and what those
classes need (the mask of one batch) lies in the copy. The network itself is never touched, so nothing has to be
undone; several views may be in use at once, and what runs a layer again later, such as `torch.utils.checkpoint`,
runs that of its own view.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)

Change = tuple[type, dict[str, Any]]
"""What a module becomes: a mixin that stands before its class, and attributes of the copy."""

Choice = Callable[[str, nn.Module], Change | None]
"""From a module's name and itself to its change; None leaves it as it is."""


def view_of(network: Module, choose: Choice) -> Module:
    """A copy of the tree of modules, with the changes that `choose` asks for.

    Parameters and buffers are the network's own, so that gradients and running statistics arrive there; flags,
    hooks and attributes are those of this moment.

    Args:
        network: is left as it is.
        choose: asked for every module.
    """
    return _view(network, "", choose, {})


def _view(module: Any, name: str, choose: Choice, done: dict[int, Any]) -> Any:
    if id(module) in done:
        return done[id(module)]
    change = choose(name, module)
    cls: Any = type(module)
    if change is not None:
        cls = _changed(change[0], cls)
    twin: Any = object.__new__(cls)
    done[id(module)] = twin
    own = twin.__dict__
    own.update(module.__dict__)
    for key, value in module.__dict__.items():
        if key.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")) and hasattr(value, "copy"):
            own[key] = value.copy()
    own["_modules"] = {
        key: None if child is None else _view(child, f"{name}.{key}" if name else key, choose, done)
        for key, child in module._modules.items()
    }
    if change is not None:
        own.update(change[1])
    return twin


@cache
def _changed(mixin: type, cls: type) -> type:
    return type(f"{mixin.__name__.strip('_')}{cls.__name__}", (mixin, cls), {"__module__": mixin.__module__})
