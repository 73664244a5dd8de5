"""What sets the families of backbones apart: their heads, the stride of their first map, stochastic depth, stems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from encore.nn.stochastic_depth import DropPath


@dataclass(frozen=True)
class Family:
    """A `model_type` whose classification networks are known.

    Attributes:
        head: between the last map and the linear layer: the mean; the mean, then layer normalisation; or layer
            normalisation of every place, then the mean.
        body: where the backbone holds what the classification model calls its body; empty for its own root.
    """

    head: Literal["mean", "mean_norm", "norm_mean"]
    body: str = ""

    def backbone_state(self, body: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The body's tensors under the backbone's names, without the norm that belongs to the head."""
        prefix = f"{self.body}." if self.body else ""
        return {f"{prefix}{name}": one for name, one in body.items() if not name.startswith("layernorm.")}


FAMILIES = {
    "resnet": Family("mean"),
    "convnext": Family("mean_norm"),
    "convnextv2": Family("mean_norm"),
    "swin": Family("norm_mean", body="swin"),
}
"""By `model_type`; any other backbone of transformers is classified by the mean of its last map."""


def prepare(encoder: Any, config: Any, *, feature_norms: bool, drop_path: float, small_stem: bool) -> None:
    """Bring a freshly made backbone of transformers into the shape that Encore takes it in.

    Args:
        encoder: changed in place.
        config: of which it was made.
        feature_norms: whether the norms on its maps stay.
        drop_path: stochastic depth of residual networks, which transformers leaves out.
        small_stem: 3×3 convolution of stride 1 instead of residual networks' 7×7 of stride 2 and max pooling.

    Raises:
        ValueError: the architecture has no such option.
    """
    model_type = config.model_type
    norms = getattr(encoder, "hidden_states_norms", None)
    if feature_norms and norms is None:
        raise ValueError(f"feature_norms: a {model_type} has no norms on its maps")
    if norms is not None and not feature_norms:
        for name in norms:
            norms[name] = nn.Identity()
    if model_type == "swin":
        encoder.swin.layernorm = nn.Identity()  # belongs to the head
        for stage in encoder.swin.encoder.layers:
            stage.register_forward_pre_hook(_shift_windows)
    if model_type == "resnet":
        _drop_paths(encoder, drop_path)
    elif drop_path and not hasattr(config, "drop_path_rate"):
        raise ValueError(f"drop_path: a {model_type} has no stochastic depth")
    if small_stem:
        _small_stem(encoder, model_type)


def _shift_windows(stage: Any, arguments: tuple[Any, ...]) -> None:
    """Shift the windows of every second block, but not where a single window spans the map.

    As in the authors' classification code; transformers' own switch for it stays off forever once it has seen such a
    map, and is for maps of exactly one window.
    """
    size = min(arguments[1])
    for index, block in enumerate(stage.blocks):
        block.shift_size = block.window_size // 2 if index % 2 and size > block.window_size else 0


def _drop_paths(encoder: Any, rate: float) -> None:
    """Stochastic depth at the end of every residual branch, rising linearly from 0 to `rate`."""
    if not rate:
        return
    layers = [layer for stage in encoder.encoder.stages for layer in stage.layers]
    for layer, probability in zip(layers, torch.linspace(0, rate, len(layers), device="cpu").tolist(), strict=True):
        layer.layer.append(DropPath(probability))


def _small_stem(encoder: Any, model_type: str) -> None:
    if model_type != "resnet":
        raise ValueError(f"small_stem: a {model_type} has none; residual networks do")
    stem = encoder.embedder.embedder
    before = stem.convolution
    stem.convolution = nn.Conv2d(before.in_channels, before.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.convolution.weight, mode="fan_out", nonlinearity="relu")
    encoder.embedder.pooler = nn.Identity()


def reductions(encoder: Any, config: Any, *, small_stem: bool) -> list[int]:
    """The stride of every map, in pixels of the picture.

    Raises:
        ValueError: the backbone's answer is no list of maps (B, C, H, W).
    """
    num_maps = len(encoder.channels)
    if config.model_type == "resnet":
        first = (1 if small_stem else 4) * (2 if config.downsample_in_first_stage else 1)
    elif config.model_type in FAMILIES:
        patch = config.patch_size
        first = patch if isinstance(patch, int) else max(patch)
    else:
        return _measured(encoder, config)
    return [first * 2**stage for stage in range(num_maps)]


@torch.no_grad()
def _measured(encoder: Any, config: Any) -> list[int]:
    size = getattr(config, "image_size", None) or 224
    height = size if isinstance(size, int) else size[0]
    width = size if isinstance(size, int) else size[1]
    device = next(encoder.parameters()).device
    training = encoder.training
    maps = encoder.eval()(torch.zeros(1, config.num_channels, height, width, device=device)).feature_maps
    encoder.train(training)
    if any(one.ndim != 4 for one in maps):
        raise ValueError(f"a {config.model_type} of this config hands out no maps (B, C, H, W)")
    return [round(height / one.shape[-2]) for one in maps]
