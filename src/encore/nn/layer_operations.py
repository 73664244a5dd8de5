"""Which modules and operations of a forward pass the theory can follow, and how.

Shapes let signals through; pooling and dropout do as well, with a note; activations are elementwise functions, those of
torch and modules of the user's own.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from encore.nn.activations import is_elementwise


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TRANSPARENT_MODULES = (
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
)

NOTED_MODULES = (
    nn.modules.dropout._DropoutNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.Upsample,
)
"""Modules that let signals through and change kernels by a factor that the theory does not give."""

TRANSPARENT_METHODS: frozenset[str] = _words(
    "flatten view reshape permute transpose contiguous squeeze unsqueeze movedim unflatten float double to clone detach"
)
TRANSPARENT_FUNCTIONS: frozenset[Any] = frozenset(
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
NOTED_FUNCTIONS: frozenset[Any] = frozenset(
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
_ACTIVATION_METHODS = _words("relu relu_ tanh tanh_ sigmoid sigmoid_ sin sin_ erf arctan atan")
_ACTIVATION_FUNCTIONS = _words(
    "relu relu6 leaky_relu tanh sigmoid gelu silu elu selu celu mish softplus softsign hardtanh hardswish hardsigmoid "
    "logsigmoid log_sigmoid tanhshrink erf sin cos atan arctan"
)
ADDITIONS: frozenset[Any] = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
PRODUCTS: frozenset[Any] = frozenset({operator.mul, operator.imul, torch.mul, "mul", "mul_"})
QUOTIENTS: frozenset[Any] = frozenset({operator.truediv, operator.itruediv, torch.div, "div", "div_"})

_NO_ACTIVATIONS = (
    nn.MultiheadAttention,
    nn.Softmax,
    nn.LogSoftmax,
    nn.Softmin,
    nn.Softmax2d,
    nn.GLU,
    nn.RReLU,
)
"""What torch files under activations, although values depend on their neighbours or on chance."""

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def is_activation_module(module: nn.Module) -> bool:
    """Whether a module is an elementwise function: one of torch's, or one of the user's own without parameters."""
    if type(module).__module__ == "torch.nn.modules.activation":
        return not isinstance(module, _NO_ACTIVATIONS)
    if type(module).__module__.startswith("torch.") or next(module.children(), None) is not None:
        return False
    if any(True for _ in module.parameters()) or any(True for _ in module.buffers()):
        return False
    return is_elementwise(module) and not _is_identity(module)


def _is_identity(module: nn.Module) -> bool:
    z = torch.linspace(-2, 2, 5, dtype=torch.float64)
    return bool(torch.equal(module(z), z))


def same_function(node: fx.Node, function: Any) -> object:
    """A key that is the same for activations that are, so that each is looked into once."""
    if isinstance(function, nn.Module):
        if any(True for _ in function.parameters()):
            return id(function)
        own = {name: value for name, value in vars(function).items() if name not in _OF_EVERY_MODULE}
        return type(function), repr(own)
    return node.target, repr(node.args[1:]), repr(sorted(node.kwargs.items()))


def closes_network(node: fx.Node) -> bool:
    """Whether a node makes probabilities of the network's outputs, which no layer sees any more."""
    name = getattr(node.target, "__name__", str(node.target))
    return name.rstrip("_") in ("softmax", "log_softmax") and only_output(node)


def only_output(node: fx.Node) -> bool:
    """Whether what a node makes goes nowhere but out of the network."""
    return all(user.op == "output" for user in node.users)


def elementwise_function(node: fx.Node) -> Any | None:
    """The node's function of one tensor, if it is one of torch's activations."""
    keywords = {name: value for name, value in node.kwargs.items() if name != "inplace"}
    rest = node.args[1:]
    if any(isinstance(one, fx.Node) for one in (*rest, *keywords.values())):
        return None
    if node.op == "call_method":
        word = str(node.target)
        return getattr(torch, word.rstrip("_"), None) if word in _ACTIVATION_METHODS and not rest else None
    function: Any = node.target
    home = getattr(function, "__module__", "") or ""
    named = getattr(function, "__name__", "").rstrip("_")
    if named not in _ACTIVATION_FUNCTIONS or not (
        home.startswith("torch") or home in ("", "_VariableFunctions", "torch._C._nn")
    ):
        return None
    if not rest and not keywords:
        return getattr(torch, named, None) or function if named in ("sin", "tanh", "sigmoid", "erf") else function
    return lambda z: function(z, *rest, **keywords)


def spoken(node: fx.Node, function: Any) -> str:
    """An activation as it is written in the model."""
    if isinstance(function, nn.Module):
        return type(function).__name__.lower()
    target = node.target
    return (target if isinstance(target, str) else getattr(target, "__name__", str(target))).rstrip("_")
