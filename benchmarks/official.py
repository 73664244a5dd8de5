"""Runs a paper's official code from a folder, without its dependency timm.

Nothing of it is part of this project: the folder is named on the command line.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from encore.nn.stochastic_depth import DropPath


def official_module(folder: Path, name: str) -> Any:
    """Import module `name` of the official code in `folder`; what it asks of timm is answered by equivalents."""
    layers, registry = ModuleType("timm.models.layers"), ModuleType("timm.models.registry")
    layers.trunc_normal_ = nn.init.trunc_normal_  # type: ignore[attr-defined]
    layers.DropPath = DropPath  # type: ignore[attr-defined]
    layers.drop_path = torch.nn.functional.dropout  # type: ignore[attr-defined]
    layers.drop = layers.drop_path  # type: ignore[attr-defined]
    registry.register_model = lambda factory: factory  # type: ignore[attr-defined]
    models = ModuleType("timm.models")
    for module in (ModuleType("timm"), models, layers, registry):
        sys.modules.setdefault(module.__name__, module)
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
