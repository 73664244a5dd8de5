"""What a model may bring along that a task otherwise gives: its own loss, and reasons for its answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class HasOwnLoss(Protocol):
    """A classifier whose loss is part of its paper."""

    def own_loss(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The loss of a batch, by terms.

        Args:
            inputs: (B, …), as `forward` takes them.
            targets: (B, K) float, rows sum to 1.

        Returns:
            Scalars: `loss`, which is differentiated, and any other terms that are worth watching.
        """
        ...


@dataclass(frozen=True)
class Reason:
    """One case that an answer rests on.

    Attributes:
        case: number of the case (a prototype), from 0.
        supports: the class that the case speaks for most.
        distance: from the input to the case, in the model's own measure.
        contribution: what the case adds to the logit of the predicted class.
        contributions: what it adds to every class's logit, by class.
        shown: the case in the space of inputs: a picture (C, H, W) in 0…1, or a row (D,).
    """

    case: int
    supports: str
    distance: float
    contribution: float
    contributions: dict[str, float]
    shown: Tensor

    def as_json(self) -> dict[str, Any]:
        """All but what is shown, as JSON values."""
        return {
            "case": self.case,
            "supports": self.supports,
            "distance": self.distance,
            "contribution": self.contribution,
            "contributions": self.contributions,
        }


@runtime_checkable
class GivesReasons(Protocol):
    """A classifier that says why."""

    def reasons(self, inputs: Tensor) -> list[list[Reason]]:
        """The cases behind each answer, the nearest first.

        Args:
            inputs: (B, …), as `forward` takes them.
        """
        ...
