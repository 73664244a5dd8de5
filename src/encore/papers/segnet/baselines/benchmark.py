"""The networks of the controlled benchmark (section 4, Tables 3 and 6), all on VGG16's convolutions.

| model | after the encoder | kept for the decoder | weights, K = 11 | paper, MB |
|---|---|---|---|---|
| `fcn8s_fixed`, `fcn8s_learnt` | fc6, fc7 convolutional, three scores added | K maps (pool3, pool4) | 134.3 M | 539 |
| `deeplab_largefov` | dilated conv5 and fc6, one bilinear step by 8 | nothing | 20.5 M | 83 |
| `deconvnet` | fc6, fc7 of 1024, mirrored deconvolutions with unpooling | offsets | 81.9 M | 877 |
| `vgg16_unet` | decoder of a U-Net, concatenating encoder maps | whole maps of four stages | 25.9 M | – |

As in section 4 every convolution but the classifying ones is followed by batch normalisation, and input is
SegNet's. What the paper leaves open is said at each class.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.base.registry import register_model
from encore.nn.model import FeatureInfo
from encore.nn.pooling import PoolingOffsets
from encore.papers.segnet.baselines.decoders import bilinear_kernel
from encore.papers.segnet.model import ENCODER, SegmentationHourglass, SegNet, convolution

Size = tuple[int, int]


class VGG16Encoder(SegmentationHourglass):
    """VGG16's 13 convolutions with batch normalisation, which all networks of the benchmark share.

    Args:
        num_classes: K; 11 for CamVid.
        in_channels: channels of the pictures.
        dropout: in training, behind the wide layers that follow the encoder.
    """

    def __init__(self, num_classes: int = 11, in_channels: int = 3, dropout: float = 0.0) -> None:
        super().__init__(num_classes, in_channels, ENCODER, kernel_size=3, dropout=dropout, dropout_places=("wide",))
        self.add_decoder()

    @abstractmethod
    def add_decoder(self) -> None:
        """Make what follows the encoder."""

    def wide(self, name: str, x: Tensor) -> Tensor:
        """A unit that stands for a fully connected layer, with dropout."""
        return self.drop("wide", self.apply_unit(name, x))


def size_of(x: Tensor) -> Size:
    """(H, W) of a map."""
    return x.shape[2], x.shape[3]


class FCN8s(VGG16Encoder):
    """FCN-8s (Long, Shelhamer, Darrell; arXiv 1411.4038): fully connected layers as convolutions, three scores added.

    ```text
    pool5 (512, ⌈H/32⌉, ⌈W/32⌉) → fc6 7×7 4096 → fc7 1×1 4096 → score_fr 1×1 → K
      → upscore2 (×2) + score_pool4 (1×1 of pool4) → upscore_pool4 (×2) + score_pool3 (1×1 of pool3) → upscore8 (×8)
    ```

    fc6 is padded by 3, so that no border of 100 pixels has to be added to the picture and cropped again; the
    paper's model size, 539 MB, is that of the 4096 channels kept here.

    Args: see `VGG16Encoder`.
    """

    learns_upsampling: bool

    def add_decoder(self) -> None:
        """Make fc6, fc7, the three classifiers and the upsampling."""
        self.add_unit("fc6", 512, 4096, 7)
        self.add_unit("fc7", 4096, 4096, 1)
        self.score_fr = convolution(4096, self.num_classes, 1)
        self.score_pool4 = convolution(512, self.num_classes, 1)
        self.score_pool3 = convolution(256, self.num_classes, 1)
        if self.learns_upsampling:
            for name, factor in (("upscore2", 2), ("upscore_pool4", 2), ("upscore8", 8)):
                self.add_module(name, upsampling_layer(self.num_classes, factor))

    def encode(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Size]]:
        """(B, C, H, W) → pool5, and the scores of pool4 and pool3 with (H, W)."""
        pooled: list[Tensor] = []
        features = self.encode_stages(x, lambda full, pool, places: pooled.append(pool))
        return features, (self.score_pool4(pooled[3]), self.score_pool3(pooled[2]), size_of(x))

    def decode(self, features: Tensor, kept: tuple[Tensor, Tensor, Size]) -> Tensor:
        """pool5 and the kept scores → logits (B, num_classes, H, W)."""
        pool4, pool3, size = kept
        x = self.score_fr(self.wide("fc7", self.wide("fc6", features)))
        x = self.upsample("upscore2", x, size_of(pool4), 2) + pool4
        x = self.upsample("upscore_pool4", x, size_of(pool3), 2) + pool3
        return self.upsample("upscore8", x, size, 8)

    def upsample(self, name: str, x: Tensor, size: Size, factor: int) -> Tensor:
        """Enlarge by `factor` and cut to `size`; bilinear, or with the trained kernel `name`."""
        if self.learns_upsampling:
            return self.get_submodule(name)(x)[..., : size[0], : size[1]]
        enlarged = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
        return enlarged[..., : size[0], : size[1]]


@register_model("fcn8s_fixed")
class FCN8sFixed(FCN8s):
    """FCN-8s whose upsampling is bilinear and stays so.

    Args: see `VGG16Encoder`; the network is that of `FCN8s`.
    """

    learns_upsampling = False


@register_model("fcn8s_learnt")
class FCN8sLearnt(FCN8s):
    """FCN-8s whose upsampling begins bilinear and is trained.

    Args: see `VGG16Encoder`; the network is that of `FCN8s`.
    """

    learns_upsampling = True


def upsampling_layer(num_channels: int, factor: int) -> nn.ConvTranspose2d:
    """A trainable transposed convolution, (B, C, H, W) → (B, C, factor·H, factor·W), that begins as bilinear."""
    layer = nn.ConvTranspose2d(num_channels, num_channels, 2 * factor, stride=factor, padding=factor // 2, bias=False)
    layer.weight.data.copy_(bilinear_kernel(num_channels, factor))
    return layer


@register_model("deeplab_largefov")
class DeepLabLargeFOV(VGG16Encoder):
    """DeepLab-LargeFOV (Chen and others; arXiv 1412.7062): dilation in the place of the last two poolings.

    ```text
    pool1 … pool3 3×3 stride 2 → conv4 → pool4 3×3 stride 1 → conv5, dilation 2 → pool5 3×3 stride 1
      → fc6 3×3, dilation 12, 1024 → fc7 1×1 1024 → fc8 1×1 K → bilinear to (H, W)
    ```

    Scores are made at an eighth of the picture, 45×60 for 360×480 as in the paper. (Its sentence that the
    stride of pool3 was set to 1 would give 90×120 with these strides; the size it states is followed.) The
    conditional random field that can follow is not part of the network.

    Args: see `VGG16Encoder`.
    """

    def add_decoder(self) -> None:
        """Dilate conv5, make fc6, fc7 and the classifier."""
        for name, _ in ENCODER[4]:
            dilate(self.get_submodule(name), 2)
        self.add_unit("fc6", 512, 1024, 3)
        dilate(self.get_submodule("fc6"), 12)
        self.add_unit("fc7", 1024, 1024, 1)
        self.fc8 = convolution(1024, self.num_classes, 1)

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The maps of `forward_features`; from the third on at an eighth of the picture."""
        return [info._replace(reduction=min(info.reduction, 8)) for info in super().feature_info]

    def pool(self, x: Tensor, stage: int) -> tuple[Tensor, None]:
        """3×3 pooling; halves the first three maps, (B, C, H, W) → (B, C, ⌈H/2⌉, ⌈W/2⌉)."""
        return F.max_pool2d(x, 3, stride=2 if stage < 3 else 1, padding=1), None

    def encode(self, x: Tensor) -> tuple[Tensor, Size]:
        """(B, C, H, W) → (B, 512, ⌈H/8⌉, ⌈W/8⌉) and (H, W)."""
        return self.encode_stages(x, lambda full, pooled, places: None), size_of(x)

    def decode(self, features: Tensor, kept: Size) -> Tensor:
        """The deepest map and (H, W) → logits (B, num_classes, H, W)."""
        scores = self.fc8(self.wide("fc7", self.wide("fc6", features)))
        return F.interpolate(scores, kept, mode="bilinear", align_corners=False)


