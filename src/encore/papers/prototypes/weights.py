"""The official TensorFlow variables of the MNIST network, by our names.

The official code flattens codes channel-last, ours channel-first: with the other names goes one permutation of every
prototype. Its variables (https://github.com/OscarcarLi/PrototypeDL): `encoder_f1…`, `encoder_b1…`, `decoder_f1…`,
`decoder_b1…`, `last_layer_w`, `prototype_feature_vectors`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from encore.base.errors import CheckpointError

PROTOTYPES, HEAD = "prototype_feature_vectors", "last_layer_w"


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are named as the official code names them."""
    return {PROTOTYPES, HEAD, "encoder_f1", "decoder_f1"} <= set(state)


def configuration(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """`prototypes` with channels and numbers read off the shapes.

    The size of the pictures is in no shape: the official one (28 × 28) where the length of the codes allows it, else
    the largest square.
    """
    depth = _num_layers(state)
    widths = [int(state[f"encoder_f{layer}"].shape[3]) for layer in range(1, depth + 1)]
    num_prototypes, code_size = state[PROTOTYPES].shape
    side = _side(code_size, widths[-1])
    unit = 2**depth
    length = 28 if -(-28 // unit) == side else unit * side
    return "prototypes", {
        "num_classes": int(state[HEAD].shape[1]),
        "num_prototypes": int(num_prototypes),
        "num_channels": int(state["encoder_f1"].shape[2]),
        "widths": widths,
        "image_size": [length, length],
    }


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Kernels (height, width, in, out) → (out, in, height, width), those of the decoder (height, width, out, in) → (in,
    out, height, width); layers of the decoder, which count towards the picture, in the order of use."""
    depth = _num_layers(state)
    converted: dict[str, Tensor] = {}
    for layer in range(1, depth + 1):
        for part, place in (("encoder", layer - 1), ("decoder", depth - layer)):
            converted[f"{part}.{place}.weight"] = state[f"{part}_f{layer}"].permute(3, 2, 0, 1).contiguous()
            converted[f"{part}.{place}.bias"] = state[f"{part}_b{layer}"]
    prototypes = state[PROTOTYPES]
    channels = int(state[f"encoder_f{depth}"].shape[3])
    side = _side(prototypes.shape[1], channels)
    maps = prototypes.reshape(-1, side, side, channels)
    converted["prototypes"] = maps.permute(0, 3, 1, 2).flatten(1).contiguous()
    converted["head.weight"] = state[HEAD].T.contiguous()
    return converted


def _num_layers(state: Mapping[str, Tensor]) -> int:
    return max(int(found[1]) for name in state if (found := re.fullmatch(r"encoder_f(\d+)", name)))


def _side(code_size: int, channels: int) -> int:
    side = round((code_size / channels) ** 0.5)
    if side * side * channels != code_size:
        raise CheckpointError(
            f"prototypes of {code_size} values are no square map of {channels} channels",
            "give a file of square pictures",
        )
    return side
