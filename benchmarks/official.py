"""Runs a paper's official code from a folder, without its dependency timm.

Nothing of it is part of this project: the folder is named on the command line.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from encore.nn.stochastic_depth import DropPath


def official_module(folder: Path, name: str) -> Any:
    """Import module `name` of the official code in `folder`, which its own imports find too."""
    stand_in_for_timm()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def official_file(path: Path) -> Any:
    """Import one file of the official code, whatever package it lies in."""
    stand_in_for_timm()
    specification: Any = importlib.util.spec_from_file_location(f"official_{path.stem}", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def stand_in_for_timm() -> None:
    """Answer the few names that official code takes from timm by equivalents."""
    layers, registry = ModuleType("timm.models.layers"), ModuleType("timm.models.registry")
    layers.__dict__.update(trunc_normal_=nn.init.trunc_normal_, DropPath=DropPath)
    registry.__dict__.update(register_model=lambda factory: factory)
    for module in (ModuleType("timm"), ModuleType("timm.models"), layers, registry):
        sys.modules.setdefault(module.__name__, module)
