"""Adding Gradient Noise Improves Learning for Very Deep Networks (1511.06807).

The tool lies in `encore.training.gradient_noise`; its names are here too, loaded when one is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["GradientNoise", "add_gradient_noise_", "noise_variance"]

if TYPE_CHECKING:  # the same names, for type checkers
    from encore.training.gradient_noise import GradientNoise, add_gradient_noise_, noise_variance


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'encore.papers.gradient_noise' has no attribute '{name}'")
    from encore.training import gradient_noise

    return getattr(gradient_noise, name)
