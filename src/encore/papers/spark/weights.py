"""The authors' checkpoints: whole pre-training models, and encoders alone in torchvision's or ConvNeXt's layout.

A file with decoder opens as `spark`, one without as its plain backbone (`resnet`, `convnext`). What no shape tells is
the mask ratio and the size of pictures; give `mask_ratio=0.75, image_size=384` for the ConvNeXt-L of 384 pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from encore.nn.backbones import official

_ENCODER = "sparse_encoder.sp_cnn."
_UNUSED = ("imn_m", "imn_s", "norm_black")
"""Buffers for the authors' pictures."""

_DECODER_NAMES = (
    (r"^dense_decoder\.dec\.(\d+)\.up_sample\.", r"decoder.blocks.\1.upsample."),
    (r"^dense_decoder\.dec\.(\d+)\.conv\.", r"decoder.blocks.\1.conv."),
    (r"^dense_decoder\.proj\.", "decoder.proj."),
    (r"^densify_norms\.(\d+)\.(bn\.)?", r"densify.\1.norm."),
    (r"^densify_projs\.(\d+)\.", r"densify.\1.proj."),
    (r"^mask_tokens\.(\d+)$", r"densify.\1.mask_token"),
)


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are of the authors' pre-training, of a ResNet in torchvision's or an official ConvNeXt."""
    return "mask_tokens.0" in state or official.recognises(state)


def configuration(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """The model's name and arguments, read off names and shapes."""
    if "mask_tokens.0" not in state:
        return official.configuration(state)
    backbone, arguments = official.configuration(_encoder_of(state))
    return "spark", {
        "backbone": backbone,
        "backbone_arguments": arguments,
        "width": state["dense_decoder.dec.0.up_sample.weight"].shape[0],
        "hierarchy": sum(re.fullmatch(r"mask_tokens\.\d+", name) is not None for name in state),
        "densify_norm": "bn" if any(re.match(r"densify_norms\.0\..*running_mean", name) for name in state) else "ln",
    }


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by our names."""
    if "mask_tokens.0" not in state:
        return official.convert(state)
    converted = {f"encoder.{name}": tensor for name, tensor in official.convert(_encoder_of(state)).items()}
    for name, tensor in state.items():
        if name.startswith(_ENCODER) or name in _UNUSED:
            continue
        for pattern, ours in _DECODER_NAMES:
            name, changed = re.subn(pattern, ours, name)
            if changed:
                break
        converted[name] = tensor
    return converted


def _encoder_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(_ENCODER): one for name, one in state.items() if name.startswith(_ENCODER)}
