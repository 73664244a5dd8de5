"""What the room's questions share: networks in words, modules by import path, and numbers as JSON values."""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from encore.base.configuration import Configuration
from encore.base.errors import ConfigurationError
from encore.nn.activations import Activation, activation_named
from encore.papers.pdlt.own_networks import first_line

Size = Annotated[int, Field(ge=1, le=10**9)]
"""A width."""


class ActivationQuestion(Configuration):
    """A question about an activation."""

    activation: str = Field("tanh", description="a name (tanh, relu, gelu, monomial_3 …) or module:function")


class ShapeQuestion(ActivationQuestion):
    """A question about a multilayer perceptron."""

    width: Size = Field(100, description="n of the hidden layers")
    depth: int = Field(10, ge=1, le=100_000, description="L, the output layer counted")
    outputs: Size = Field(1, description="n_L, the width of the output layer")

    @property
    def widths(self) -> tuple[int, ...]:
        """n_1 … n_L."""
        return (*[self.width] * (self.depth - 1), self.outputs)


@contextlib.contextmanager
def working_folder_on_path() -> Iterator[None]:
    """Inside the block modules of the working folder can be imported, as in a Python session there."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def activation_asked(name: str) -> Activation:
    """The activation of a question; modules of the working folder count.

    Raises:
        UnknownNameError, ActivationError: there is none.
    """
    with working_folder_on_path():
        return activation_named(name)


def factory_asked(name: str) -> Callable[[], nn.Module]:
    """What makes a network, from `module:function`; a class whose constructor needs nothing serves as well.

    Raises:
        ConfigurationError: it cannot be imported or called.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ConfigurationError(
            f"network={name} is no module:function", "write for example network=my_models:make_net"
        )
    with working_folder_on_path():
        try:
            factory = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # whatever the user's own file raises
            raise ConfigurationError(
                f"network={name} cannot be imported ({first_line(error)})", "run where the module lies, or install it"
            ) from error
    if isinstance(factory, nn.Module) or not callable(factory):
        raise ConfigurationError(
            f"network={name} is a {type(factory).__name__}", "name a function that returns the network with new weights"
        )
    return factory


def number(value: float, digits: int = 6) -> float | None:
    """As a JSON value with so many digits; None for what is not finite."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def with_error(value: float | None, error: float | None) -> str:
    """`0.1034 ± 0.0021`, or a dash where nothing could be measured."""
    if value is None or error is None or not (math.isfinite(value) and math.isfinite(error)):
        return "–"
    return f"{value:.4g} ± {error:.2g}"


def some_layers(depth: int, most: int = 24) -> list[int]:
    """Layers to show: all, or about `most` with the first and the last."""
    if depth <= most:
        return list(range(1, depth + 1))
    return sorted({1, depth, *(round(1 + (depth - 1) * place / (most - 1)) for place in range(most))})


def table(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with numbers shortened for reading."""
    return [{key: number(value) if isinstance(value, float) else value for key, value in row.items()} for row in rows]
