"""The decoder variants that SegNet-Basic is compared with in Table 1; all share its encoder.

| model | decoder | kept for it | parameters here | Table 1 |
|---|---|---|---|---|
| `segnet_basic_bilinear` | 1×1 classifier, fixed bilinear upsampling | nothing | 613,003 | 0.625 M |
| `segnet_basic_encoder_addition` | SegNet-Basic's, adding encoder maps | offsets and maps | 1,416,587 | 1.425 M |
| `segnet_basic_single_channel_decoder` | SegNet-Basic's, depthwise | offsets | 626,315 | 0.625 M |
| `fcn_basic` | learned upsampling of K maps, adding encoder maps reduced to K | K maps | 646,839 | 0.65 M |
| `fcn_basic_no_addition` | learned upsampling of K maps | nothing | 643,979 | 0.65 M |
| `fcn_basic_no_dim_reduction` | learned upsampling of 64 maps, adding encoder maps | 64 maps | 1,661,579 | 1.625 M |
| `fcn_basic_no_addition_no_dim_reduction` | learned upsampling of 64 maps | nothing | 1,661,579 | 1.625 M |

The paper's counts lie within 2.3 % of what its description and the prototxts add up to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from encore.base.registry import register_model
from encore.nn.pooling import PoolingOffsets
from encore.papers.segnet.model import (
    BasicEncoder,
    SegmentationHourglass,
    SegNetBasic,
    convolution,
    kept_for_decoder,
)


@register_model("segnet_basic_bilinear")
class SegNetBasicBilinear(BasicEncoder):
    """Bilinear-Interpolation: the smallest decoder, with fixed upsampling.

    ```text
    (B, 3, H, W) → encoder → (B, 64, ⌈H/16⌉, ⌈W/16⌉) → conv_classifier 1×1 → bilinear → logits (B, K, H, W)
    ```

    The upsampling stretches the deepest map over exactly (H, W), with pixel centres aligned (corners not).

    Args: see `BasicEncoder`.
    """

    def add_decoder(self) -> None:
        """Make the classifier."""
        self.conv_classifier = convolution(self.width, self.num_classes, kernel_size=1)

    def encode(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, in_channels, H, W) → (B, width, ⌈H/2^depth⌉, ⌈W/2^depth⌉) and (H, W)."""
        return self.encode_stages(x, lambda full, pooled, offsets: None), (x.shape[2], x.shape[3])

    def decode(self, features: Tensor, kept: tuple[int, int]) -> Tensor:
        """The deepest map and (H, W) → logits (B, num_classes, H, W)."""
        return F.interpolate(self.conv_classifier(features), kept, mode="bilinear", align_corners=False)


