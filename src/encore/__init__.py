"""Encore: encoder-decoder papers, performed again.

Everything public is here; nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "InputError": "encore.base.errors",
    "Runtime": "encore.base.runtime",
    "ask": "encore.verbs.ask",
    "card": "encore.base.registry",
    "compare": "encore.verbs.compare",
    "compress": "encore.verbs.compress",
    "create_model": "encore.nn.creation",
    "decompress": "encore.verbs.compress",
    "evaluate": "encore.verbs.apply",
    "export": "encore.verbs.export",
    "fit": "encore.verbs.fit",
    "from_official": "encore.nn.creation",
    "list_models": "encore.base.registry",
    "list_papers": "encore.base.registry",
    "load": "encore.nn.creation",
    "predict": "encore.verbs.apply",
    "run": "encore.verbs.run",
}

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:  # the same names, for type checkers
    from encore.base.errors import InputError
    from encore.base.registry import card, list_models, list_papers
    from encore.base.runtime import Runtime
    from encore.nn.creation import create_model, from_official, load
    from encore.verbs.apply import evaluate, predict
    from encore.verbs.ask import ask
    from encore.verbs.compare import compare
    from encore.verbs.compress import compress, decompress
    from encore.verbs.export import export
    from encore.verbs.fit import fit
    from encore.verbs.run import run


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'encore' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
