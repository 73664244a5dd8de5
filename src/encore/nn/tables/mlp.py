"""Fully connected networks for rows of tables; without a hidden layer, logistic regression."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from encore.base.errors import ConfigurationError
from encore.base.registry import register_model
from encore.nn.tables.row_model import RowModel


def hidden_layers(width: int, hidden: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """(B, width) → linear, ReLU, dropout for each of `hidden` → (B, hidden[-1]).

    Raises:
        ConfigurationError: a width below 1, or a dropout outside 0…1.
    """
    if width < 1 or any(size < 1 for size in hidden):
        raise ConfigurationError(f"layers of {[width, *hidden]} units cannot be made", "give widths of 1 or more")
    if not 0 <= dropout < 1:
        raise ConfigurationError(f"dropout is {dropout}", "give a share 0…1 of units that are left out")
    layers: list[nn.Module] = []
    for size_in, size_out in zip([width, *hidden], hidden, strict=False):
        layers += [nn.Linear(size_in, size_out), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


@register_model("mlp")
class Mlp(RowModel):
    """(B, D) → [linear → ReLU → dropout] for each hidden layer → linear → (B, K).

    Args:
        num_features: D.
        num_classes: K.
        hidden: widths of the hidden layers; none for logistic regression.
        dropout: share of hidden units that are left out in training.

    Raises:
        ConfigurationError: a width below 1, or a dropout outside 0…1.
    """

    def __init__(
        self, num_features: int = 4, num_classes: int = 2, hidden: Sequence[int] = (64, 64), dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.look_at(num_features)
        self.body = hidden_layers(num_features, hidden, dropout)
        self.head = nn.Linear([num_features, *hidden][-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D), standardised → logits (B, K)."""
        logits: Tensor = self.head(self.body(x))
        return logits


@register_model("logistic_regression")
def logistic_regression(num_features: int = 4, num_classes: int = 2) -> Mlp:
    """One linear layer: the model that says what a table holds without any depth."""
    return Mlp(num_features, num_classes, hidden=())
