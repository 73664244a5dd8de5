"""ResNet, ConvNeXt and Swin Transformer by name, from configs written out here; nothing is downloaded.

Sizes are those of He and others (arXiv 1512.03385), Liu and others (2201.03545 and 2103.14030) and Woo and others
(2301.00808).
"""

from __future__ import annotations

from collections.abc import Sequence

from encore.base.registry import register_model
from encore.nn.backbones.transformers_backbone import TransformersBackbone


def _check_stages(**sequences: Sequence[int]) -> None:
    lengths = {name: len(values) for name, values in sequences.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"stages differ in number: {', '.join(f'{name} {count}' for name, count in lengths.items())}")
    for name, values in sequences.items():
        if any(value < 1 for value in values):
            raise ValueError(f"{name} has values below 1: {list(values)}")


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} is {value}")


@register_model("resnet")
def resnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 4, 6, 3),
    hidden_sizes: Sequence[int] = (256, 512, 1024, 2048),
    layer_type: str = "bottleneck",
    embedding_size: int = 64,
    small_stem: bool = False,
    drop_path: float = 0.0,
) -> TransformersBackbone:
    """A residual network of any size (version 1.5: bottlenecks stride in their 3×3 convolution).

    Args:
        num_classes: K; 0 for a backbone that classifies nothing.
        in_channels: channels of the pictures.
        depths: blocks of each stage.
        hidden_sizes: channels of each stage's map.
        layer_type: `bottleneck` (1×1, 3×3, 1×1 at a quarter of the width) or `basic` (two 3×3).
        embedding_size: channels of the stem.
        small_stem: 3×3 convolution of stride 1 without max pooling, for small pictures; maps are 4 times as large.
        drop_path: stochastic depth, rising linearly to this over all blocks.

    Raises:
        ValueError: the stages' numbers differ, or a value is impossible.
    """
    _check_stages(depths=depths, hidden_sizes=hidden_sizes)
    _check_positive(embedding_size=embedding_size)
    if layer_type not in ("basic", "bottleneck"):
        raise ValueError(f"layer_type is '{layer_type}'; it is 'basic' or 'bottleneck'")
    if layer_type == "bottleneck" and any(size % 4 for size in hidden_sizes):
        raise ValueError(f"hidden_sizes of bottlenecks are multiples of 4, not {list(hidden_sizes)}")
    config = {
        "model_type": "resnet",
        "depths": list(depths),
        "hidden_sizes": list(hidden_sizes),
        "layer_type": layer_type,
        "embedding_size": embedding_size,
    }
    return TransformersBackbone(
        config=config, num_classes=num_classes, in_channels=in_channels, drop_path=drop_path, small_stem=small_stem
    )


def _convnext(
    model_type: str,
    own: dict[str, float],
    num_classes: int,
    in_channels: int,
    depths: Sequence[int],
    dims: Sequence[int],
    patch_size: int,
    drop_path: float,
    feature_norms: bool,
) -> TransformersBackbone:
    _check_stages(depths=depths, dims=dims)
    _check_positive(patch_size=patch_size)
    config = {
        "model_type": model_type,
        "num_stages": len(depths),
        "depths": list(depths),
        "hidden_sizes": list(dims),
        "patch_size": patch_size,
        "layer_norm_eps": 1e-6,
        **own,
    }
    return TransformersBackbone(
        config=config,
        num_classes=num_classes,
        in_channels=in_channels,
        drop_path=drop_path,
        feature_norms=feature_norms,
    )


@register_model("convnext")
def convnext(
    num_classes: int = 1000,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 3, 9, 3),
    dims: Sequence[int] = (96, 192, 384, 768),
    patch_size: int = 4,
    drop_path: float = 0.0,
    layer_scale: float | None = 1e-6,
    feature_norms: bool = False,
) -> TransformersBackbone:
    """A ConvNeXt of any size.

    Args:
        num_classes: K; 0 for a backbone that classifies nothing.
        in_channels: channels of the pictures.
        depths: blocks of each stage.
        dims: channels of each stage's map.
        patch_size: side and stride of the stem's convolution; 1 or 2 for small pictures.
        drop_path: stochastic depth, rising linearly to this over all blocks.
        layer_scale: where the branches' factors begin; None for no factors.
        feature_norms: whether every map that is handed out is normalised.

    Raises:
        ValueError: the stages' numbers differ, or a value is impossible.
    """
    own = {"layer_scale_init_value": layer_scale or 0.0}
    return _convnext("convnext", own, num_classes, in_channels, depths, dims, patch_size, drop_path, feature_norms)


@register_model("convnextv2")
def convnextv2(
    num_classes: int = 1000,
    in_channels: int = 3,
    depths: Sequence[int] = (3, 3, 9, 3),
    dims: Sequence[int] = (96, 192, 384, 768),
    patch_size: int = 4,
    drop_path: float = 0.0,
    feature_norms: bool = False,
) -> TransformersBackbone:
    """A ConvNeXt V2 of any size: global response normalisation in place of the branches' factors.

    Args and errors are those of `convnext`.
    """
    return _convnext("convnextv2", {}, num_classes, in_channels, depths, dims, patch_size, drop_path, feature_norms)


