"""The settings of the two studies at each scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from encore.base.configuration import Configuration
from encore.base.runtime import Scale
from encore.papers.prototypes.fit import ELASTIC, PICTURES, TRAINING, PrototypesFit


class PrototypesConfiguration(Configuration):
    """Keys of `encore run prototypes`.

    Attributes:
        mnist: what the arms on MNIST share.
        fashion: what the arms on Fashion-MNIST share.
        batched: train all arms and seeds of one architecture at once (`torch.func.vmap`), to the same networks. It pays
            on a GPU and for the small batches of smoke scale; null does so on a GPU alone.
        single_terms: train on MNIST also with each of the two interpretability terms alone, for the table; no claim
            needs that.
    """

    mnist: PrototypesFit = Field(default_factory=PrototypesFit)
    fashion: PrototypesFit = Field(default_factory=PrototypesFit)
    batched: bool | None = None
    single_terms: bool = False


def _shared(epochs: int, augmentation: Mapping[str, Any], **training: Any) -> dict[str, Any]:
    return {"training": {**TRAINING, "epochs": epochs, **training}, "augmentation": dict(augmentation)}


DEFAULTS: dict[Scale, dict[str, Any]] = {
    # 24 steps an epoch on scikit-learn's digits.
    "smoke": {
        "batched": True,
        "mnist": _shared(6, PICTURES, batch_size=50),
        "fashion": _shared(3, PICTURES, batch_size=50),
    },
    # 216 steps an epoch on MNIST, 72 on the 20,000 articles of Fashion-MNIST that lie in the shared data.
    "laptop": {"mnist": _shared(14, PICTURES), "fashion": _shared(14, PICTURES)},
    "paper": {"single_terms": True, "mnist": _shared(1500, ELASTIC), "fashion": _shared(1500, ELASTIC)},
}
"""At the smaller scales without deformation, which would need a longer training."""