class FCNBasicDecoder(BasicEncoder):
    """The FCN decoders of the study: learned upsampling, with or without the encoder's maps.

    ```text
    with dimension reduction                             without
    (B, 64, ⌈H/16⌉, ⌈W/16⌉) → conv_classifier 1×1 → K    (B, 64, ⌈H/16⌉, ⌈W/16⌉)
      → [deconv 8×8 stride 2 on K channels → crop          → [deconv 8×8 stride 2 on 64 channels → crop
         (→ + conv_reduce_i 1×1 of the encoder map)]         (→ + encoder map)] × depth
         × depth → logits (B, K, H, W)                     → conv_classifier 1×1 → logits (B, K, H, W)
    ```

    The transposed convolutions are trainable, without bias, and begin as exact bilinear upsampling by 2: its
    4×4 kernel lies in the middle of the 8×8 one, zeros around it. (Caffe's `bilinear` filler spreads a tent
    for a factor of 4 over 8×8, which at stride 2 multiplies by 4 in every stage.) No convolution follows an
    addition, as in FCN; without reduction the classifier comes last.

    The map added after stage i is the encoder's own of that stage, before pooling: Table 1's storage column,
    11 and 64 where two bits per window are 1, counts these. Reduced maps are reduced when they are made, so
    that K channels are kept.

    Args: see `BasicEncoder`.
    """

    adds_encoder_maps: ClassVar[bool]
    reduces_dimensions: ClassVar[bool]

    def add_decoder(self) -> None:
        """Make classifier, reductions and upsampling layers, deepest first."""
        channels = self.num_classes if self.reduces_dimensions else self.width
        self.conv_classifier = convolution(self.width, self.num_classes, kernel_size=1)
        for stage in range(self.depth, 0, -1):
            if self.adds_encoder_maps and self.reduces_dimensions:
                self.add_module(f"conv_reduce{stage}", convolution(self.width, channels, kernel_size=1))
            self.add_module(f"deconv{stage}", bilinear_upsampling(channels))

    def encode(self, x: Tensor) -> tuple[Tensor, list[Any]]:
        """(B, in_channels, H, W) → (B, width, ⌈H/2^depth⌉, ⌈W/2^depth⌉), and of every stage its map or its (H, W)."""
        kept: list[Any] = []
        return self.encode_stages(x, lambda full, pooled, offsets: kept.append(self._kept(full, len(kept) + 1))), kept

    def _kept(self, full: Tensor, stage: int) -> Tensor | tuple[int, int]:
        if not self.adds_encoder_maps:
            return full.shape[2], full.shape[3]
        reduced: Tensor = self.get_submodule(f"conv_reduce{stage}")(full) if self.reduces_dimensions else full
        return reduced

    def decode(self, features: Tensor, kept: Sequence[Any]) -> Tensor:
        """The deepest map and what was kept → logits (B, num_classes, H, W)."""
        x = self.conv_classifier(features) if self.reduces_dimensions else features
        for stage, one in zip(range(self.depth, 0, -1), reversed(kept), strict=True):
            H, W = one.shape[2:] if isinstance(one, Tensor) else one
            x = self.get_submodule(f"deconv{stage}")(x)[..., :H, :W]
            if isinstance(one, Tensor):
                x = x + one
        return x if self.reduces_dimensions else self.conv_classifier(x)


@register_model("fcn_basic")
class FCNBasic(FCNBasicDecoder):
    """FCN-Basic: learned upsampling of K score maps, to which the encoder's maps, reduced to K, are added.

    Args: see `BasicEncoder`; the decoder is that of `FCNBasicDecoder`.
    """

    adds_encoder_maps = True
    reduces_dimensions = True


@register_model("fcn_basic_no_addition")
class FCNBasicNoAddition(FCNBasicDecoder):
    """FCN-Basic-NoAddition: learned upsampling that knows nothing of the encoder.

    Args: see `BasicEncoder`; the decoder is that of `FCNBasicDecoder`.
    """

    adds_encoder_maps = False
    reduces_dimensions = True


@register_model("fcn_basic_no_dim_reduction")
class FCNBasicNoDimReduction(FCNBasicDecoder):
    """FCN-Basic-NoDimReduction: learned upsampling of all 64 channels, with the encoder's maps as they are.

    Args: see `BasicEncoder`; the decoder is that of `FCNBasicDecoder`.
    """

    adds_encoder_maps = True
    reduces_dimensions = False


@register_model("fcn_basic_no_addition_no_dim_reduction")
class FCNBasicNoAdditionNoDimReduction(FCNBasicDecoder):
    """FCN-Basic-NoAddition-NoDimReduction: learned upsampling of all 64 channels, without the encoder's maps.

    Args: see `BasicEncoder`; the decoder is that of `FCNBasicDecoder`.
    """

    adds_encoder_maps = False
    reduces_dimensions = False


def bilinear_upsampling(num_channels: int) -> nn.ConvTranspose2d:
    """A trainable 8×8 transposed convolution, (B, C, H, W) → (B, C, 2H, 2W), that begins as bilinear."""
    layer = nn.ConvTranspose2d(num_channels, num_channels, 8, stride=2, padding=3, bias=False)
    layer.weight.data.copy_(F.pad(bilinear_kernel(num_channels, 2), (2, 2, 2, 2)))
    return layer


def bilinear_kernel(num_channels: int, factor: int) -> Tensor:
    """(C, C, 2·factor, 2·factor): enlarges each channel by `factor`, as `F.interpolate` does away from the border."""
    rise = (torch.arange(factor) + 0.5) / factor
    tent = torch.cat((rise, rise.flip(0)))
    return torch.einsum("ij,h,w->ijhw", torch.eye(num_channels), tent, tent)