@register_model("swin")
def swin(
    num_classes: int = 1000,
    in_channels: int = 3,
    depths: Sequence[int] = (2, 2, 6, 2),
    num_heads: Sequence[int] = (3, 6, 12, 24),
    embed_dim: int = 96,
    window_size: int = 7,
    patch_size: int = 4,
    drop_path: float = 0.0,
    feature_norms: bool = False,
) -> TransformersBackbone:
    """A Swin Transformer of any size, for pictures of any size.

    Args:
        num_classes: K; 0 for a backbone that classifies nothing.
        in_channels: channels of the pictures.
        depths: blocks of each stage.
        num_heads: attention heads of each stage.
        embed_dim: channels C of the first stage's map; stage i has C·2^i.
        window_size: side of the windows of attention.
        patch_size: side and stride of the stem's convolution.
        drop_path: stochastic depth, rising linearly to this over all blocks.
        feature_norms: whether every map that is handed out is normalised.

    Raises:
        ValueError: the stages' numbers differ, a width is no multiple of its heads, or a value is impossible.
    """
    _check_stages(depths=depths, num_heads=num_heads)
    _check_positive(embed_dim=embed_dim, window_size=window_size, patch_size=patch_size)
    for stage, heads in enumerate(num_heads):
        if embed_dim * 2**stage % heads:
            raise ValueError(f"num_heads: {embed_dim * 2**stage} channels of stage {stage + 1} in {heads} heads")
    config = {
        "model_type": "swin",
        "depths": list(depths),
        "num_heads": list(num_heads),
        "embed_dim": embed_dim,
        "window_size": window_size,
        "patch_size": patch_size,
    }
    return TransformersBackbone(
        config=config,
        num_classes=num_classes,
        in_channels=in_channels,
        drop_path=drop_path,
        feature_norms=feature_norms,
    )


RESNETS: dict[int, tuple[str, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    26: ("bottleneck", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
"""Kind and number of blocks by the number of layers."""

CONVNEXTS: dict[str, tuple[tuple[int, ...], int]] = {
    "tiny": ((3, 3, 9, 3), 96),
    "small": ((3, 3, 27, 3), 96),
    "base": ((3, 3, 27, 3), 128),
    "large": ((3, 3, 27, 3), 192),
}
"""Blocks, and channels of the first stage."""

SWINS: dict[str, tuple[tuple[int, ...], int, int]] = {
    "tiny": ((2, 2, 6, 2), 96, 3),
    "small": ((2, 2, 18, 2), 96, 3),
    "base": ((2, 2, 18, 2), 128, 4),
    "large": ((2, 2, 18, 2), 192, 6),
}
"""Blocks, channels and heads of the first stage."""


def _doubling(first: int) -> list[int]:
    return [first * 2**stage for stage in range(4)]


def _register_resnet(num_layers: int) -> None:
    @register_model(f"resnet{num_layers}")
    def make(
        num_classes: int = 1000, in_channels: int = 3, small_stem: bool = False, drop_path: float = 0.0
    ) -> TransformersBackbone:
        layer_type, depths = RESNETS[num_layers]
        sizes = _doubling(64 if layer_type == "basic" else 256)
        return resnet(num_classes, in_channels, depths, sizes, layer_type, small_stem=small_stem, drop_path=drop_path)


def _register_convnext(size: str) -> None:
    @register_model(f"convnext_{size}")
    def make(
        num_classes: int = 1000,
        in_channels: int = 3,
        patch_size: int = 4,
        drop_path: float = 0.0,
        layer_scale: float | None = 1e-6,
        feature_norms: bool = False,
    ) -> TransformersBackbone:
        depths, dim = CONVNEXTS[size]
        return convnext(
            num_classes, in_channels, depths, _doubling(dim), patch_size, drop_path, layer_scale, feature_norms
        )


def _register_convnextv2(size: str) -> None:
    @register_model(f"convnextv2_{size}")
    def make(
        num_classes: int = 1000,
        in_channels: int = 3,
        patch_size: int = 4,
        drop_path: float = 0.0,
        feature_norms: bool = False,
    ) -> TransformersBackbone:
        depths, dim = CONVNEXTS[size]
        return convnextv2(num_classes, in_channels, depths, _doubling(dim), patch_size, drop_path, feature_norms)


def _register_swin(size: str) -> None:
    @register_model(f"swin_{size}")
    def make(
        num_classes: int = 1000,
        in_channels: int = 3,
        patch_size: int = 4,
        drop_path: float = 0.0,
        feature_norms: bool = False,
    ) -> TransformersBackbone:
        depths, dim, heads = SWINS[size]
        return swin(
            num_classes,
            in_channels,
            depths,
            _doubling(heads),
            dim,
            patch_size=patch_size,
            drop_path=drop_path,
            feature_norms=feature_norms,
        )


for _layers in RESNETS:
    _register_resnet(_layers)
for _size in CONVNEXTS:
    _register_convnext(_size)
for _size in ("tiny", "base"):
    _register_convnextv2(_size)
for _size in SWINS:
    _register_swin(_size)
