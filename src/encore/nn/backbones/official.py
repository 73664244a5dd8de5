"""Published checkpoints of ResNet (torchvision's and timm's layout) and of ConvNeXt (its authors'), by our names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_STAGE = "encoder.encoder.stages."

_RESNET_KINDS = {"conv": "convolution", "bn": "normalization"}
_CONVNEXT_LAYERS = {"norm": "layernorm", "gamma": "layer_scale_parameter"}


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are of a ResNet in torchvision's layout, or of a ConvNeXt in its authors'."""
    return _is_resnet(state) or _is_convnext(state)


def is_encoder(state: Mapping[str, Tensor]) -> bool:
    """Whether they classify nothing."""
    return "fc.weight" not in state and "head.weight" not in state


def configuration(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """`resnet` or `convnext` with its arguments, read off names and shapes."""
    return ("resnet", _resnet(state)) if _is_resnet(state) else ("convnext", _convnext(state))


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by our names; an encoder's last norm, which is the head's, is left out."""
    renamed = _resnet_name if _is_resnet(state) else _convnext_name
    alone = is_encoder(state)
    return {renamed(name): tensor for name, tensor in state.items() if not alone or not name.startswith("norm.")}


def _is_resnet(state: Mapping[str, Tensor]) -> bool:
    return {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"} <= state.keys()


def _is_convnext(state: Mapping[str, Tensor]) -> bool:
    return {"downsample_layers.0.0.weight", "stages.0.0.dwconv.weight"} <= state.keys()


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