@register_model("segnet_basic_single_channel_decoder")
class SegNetBasicSingleChannelDecoder(SegNetBasic):
    """SegNet-Basic-SingleChannelDecoder: each decoder filter sees one channel (a depthwise convolution).

    Args: see `BasicEncoder`.
    """

    @property
    def decoder_groups(self) -> int:
        """One group for each channel."""
        return self.width


@register_model("segnet_basic_encoder_addition")
class SegNetBasicEncoderAddition(SegNetBasic):
    """SegNet-Basic-EncoderAddition: unpooling, and the encoder's maps as well.

    ```text
    decoder stage i:  unpool(offsets of stage i) → conv_decode_i → batch normalisation → + encoder map
    ```

    Args:
        added_map: which encoder map is added after decoder stage i. `"pooled"`: the pooled map of stage i-1,
            which has the stage's size; nothing at full size, where there is none. `"before_pooling"`: the
            map of stage i itself, at every stage. Table 1 charges this variant 64 float maps where SegNet
            costs one (64 channels × 2 bits per 2×2 window are 32 bits per pixel): that is the latter.
        others: see `BasicEncoder`.
    """

    def __init__(
        self,
        num_classes: int = 11,
        in_channels: int = 3,
        width: int = 64,
        kernel_size: int = 7,
        depth: int = 4,
        local_response_norm: bool = True,
        added_map: Literal["pooled", "before_pooling"] = "pooled",
    ) -> None:
        super().__init__(num_classes, in_channels, width, kernel_size, depth, local_response_norm)
        if added_map not in ("pooled", "before_pooling"):
            raise ValueError(f"added_map '{added_map}' is neither 'pooled' nor 'before_pooling'")
        self.added_map = added_map

    def encode(self, x: Tensor) -> tuple[Tensor, list[tuple[PoolingOffsets, Tensor | None]]]:
        """(B, in_channels, H, W) → the deepest map, and per stage the offsets and the map to add."""
        stages: list[tuple[PoolingOffsets, Tensor, Tensor]] = []
        features = self.encode_stages(x, lambda full, pooled, offsets: stages.append((offsets, full, pooled)))
        offsets, full_maps, pooled_maps = zip(*stages, strict=True)
        maps = full_maps if self.added_map == "before_pooling" else (None, *pooled_maps[:-1])
        return features, list(zip(offsets, maps, strict=True))

    def decode(self, features: Tensor, kept: Sequence[tuple[PoolingOffsets, Tensor | None]]) -> Tensor:
        """The deepest map, the offsets and the maps → logits (B, num_classes, H, W)."""
        x = features
        for stage, (offsets, encoder_map) in zip(range(self.depth, 0, -1), reversed(kept), strict=True):
            x = self.apply_unit(f"conv_decode{stage}", self.unpool(x, offsets), relu=False)
            if encoder_map is not None:
                x = x + encoder_map
        return self.conv_classifier(x)


def feature_map_bytes(model: SegmentationHourglass, height: int, width: int, *, pooled: bool = False) -> int:
    """The bytes that the encoder's maps would take for one picture, if these were kept for the decoder.

    To be set against `stored_bytes`: two bits per window are 1/64 of the float32 maps before pooling, which
    the storage column of Table 1 counts, and 1/16 of the pooled ones.

    Args:
        model: one that keeps pooling offsets (`segnet`, `segnet_basic`).
        height, width: of the picture, in pixels.
        pooled: count each stage's map after its pooling instead of before.
    """
    kept = tree_leaves(kept_for_decoder(model, height, width), is_leaf=_is_offsets)
    itemsize = next(model.parameters()).dtype.itemsize
    sizes = [(one.num_channels, one.packed.shape[2:] if pooled else one.size) for one in kept if _is_offsets(one)]
    return sum(num_channels * H * W * itemsize for num_channels, (H, W) in sizes)


def _is_offsets(leaf: Any) -> bool:
    return isinstance(leaf, PoolingOffsets)
