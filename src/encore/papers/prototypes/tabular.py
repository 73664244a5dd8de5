"""Prototypes for tables: the idea of arXiv 1710.04806, which needs no pictures, on rows of numbers and categories."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from encore.base.errors import ConfigurationError
from encore.base.registry import register_model
from encore.nn.tables.mlp import hidden_layers
from encore.nn.tables.row_model import RowModel
from encore.papers.prototypes.prototype_network import PrototypeNetwork

PER_CLASS = 3
"""Prototypes for every class, where nobody says how many."""


@register_model("prototypes_table")
class TablePrototypes(RowModel, PrototypeNetwork):
    """The paper's network with fully connected layers in the place of its convolutions.

        (B, D) standardised → linear, ReLU for each hidden layer → linear → z (q)
                            ← linear ← linear, ReLU, mirrored          ←┘
        z → ‖z - p_j‖² (m) → W → logits (K)

    The last layer of encoder and decoder is linear, for rows are standardised and have no smallest value. A decoded
    prototype is a row of the table once `in_units` has undone the standardisation. The reconstruction error is a sum
    over all features, as the paper's is over all pixels.

    Args:
        num_features: D.
        num_classes: K.
        num_prototypes: m; null for three of each class.
        hidden: widths of the encoder's hidden layers.
        code_size: q.
        per_class, class_weight, reconstruction_weight, r1_weight, r2_weight: see `PrototypeNetwork`. Prototypes are
            of classes by default: tables are small, and free ones would leave classes without any.

    Raises:
        ConfigurationError: a width or number below 1, or fewer prototypes than classes with `per_class`.
    """

    def __init__(
        self,
        num_features: int = 4,
        num_classes: int = 2,
        num_prototypes: int | None = None,
        hidden: Sequence[int] = (32,),
        code_size: int = 8,
        per_class: bool = True,
        class_weight: float = 20.0,
        reconstruction_weight: float = 1.0,
        r1_weight: float = 1.0,
        r2_weight: float = 1.0,
    ) -> None:
        if code_size < 1:
            raise ConfigurationError(f"code_size is {code_size}", "give 1 or more")
        widths = [num_features, *hidden]
        super().__init__(
            nn.Sequential(*hidden_layers(num_features, hidden), nn.Linear(widths[-1], code_size)),
            nn.Sequential(
                *hidden_layers(code_size, hidden[::-1]), nn.Linear([code_size, *hidden[::-1]][-1], num_features)
            ),
            code_size,
            PER_CLASS * num_classes if num_prototypes is None else num_prototypes,
            num_classes,
            per_class=per_class,
            class_weight=class_weight,
            reconstruction_weight=reconstruction_weight,
            r1_weight=r1_weight,
            r2_weight=r2_weight,
        )
        self.look_at(num_features)