def dilate(layer: nn.Module, dilation: int) -> None:
    """Spread a 3×3 convolution's kernel; H and W stay."""
    assert isinstance(layer, nn.Conv2d)
    layer.dilation = layer.padding = (dilation, dilation)


DECONVOLUTIONS = (
    (("deconv5_1", 512), ("deconv5_2", 512), ("deconv5_3", 512)),
    (("deconv4_1", 512), ("deconv4_2", 512), ("deconv4_3", 256)),
    (("deconv3_1", 256), ("deconv3_2", 256), ("deconv3_3", 128)),
    (("deconv2_1", 128), ("deconv2_2", 64)),
    (("deconv1_1", 64), ("deconv1_2", 64)),
)
"""DeconvNet's decoder, deepest stage first."""


@register_model("deconvnet")
class DeconvNet(VGG16Encoder):
    """DeconvNet (Noh, Hong, Han; arXiv 1505.04366), its fully connected layers cut to 1024 channels as in section 4.

    ```text
    pool5 (512, ⌈H/32⌉, ⌈W/32⌉) → fc6 7×7 1024, no padding → fc7 1×1 1024 → fc6_deconv 7×7 512
      → [unpool → deconv 3×3 …] × 5 → seg_score 1×1 → logits (B, K, H, W)
    ```

    A deepest map of less than 7×7 (pictures below 193 pixels) is padded with zeros for fc6 and cut again. With
    1024 channels the weights take 328 MB; the paper's table has 877 MB, more than that cut leaves.

    Args: see `VGG16Encoder`.
    """

    def add_decoder(self) -> None:
        """Make fc6, fc7 and the deconvolutions."""
        self.add_unit("fc6", 512, 1024, 7)
        setattr(self.get_submodule("fc6"), "padding", (0, 0))  # noqa: B010 - a submodule is typed as a Module
        self.add_unit("fc7", 1024, 1024, 1)
        self.add_deconvolution("fc6_deconv", 1024, 512, 7, padding=0)
        channels = 512
        for name, out_channels in (unit for stage in DECONVOLUTIONS for unit in stage):
            self.add_deconvolution(name, channels, out_channels, 3, padding=1)
            channels = out_channels
        self.seg_score = convolution(channels, self.num_classes, 1)

    def add_deconvolution(self, name: str, in_channels: int, out_channels: int, kernel_size: int, padding: int) -> None:
        """Make a transposed convolution of stride 1 and its batch normalisation."""
        self.add_unit(name, in_channels, out_channels, kernel_size)
        layer = nn.ConvTranspose2d(in_channels, out_channels, kernel_size, padding=padding)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")  # of the transposed weight: fan-in
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
        self.add_module(name, layer)

    def encode(self, x: Tensor) -> tuple[Tensor, list[PoolingOffsets]]:
        """(B, C, H, W) → (B, 512, ⌈H/32⌉, ⌈W/32⌉) and the offsets of the five poolings."""
        kept: list[PoolingOffsets] = []
        return self.encode_stages(x, lambda full, pooled, offsets: kept.append(offsets)), kept

    def decode(self, features: Tensor, kept: Sequence[PoolingOffsets]) -> Tensor:
        """The deepest map and the offsets → logits (B, num_classes, H, W)."""
        H, W = size_of(features)
        x = F.pad(features, (0, max(7 - W, 0), 0, max(7 - H, 0)))
        x = self.apply_unit("fc6_deconv", self.wide("fc7", self.wide("fc6", x)))[..., :H, :W]
        for stage, offsets in zip(DECONVOLUTIONS, reversed(kept), strict=True):
            x = self.unpool(x, offsets)
            for name, _ in stage:
                x = self.apply_unit(name, x)
        return self.seg_score(x)


