"""The authors' checkpoints: classification models, and the backbones inside of detection and segmentation models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_BACKBONE = "backbone."


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are a HorNet's in the official layout, alone or as the backbone of a detector."""
    names = own(state)
    return "downsample_layers.0.0.weight" in names and any(".gnconv." in name for name in names)


def own(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's tensors; of a detection or segmentation model, those below `backbone`."""
    below = {name.removeprefix(_BACKBONE): one for name, one in state.items() if name.startswith(_BACKBONE)}
    return below or dict(state)


def configuration(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """`hornet` with widths, depths, orders and filters read off names and shapes."""
    tensors = own(state)
    first = tensors["downsample_layers.0.0.weight"]
    found = [re.match(r"stages\.(\d+)\.(\d+)\.", name) for name in tensors]
    places = {(int(match[1]), int(match[2])) for match in found if match}
    stages = range(1 + max(stage for stage, _ in places))
    depths = [1 + max(block for stage, block in places if stage == index) for index in stages]
    orders, filters = [], []
    for stage in stages:
        prefix = f"stages.{stage}.0.gnconv."
        gates = [name for name in tensors if re.fullmatch(rf"{re.escape(prefix)}pws\.\d+\.weight", name)]
        orders.append(1 + len(gates))
        filter_ = tensors.get(f"{prefix}dwconv.complex_weight")
        filters.append(None if filter_ is None else list(filter_.shape[1:3]))
    head = tensors.get("head.weight")
    return "hornet", {
        "num_classes": 0 if head is None else head.shape[0],
        "in_channels": first.shape[1],
        "width": first.shape[0],
        "depths": depths,
        "orders": orders,
        "filters": filters,
        "layer_scale": 1e-6 if "stages.0.0.gamma1" in tensors else None,
        "feature_norms": "norm0.weight" in tensors,
    }


def is_encoder(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are a backbone's, without a classifier."""
    return "head.weight" not in own(state)


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by our names: `gnconv` is one `mixer` among others here."""
    return {name.replace(".gnconv.", ".mixer."): tensor for name, tensor in own(state).items()}
