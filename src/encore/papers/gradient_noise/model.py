"""The deep plain network of gradient noise (arXiv 1511.06807, section 4.1): nothing that would help it to learn."""

from __future__ import annotations

import itertools
import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.base.errors import ConfigurationError
from encore.base.registry import register_model
from encore.nn.model import EncoreModel

Initialisation = Literal["simple", "random_walk", "he", "zero"]
"""How weights begin; biases begin at zero in all.

`simple`: N(0, 0.1²), whatever the width. `random_walk`: N(0, g²/n) for n inputs, g = √2 exp(1.2 / (max(n, 6) - 2.4)),
which keeps the length of gradients on their way through ReLU layers (Sussillo and Abbott, arXiv 1412.6558; "good
initialisation 1"). `he`: N(0, 2/n) (He and others, arXiv 1502.01852; "good initialisation 2"). `zero`: all zero.
"""


def weight_deviation(initialisation: Initialisation, num_inputs: int) -> float:
    """Standard deviation of a layer's first weights; see `Initialisation`.

    Args:
        initialisation: the kind.
        num_inputs: n, inputs of the layer.
    """
    if initialisation == "simple":
        return 0.1
    if initialisation == "random_walk":
        return math.sqrt(2 / num_inputs) * math.exp(1.2 / (max(num_inputs, 6) - 2.4))
    return math.sqrt(2 / num_inputs) if initialisation == "he" else 0.0


def layer_sizes(num_inputs: int, depth: int, width: int, num_classes: int) -> list[tuple[int, int]]:
    """(inputs, outputs) of `depth` hidden layers and the output layer."""
    sizes = [num_inputs, *[width] * depth, num_classes]
    return list(itertools.pairwise(sizes))


@register_model("deep_mlp")
class DeepMLP(EncoreModel):
    """Twenty layers of fifty rectified units, one after the other.

    ```text
    (B, 3, H, W) → grey, at image_size → (B, n)
      → [linear 50 → ReLU (→ dropout)] × depth
      → linear → logits (B, K)
    ```

    Args:
        num_classes: K.
        depth: hidden layers; 20 in the paper, 5 in its control.
        width: units of each.
        image_size: (height, width) that the first layer sees; other pictures are resized.
        initialisation: how the weights begin; see `Initialisation`.
        dropout: share of hidden units that are dropped in training, 0…1.

    Raises:
        ConfigurationError: an argument has an impossible value.
    """

    def __init__(
        self,
        num_classes: int,
        depth: int = 20,
        width: int = 50,
        image_size: tuple[int, int] = (28, 28),
        initialisation: Initialisation = "simple",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if initialisation not in get_args(Initialisation):
            raise ConfigurationError(
                f"deep_mlp: initialisation '{initialisation}'", f"one of: {', '.join(get_args(Initialisation))}"
            )
        if depth < 1 or width < 1 or not 0 <= dropout < 1 or len(image_size) != 2 or min(image_size) < 1:
            raise ConfigurationError(
                f"deep_mlp: depth {depth}, width {width}, dropout {dropout}, image_size {tuple(image_size)}",
                "depth, width and both sides are at least 1, dropout lies in 0…1",
            )
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.layers = nn.ModuleList(
            nn.Linear(*sizes) for sizes in layer_sizes(math.prod(self.image_size), depth, width, num_classes)
        )
        self.dropout = nn.Dropout(dropout)
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=weight_deviation(initialisation, layer.in_features))
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in 0…1 → logits (B, K)."""
        grey = images.mean(dim=1, keepdim=True)
        if torch.compiler.is_exporting() or tuple(grey.shape[-2:]) != self.image_size:
            grey = F.interpolate(grey, self.image_size, mode="bilinear", antialias=True, align_corners=False)
        hidden = grey.flatten(1)
        *inner, last = self.layers
        for layer in inner:
            hidden = self.dropout(F.relu(layer(hidden)))
        logits: Tensor = last(hidden)
        return logits