@register_model("vgg16_unet")
class VGG16UNet(VGG16Encoder):
    """A U-Net (Ronneberger, Fischer, Brox; arXiv 1505.04597) on VGG16's encoder, for today's reader; not in the paper.

    ```text
    conv5_3 (512, ⌈H/16⌉, ⌈W/16⌉), not pooled
      → [up_i 2×2 stride 2 → crop → concatenate the map of stage i before pooling → two units 3×3] × 4
      → conv_classifier 1×1 → logits (B, K, H, W)
    ```

    Decoder stages have as many channels as their encoder stages: 512, 256, 128, 64. Convolutions are padded,
    so that nothing is cropped but the row that odd sizes gain.

    Args: see `VGG16Encoder`; dropout acts on the deepest map.
    """

    def add_decoder(self) -> None:
        """Make the decoder's stages, deepest first."""
        channels = ENCODER[-1][-1][1]
        for stage in range(4, 0, -1):
            width = ENCODER[stage - 1][-1][1]
            self.add_module(f"up{stage}", nn.ConvTranspose2d(channels, width, 2, stride=2))
            self.add_unit(f"conv{stage}_1_D", 2 * width, width, 3)
            self.add_unit(f"conv{stage}_2_D", width, width, 3)
            channels = width
        self.conv_classifier = convolution(channels, self.num_classes, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, C, H, W) → conv5_3, (B, 512, ⌈H/16⌉, ⌈W/16⌉), and the maps of four stages before pooling."""
        maps: list[Tensor] = []
        x = self.run_stages(self.prepared(x), range(4), lambda full, pooled, places: maps.append(full))
        for name, _ in ENCODER[4]:
            x = self.apply_unit(name, x)
        return self.drop("wide", x), maps

    def decode(self, features: Tensor, kept: Sequence[Tensor]) -> Tensor:
        """conv5_3 and the encoder's maps → logits (B, num_classes, H, W)."""
        x = features
        for stage, encoder_map in zip(range(4, 0, -1), reversed(kept), strict=True):
            H, W = size_of(encoder_map)
            x = self.get_submodule(f"up{stage}")(x)[..., :H, :W]
            x = torch.cat((encoder_map, x), dim=1)
            for unit in (1, 2):
                x = self.apply_unit(f"conv{stage}_{unit}_D", x)
        return self.conv_classifier(x)


@register_model("segnet_int64_indices")
class SegNetInt64Indices(SegNet):
    """SegNet as most PyTorch versions have it: `max_pool2d`'s own int64 indices are kept, eight bytes a window.

    The same layers, weights and outputs as `segnet`; it is here to be measured beside it.

    Args: see `SegNet`.
    """

    def pool(self, x: Tensor, stage: int) -> tuple[Tensor, Any]:
        """(B, C, H, W) → (B, C, ⌈H/2⌉, ⌈W/2⌉), int64 indices and (H, W)."""
        pooled, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
        return pooled, (indices, size_of(x))

    def unpool(self, x: Tensor, places: Any) -> Tensor:
        """(B, C, ⌈H/2⌉, ⌈W/2⌉) → (B, C, H, W)."""
        indices, size = places
        height, width = size
        return F.max_unpool2d(x, indices, [2, 2], [2, 2], output_size=[height, width])
