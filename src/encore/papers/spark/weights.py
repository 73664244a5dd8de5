"""The authors' checkpoints: whole pre-training models, and encoders alone in torchvision's or ConvNeXt's layout.

A file with decoder opens as `spark`, one without as its plain backbone (`resnet`, `convnext`). What no shape tells is
the mask ratio and the size of pictures; give `mask_ratio=0.75, image_size=384` for the ConvNeXt-L of 384 pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

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

_STAGE = "encoder.encoder.stages."

_RESNET_KINDS = {"conv": "convolution", "bn": "normalization"}
_CONVNEXT_LAYERS = {"norm": "layernorm", "gamma": "layer_scale_parameter"}


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are of the authors' pre-training, of a ResNet in torchvision's or an official ConvNeXt."""
    return "mask_tokens.0" in state or _is_resnet(state) or _is_convnext(state)


def configuration(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """The model's name and arguments, read off names and shapes."""
    if "mask_tokens.0" not in state:
        return _backbone(state)
    backbone, arguments = _backbone(_encoder_of(state))
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
        return _converted_encoder(state)
    converted = {f"encoder.{name}": tensor for name, tensor in _converted_encoder(_encoder_of(state)).items()}
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


def _is_resnet(state: Mapping[str, Tensor]) -> bool:
    return {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"} <= state.keys()


def _is_convnext(state: Mapping[str, Tensor]) -> bool:
    return {"downsample_layers.0.0.weight", "stages.0.0.dwconv.weight"} <= state.keys()


def _backbone(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    return ("resnet", _resnet(state)) if _is_resnet(state) else ("convnext", _convnext(state))


def _depths(state: Mapping[str, Tensor], pattern: str, first: int) -> list[int]:
    """Blocks of each stage, counted by names; `pattern` holds the numbers of stage and block."""
    places = [(int(found[1]), int(found[2])) for found in (re.match(pattern, name) for name in state) if found]
    stages = range(first, 1 + max(stage for stage, _ in places))
    return [1 + max(block for stage, block in places if stage == one) for one in stages]


def _num_classes(state: Mapping[str, Tensor], head: str) -> int:
    return state[head].shape[0] if head in state else 0


def _resnet(state: Mapping[str, Tensor]) -> dict[str, Any]:
    depths = _depths(state, r"layer(\d+)\.(\d+)\.", 1)
    last = "conv3" if "layer1.0.conv3.weight" in state else "conv2"
    stem = state["conv1.weight"]
    return {
        "num_classes": _num_classes(state, "fc.weight"),
        "in_channels": stem.shape[1],
        "depths": depths,
        "hidden_sizes": [state[f"layer{stage}.0.{last}.weight"].shape[0] for stage in range(1, 1 + len(depths))],
        "layer_type": "bottleneck" if last == "conv3" else "basic",
        "embedding_size": stem.shape[0],
        "small_stem": stem.shape[2] == 3,
    }


def _convnext(state: Mapping[str, Tensor]) -> dict[str, Any]:
    depths = _depths(state, r"stages\.(\d+)\.(\d+)\.", 0)
    stem = state["downsample_layers.0.0.weight"]
    return {
        "num_classes": _num_classes(state, "head.weight"),
        "in_channels": stem.shape[1],
        "depths": depths,
        "dims": [state[f"stages.{stage}.0.dwconv.weight"].shape[0] for stage in range(len(depths))],
        "patch_size": stem.shape[2],
        "layer_scale": 1e-6 if "stages.0.0.gamma" in state else None,
    }


def _converted_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = _resnet_name if _is_resnet(state) else _convnext_name
    classified = "fc.weight" in state or "head.weight" in state
    return {renamed(name): tensor for name, tensor in state.items() if classified or not name.startswith("norm.")}


def _resnet_name(name: str) -> str:
    if found := re.fullmatch(r"(conv|bn)1\.(\w+)", name):
        return f"encoder.embedder.embedder.{_RESNET_KINDS[found[1]]}.{found[2]}"
    if found := re.fullmatch(r"layer(\d+)\.(\d+)\.(conv|bn)(\d)\.(\w+)", name):
        stage, block, kind, place, rest = found.groups()
        return f"{_STAGE}{int(stage) - 1}.layers.{block}.layer.{int(place) - 1}.{_RESNET_KINDS[kind]}.{rest}"
    if found := re.fullmatch(r"layer(\d+)\.(\d+)\.downsample\.([01])\.(\w+)", name):
        stage, block, place, rest = found.groups()
        return f"{_STAGE}{int(stage) - 1}.layers.{block}.shortcut.{('convolution', 'normalization')[int(place)]}.{rest}"
    return name.replace("fc.", "head.", 1) if name.startswith("fc.") else name


def _convnext_name(name: str) -> str:
    if found := re.fullmatch(r"downsample_layers\.0\.([01])\.(\w+)", name):
        return f"encoder.embeddings.{('patch_embeddings', 'layernorm')[int(found[1])]}.{found[2]}"
    if found := re.fullmatch(r"downsample_layers\.(\d+)\.([01]\.\w+)", name):
        return f"{_STAGE}{found[1]}.downsampling_layer.{found[2]}"
    if found := re.fullmatch(r"stages\.(\d+)\.(\d+)\.(\w+)(.*)", name):
        stage, block, layer, rest = found.groups()
        return f"{_STAGE}{stage}.layers.{block}.{_CONVNEXT_LAYERS.get(layer, layer)}{rest}"
    return name
