"""Which layers of a network the theory of deep networks knows, and which it does not."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.utils import parametrize

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers that the theory knows: sums over a fan-in with independent weights."""

_NORMALISATIONS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    nn.CrossMapLRN2d,
)

Skipped = Sequence[type[nn.Module] | str]
"""Modules to leave as they are: types, or names of modules; a name stands for all that lies in it."""


def is_skipped(name: str, module: nn.Module, skip: Skipped) -> bool:
    """Whether the user has a module left as it is: by its type, its name, or the name of what it lies in."""
    for one in skip:
        if isinstance(one, str):
            if name == one or name.startswith(f"{one}."):
                return True
        elif isinstance(module, one):
            return True
    return False


def inventory(model: nn.Module, skip: Skipped) -> tuple[dict[str, nn.Module], list[str]]:
    """The layers that the theory knows by name, and in words whatever else holds parameters or normalises."""
    layers: dict[str, nn.Module] = {}
    problems: list[str] = []
    seen = {
        id(parameter): name
        for name, module in model.named_modules()
        if is_skipped(name, module, skip)
        for parameter in module.parameters(recurse=False)
    }

    def visit(name: str, module: nn.Module) -> None:
        kind = type(module).__name__
        if is_skipped(name, module, skip):
            return
        own = dict(module.named_parameters(recurse=False))
        if any(nn.parameter.is_lazy(one) for one in own.values()):
            problems.append(f"{name} ({kind}, lazy: run one batch through the model first)")
        elif parametrize.is_parametrized(module) or (type(module) in LAYERS and "weight" not in own):
            problems.append(f"{name} ({kind}, parametrised: its weight is computed from other tensors)")
        elif any(one.is_meta for one in own.values()):
            problems.append(f"{name} ({kind}, on the meta device: it has no numbers)")
        elif type(module) in LAYERS:
            if any(not one.is_floating_point() for one in own.values()):
                problems.append(f"{name} ({kind}, of complex numbers)")
            for parameter in own.values():
                if id(parameter) in seen:
                    problems.append(f"{name} ({kind}, shares weights with {seen[id(parameter)]})")
                seen[id(parameter)] = name
            layers[name] = module
        elif isinstance(module, nn.PReLU):
            return
        elif isinstance(module, _NORMALISATIONS) or (own and type(module).__module__.startswith("torch.nn.modules")):
            problems.append(f"{name or 'the model'} ({kind})")
        else:
            owner = f"{name}." if name else ""
            problems.extend(f"{owner}{one} (a parameter of {kind})" for one in own)
            for child_name, child in module.named_children():
                visit(f"{owner}{child_name}", child)

    visit("", model)
    return layers, problems
